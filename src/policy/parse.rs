//! Reads the JSON of policy documents strictly enough to write it again without loss. Input that
//! serde_json would silently change (a duplicate key, a number that it cannot hold) is an error
//! here, and every error names its position.

use super::parse_error::{ParseError, characters};
use percent_encoding::percent_decode_str;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Maximum nesting depth of a document. A policy needs 6 levels; serde_json itself stops at 128.
const MAX_DEPTH: usize = 64;

/// Maximum length of a quotation from the document in an error message, which ends up in a status.
const MAX_QUOTED: usize = 64;

/// Reads a policy document's JSON: an object whose `Statement` is an object or a list of objects.
pub(super) fn read(text: &str) -> Result<Map<String, Value>, ParseError> {
    if text.starts_with('\u{feff}') {
        return Err(ParseError::at(
            text.as_bytes(),
            0,
            "the document begins with a byte order mark",
        ));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let document = Place {
        part: Part::Document,
        depth: 0,
    }
    .deserialize(&mut json);
    let value = document
        .and_then(|value| json.end().map(|()| value))
        .map_err(|error| unreadable(text, &error))?;
    numbers_survive(text)?;
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(ParseError::whole(Part::Document.demand())),
    }
}

fn unreadable(text: &str, error: &serde_json::Error) -> ParseError {
    let whole = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    let what = whole.strip_suffix(&position).unwrap_or(&whole);
    let problem = if error.is_data() {
        what.to_owned()
    } else {
        format!("not valid JSON: {what}")
    };
    // serde_json counts bytes, but the column in an error message counts characters.
    let line = text
        .split('\n')
        .nth(error.line().saturating_sub(1))
        .unwrap_or_default();
    let before = &line.as_bytes()[..error.column().min(line.len())];
    ParseError {
        line: error.line(),
        column: characters(before).max(1),
        problem,
    }
}

/// Part of the document that is being read. It determines the required JSON type.
#[derive(Clone, Copy)]
enum Part {
    Document,
    Statements,
    /// A statement, by its position in the list, from 1.
    Statement(usize),
    Anything,
}

impl Part {
    fn demand(self) -> String {
        match self {
            Self::Document => "a policy document must be a JSON object".into(),
            Self::Statements => "Statement must be an object or a list of objects".into(),
            Self::Statement(n) => format!("the {} statement must be a JSON object", ordinal(n)),
            Self::Anything => "a JSON value".into(),
        }
    }
}

/// Formats an ordinal number: 1st, 2nd, 3rd, 4th, 11th, 21st.
pub(super) fn ordinal(n: usize) -> String {
    let ending = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

/// A place in the document. Its content is deserialized as serde_json's own value.
#[derive(Clone, Copy)]
struct Place {
    part: Part,
    depth: usize,
}

impl Place {
    /// Returns the place one level deeper.
    fn inner<E: Error>(self, part: Part) -> Result<Self, E> {
        let depth = self.depth + 1;
        if depth > MAX_DEPTH {
            return Err(E::custom(format_args!(
                "nested more than {MAX_DEPTH} levels deep"
            )));
        }
        Ok(Self { part, depth })
    }

    fn scalar<E: Error>(self, value: impl Into<Value>) -> Result<Value, E> {
        match self.part {
            Part::Anything => Ok(value.into()),
            _ => Err(E::custom(self.part.demand())),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Place {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.part.demand())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let item = match self.part {
                Part::Anything => Part::Anything,
                Part::Statements => Part::Statement(list.len() + 1),
                Part::Document | Part::Statement(_) => {
                    return Err(A::Error::custom(self.part.demand()));
                }
            };
            match items.next_element_seed(self.inner(item)?)? {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        // A lone statement is printed as a list of one, which must not exceed the maximum depth
        // either.
        let place = match self.part {
            Part::Statements => self.inner(Part::Statement(1))?,
            _ => self,
        };
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!(
                    "the key {} occurs twice in one object",
                    quoted(&key)
                )));
            }
            let part = match self.part {
                Part::Document if key == "Statement" => Part::Statements,
                _ => Part::Anything,
            };
            let value = entries.next_value_seed(place.inner(part)?)?;
            map.insert(key, value);
        }
        match self.part {
            Part::Document if !map.contains_key("Statement") => {
                Err(A::Error::custom("the document has no Statement"))
            }
            _ => Ok(Value::Object(map)),
        }
    }
}

