//! Condition values that are more than strings: numbers, dates and addresses.

use core::net::IpAddr;
use std::cmp::Ordering;

/// Compares two numbers in text form (integers or decimals). Returns `None` if one of them is not a
/// number.
pub(super) fn compare_numbers(one: &str, other: &str) -> Option<Ordering> {
    match (one.parse::<i128>(), other.parse::<i128>()) {
        (Ok(one), Ok(other)) => Some(one.cmp(&other)),
        _ => decimal(one)?.partial_cmp(&decimal(other)?),
    }
}

/// Parses a decimal number. Rejects `inf` and `NaN`, which Rust would accept.
pub(super) fn decimal(text: &str) -> Option<f64> {
    let digits = text.bytes().any(|b| b.is_ascii_digit());
    let decimal = text
        .bytes()
        .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    (digits && decimal).then(|| text.parse().ok()).flatten()
}

/// Parses a point in time, in nanoseconds since 1970: a date in the W3C profile of ISO 8601 (from a
/// year alone to fractions of a second), or seconds since 1970. Source:
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html#Conditions_Date>.
pub(super) fn date(text: &str) -> Option<i128> {
    const SECOND: i128 = 1_000_000_000;
    // Four digits are a year; in this century, seconds since 1970 have more digits.
    if text.len() != 4 && text.bytes().all(|b| b.is_ascii_digit()) {
        return text
            .parse::<i64>()
            .ok()
            .map(|seconds| i128::from(seconds) * SECOND);
    }
    let (day, time) = match text.split_once(['T', 't']) {
        Some((day, time)) => (day, Some(time)),
        None => (text, None),
    };
    let mut parts = day.split('-');
    let (year, month, day) = (digits(parts.next()?, 4)?, parts.next(), parts.next());
    if parts.next().is_some() {
        return None;
    }
    let month = month
        .map_or(Some(1), |month| digits(month, 2))
        .filter(|month| (1..=12).contains(month))?;
    let day = day
        .map_or(Some(1), |day| digits(day, 2))
        .filter(|day| (1..=days_in(year, month)).contains(day))?;
    let midnight = i128::from(days_since_1970(year, month, day)) * 86_400 * SECOND;
    time.map_or(Some(0), time_of_day)
        .map(|time| midnight + time)
}

/// Parses the time since midnight in UTC, in nanoseconds, from `12:30Z`, `12:30:00.5+01:00` and the
/// like.
fn time_of_day(text: &str) -> Option<i128> {
    let zone_at = text.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = text.split_at(zone_at);
    let offset = match zone.split_at(1) {
        ("Z" | "z", "") => 0,
        (sign @ ("+" | "-"), zone) => {
            let (hours, minutes) = zone.split_once(':').or_else(|| zone.split_at_checked(2))?;
            let minutes = digits(hours, 2)? * 60 + digits(minutes, 2)?;
            if sign == "+" { minutes } else { -minutes }
        }
        _ => return None,
    };
    let mut parts = clock.split(':');
    let (hours, minutes) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let (seconds, fraction) = match parts.next() {
        Some(seconds) => seconds
            .split_once('.')
            .map_or((seconds, None), |(whole, fraction)| (whole, Some(fraction))),
        None => ("00", None),
    };
    let seconds = digits(seconds, 2)?;
    if parts.next().is_some() || hours > 24 || minutes > 59 || seconds > 60 {
        return None;
    }
    let nanoseconds = match fraction {
        Some(fraction) if (1..=9).contains(&fraction.len()) => {
            digits(&format!("{fraction:0<9}"), 9)?
        }
        Some(_) => return None,
        None => 0,
    };
    let seconds = i128::from(hours * 3_600 + (minutes - offset) * 60 + seconds);
    Some(seconds * 1_000_000_000 + i128::from(nanoseconds))
}

/// Parses a number of exactly `count` digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    let fits = text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the days since 1970 in the Gregorian calendar. Years are counted from March, so that the
/// leap day is the last day.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let days_before_month = (153 * ((month + 9) % 12) + 2) / 5;
    year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + days_before_month
        + day
        - 719_469
}

/// A range of IP addresses, used only as a value: no connection is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Parses `203.0.113.0/24`, `2001:db8::/32`, or a single address. Source:
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html#Conditions_IPAddress>.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => {
                digits(prefix, prefix.len()).and_then(|prefix| u32::try_from(prefix).ok())?
            }
            None => longest,
        };
        (prefix <= longest).then_some(Self { address, prefix })
    }

    pub(super) fn contains(&self, address: &str) -> bool {
        let begins = |one: u128, other: u128, width: u32| {
            self.prefix == 0 || (one ^ other) >> (width - self.prefix.min(width)) == 0
        };
        match (self.address, address.parse()) {
            (IpAddr::V4(own), Ok(IpAddr::V4(other))) => {
                begins(own.to_bits().into(), other.to_bits().into(), 32)
            }
            (IpAddr::V6(own), Ok(IpAddr::V6(other))) => begins(own.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }
}
