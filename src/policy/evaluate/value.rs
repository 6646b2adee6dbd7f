//! Condition values that are more than strings: numbers, dates and addresses.

use core::net::IpAddr;
use ipnet::IpNet;
use jiff::civil::Date;
use std::cmp::Ordering;
use std::str::FromStr;

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
    const EPOCH: Date = Date::constant(1970, 1, 1);
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
    let year = digits(parts.next()?, 4)?;
    let month = parts.next().map_or(Some(1), |month| digits(month, 2))?;
    let day = parts.next().map_or(Some(1), |day| digits(day, 2))?;
    if parts.next().is_some() {
        return None;
    }
    let date = Date::new(year, month, day).ok()?;
    let midnight = date.duration_since(EPOCH).as_nanos();
    time.map_or(Some(0), time_of_day)
        .map(|time| midnight + time)
}

/// Parses the time since midnight in UTC, in nanoseconds, from `12:30Z`, `12:30:00.5+01:00` and the
/// like. It is read by hand, because 24:00, leap seconds and wide offsets are accepted here.
fn time_of_day(text: &str) -> Option<i128> {
    let zone_at = text.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = text.split_at(zone_at);
    let offset = offset_in_minutes(zone)?;
    let mut parts = clock.split(':');
    let hours: i64 = digits(parts.next()?, 2)?;
    let minutes: i64 = digits(parts.next()?, 2)?;
    let (seconds, nanoseconds) = match parts.next() {
        Some(seconds) => seconds_and_fraction(seconds)?,
        None => (0, 0),
    };
    if parts.next().is_some() || hours > 24 || minutes > 59 || seconds > 60 {
        return None;
    }
    let whole = i128::from(hours * 3_600 + (minutes - offset) * 60 + seconds);
    Some(whole * 1_000_000_000 + i128::from(nanoseconds))
}

/// Parses a time zone: `Z`, `+01:00` or `+0100`.
fn offset_in_minutes(zone: &str) -> Option<i64> {
    match zone.split_at(1) {
        ("Z" | "z", "") => Some(0),
        (sign @ ("+" | "-"), zone) => {
            let (hours, minutes) = zone.split_once(':').or_else(|| zone.split_at_checked(2))?;
            let offset = digits::<i64>(hours, 2)? * 60 + digits::<i64>(minutes, 2)?;
            Some(if sign == "+" { offset } else { -offset })
        }
        _ => None,
    }
}

/// Parses `05` or `05.25` into seconds and nanoseconds. A fraction has at most nine digits.
fn seconds_and_fraction(text: &str) -> Option<(i64, i64)> {
    match text.split_once('.') {
        Some((_, "")) => None,
        Some((seconds, fraction)) => {
            Some((digits(seconds, 2)?, digits(&format!("{fraction:0<9}"), 9)?))
        }
        None => Some((digits(text, 2)?, 0)),
    }
}