/// Quotes text of a document for an error message: on one line, and shortened if it is long.
fn quoted(text: &str) -> String {
    let cut = text.char_indices().nth(MAX_QUOTED).map(|(at, _)| at);
    let shown: String = text[..cut.unwrap_or(text.len())].escape_debug().collect();
    format!("\"{shown}{}\"", if cut.is_some() { "…" } else { "" })
}

/// Checks that every number in a text, which must be valid JSON, is printed again as the same
/// number. serde_json keeps 64-bit integers, and for other numbers the nearest float. Its feature
/// `arbitrary_precision` would keep all numbers, but that changes the number type for every other
/// crate in the build.
fn numbers_survive(text: &str) -> Result<(), ParseError> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let length = match byte {
            b'"' => string_length(&bytes[at..]),
            b'-' | b'0'..=b'9' => {
                let number = &text[at..at + number_length(&bytes[at..])];
                if !survives(number) {
                    let problem = format!(
                        "the number {} cannot be written back exactly",
                        quoted(number)
                    );
                    return Err(ParseError::at(text.as_bytes(), at, problem));
                }
                number.len()
            }
            _ => 1,
        };
        at += length;
    }
    Ok(())
}

/// Returns the length of the number that begins here.
fn number_length(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
        .count()
}

/// Returns the length of the JSON string that begins here, including its quotes.
fn string_length(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn survives(number: &str) -> bool {
    // 15 digits and a sign fit into 64 bits.
    if number.len() <= 15 && number.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    let Ok(read) = serde_json::from_str::<Number>(number) else {
        return false;
    };
    let printed = read.to_string();
    // The printed number must also be read as the same value: serde_json reads some floats one bit
    // off.
    let again = serde_json::from_str::<Number>(&printed).is_ok_and(|again| again == read);
    again && decimal(number).is_some_and(|exact| Some(exact) == decimal(&printed))
}

/// Splits a number into sign, significant digits and exponent, which are the same for every
/// notation.
fn decimal(number: &str) -> Option<(bool, String, i64)> {
    let (negative, number) = number
        .strip_prefix('-')
        .map_or((false, number), |number| (true, number));
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let without_zeros = digits.trim_start_matches('0');
    let significant = without_zeros.trim_end_matches('0');
    if significant.is_empty() {
        return Some((negative, String::new(), 0));
    }
    let zeros = i64::try_from(without_zeros.len() - significant.len()).ok()?;
    let shift = zeros - i64::try_from(fraction.len()).ok()?;
    Some((
        negative,
        significant.to_owned(),
        exponent.parse::<i64>().ok()?.checked_add(shift)?,
    ))
}

/// Decodes a percent-encoded text (RFC 3986, as IAM returns documents: a `+` stays a `+`). An
/// incomplete escape is an error, while `percent_decode_str` would keep it.
pub(super) fn percent_decoded(text: &str) -> Result<String, ParseError> {
    if let Some((at, _)) = text
        .match_indices('%')
        .find(|(at, _)| !is_escape(text, *at))
    {
        let escape: String = text[at..].chars().take(3).collect();
        return Err(ParseError::at(
            text.as_bytes(),
            at,
            format!("{} is not a percent-encoded byte", quoted(&escape)),
        ));
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|error| {
        ParseError::at(
            text.as_bytes(),
            encoded_offset(text, error.valid_up_to()),
            "the percent-encoded bytes here are not UTF-8",
        )
    })?;
    Ok(decoded.into_owned())
}

/// Returns whether two hexadecimal digits follow the `%` at this offset.
fn is_escape(text: &str, at: usize) -> bool {
    text.as_bytes()
        .get(at + 1..at + 3)
        .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

/// Returns the offset in the percent-encoded text of the decoded byte number `wanted`.
fn encoded_offset(text: &str, wanted: usize) -> usize {
    let mut at = 0;
    for _ in 0..wanted {
        at += if text.as_bytes().get(at) == Some(&b'%') {
            3
        } else {
            1
        };
    }
    at
}