/// Parses a number of exactly `count` digits.
fn digits<T: FromStr>(text: &str, count: usize) -> Option<T> {
    let fits = text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

/// A range of IP addresses, used only as a value: no connection is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network(IpNet);

impl Network {
    /// Parses `203.0.113.0/24`, `2001:db8::/32`, or a single address. Source:
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html#Conditions_IPAddress>.
    pub(super) fn read(text: &str) -> Option<Self> {
        let Some((address, length)) = text.split_once('/') else {
            return text.parse::<IpAddr>().ok().map(|one| Self(one.into()));
        };
        let bits = digits(length, length.len())?;
        IpNet::new(address.parse().ok()?, bits).ok().map(Self)
    }

    pub(super) fn contains(&self, address: &str) -> bool {
        address
            .parse::<IpAddr>()
            .is_ok_and(|address| self.0.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const DAY: i128 = 86_400 * 1_000_000_000;

    #[rstest]
    #[case::year("1970", Some(0))]
    #[case::first_year("0000", Some(-719_528 * DAY))]
    #[case::last_year("9999-12-31T23:59:59Z", Some(2_932_897 * DAY - 1_000_000_000))]
    #[case::month("1970-02", Some(31 * DAY))]
    #[case::month_with_time("1970-02T00:00Z", Some(31 * DAY))]
    #[case::leap_day("2000-02-29", Some(11_016 * DAY))]
    #[case::no_leap_day("1900-02-29", None)]
    #[case::day_31_of_30("2026-04-31", None)]
    #[case::day_zero("2026-01-00", None)]
    #[case::month_13("2026-13-01", None)]
    #[case::one_digit_month("2026-1-01", None)]
    #[case::two_digit_year("26-01-01", None)]
    #[case::negative_year("-2026-01-01", None)]
    #[case::signed_month("2026-+1-01", None)]
    #[case::four_parts("2026-01-01-01", None)]
    #[case::hour_24("1970-01-01T24:00Z", Some(DAY))]
    #[case::hour_24_and_more("1970-01-01T24:59:60Z", Some(DAY + 3_600 * 1_000_000_000))]
    #[case::hour_25("1970-01-01T25:00Z", None)]
    #[case::minute_60("1970-01-01T00:60Z", None)]
    #[case::leap_second("1970-01-01T23:59:60Z", Some(DAY))]
    #[case::second_61("1970-01-01T23:59:61Z", None)]
    #[case::small_letters("1970-01-01t00:00z", Some(0))]
    #[case::wide_offset("1970-01-05T00:00-99:99", Some(4 * DAY + (99 * 60 + 99) * 60_000_000_000))]
    #[case::offset_without_colon("1970-01-01T01:00+0100", Some(0))]
    #[case::short_offset("1970-01-01T01:00+01", None)]
    #[case::no_zone("1970-01-01T00:00", None)]
    #[case::fraction("1970-01-01T00:00:00.5Z", Some(500_000_000))]
    #[case::ten_digits_of_fraction("1970-01-01T00:00:00.0123456789Z", None)]
    #[case::empty_fraction("1970-01-01T00:00:00.Z", None)]
    #[case::seconds("1700000000", Some(1_700_000_000_000_000_000))]
    #[case::five_digits_are_seconds("99999", Some(99_999_000_000_000))]
    #[case::too_many_seconds("99999999999999999999", None)]
    #[case::empty("", None)]
    #[case::spaces(" 1970", None)]
    fn date_in_each_form_is_read_or_refused(#[case] text: &str, #[case] nanoseconds: Option<i128>) {
        assert_eq!(date(text), nanoseconds);
    }

    #[rstest]
    #[case::ipv4("203.0.113.0/24", "203.0.113.255", Some(true))]
    #[case::beside_it("203.0.113.0/24", "203.0.114.0", Some(false))]
    #[case::host_bits_set("203.0.113.7/24", "203.0.113.1", Some(true))]
    #[case::single("203.0.113.7", "203.0.113.7", Some(true))]
    #[case::all("0.0.0.0/0", "255.255.255.255", Some(true))]
    #[case::all_of_ipv6("::/0", "203.0.113.7", Some(false))]
    #[case::ipv6("2001:db8::/33", "2001:db8:7fff::1", Some(true))]
    #[case::beside_it_in_ipv6("2001:db8::/33", "2001:db8:8000::1", Some(false))]
    #[case::mapped("::ffff:203.0.113.0/120", "203.0.113.7", Some(false))]
    #[case::leading_zeros("203.0.113.0/0024", "203.0.113.7", Some(true))]
    #[case::zeros_in_address("203.00.113.0/24", "203.0.113.7", None)]
    #[case::signed_length("203.0.113.0/+24", "203.0.113.7", None)]
    #[case::empty_length("203.0.113.0/", "203.0.113.7", None)]
    #[case::length_33("203.0.113.0/33", "203.0.113.7", None)]
    #[case::length_129("2001:db8::/129", "2001:db8::1", None)]
    #[case::length_280("203.0.113.0/280", "203.0.113.7", None)]
    #[case::two_lengths("203.0.113.0/24/24", "203.0.113.7", None)]
    #[case::mask("203.0.113.0/255.255.255.0", "203.0.113.7", None)]
    #[case::zone("fe80::1%eth0/64", "fe80::1", None)]
    #[case::range_for_address("203.0.113.0/24", "203.0.113.7/32", Some(false))]
    #[case::no_address("203.0.113.0/24", "", Some(false))]
    fn network_in_each_form_is_read_or_refused(
        #[case] network: &str,
        #[case] address: &str,
        #[case] contains: Option<bool>,
    ) {
        let read = Network::read(network).map(|network| network.contains(address));
        assert_eq!(read, contains);
    }
}
