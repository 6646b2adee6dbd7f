//! Parsing: accepts every form that IAM and ECR return, and no document that could not be written
//! again.

use crate::policy::Document;
use crate::policy::document::MAX_BYTES;
use rstest::rstest;

fn error(text: &str) -> String {
    Document::parse(text).unwrap_err().to_string()
}

#[rstest]
#[case::nothing("", "line 1, column 1: not valid JSON: EOF while parsing a value")]
#[case::not_json(
    "{\"Statement\": [",
    "line 1, column 15: not valid JSON: EOF while parsing a list"
)]
#[case::truncated(
    "{\"Statement\":\n [{\"Sid\":\"é",
    "line 2, column 11: not valid JSON: EOF while parsing a string"
)]
#[case::columns_are_characters("{\"é\": x", "line 1, column 7: not valid JSON: expected value")]
#[case::trailing_garbage(
    "{\"Statement\":[]}\n;",
    "line 2, column 1: not valid JSON: trailing characters"
)]
#[case::two_documents(
    "{\"Statement\":[]}{\"Statement\":[]}",
    "line 1, column 17: not valid JSON: trailing characters"
)]
#[case::byte_order_mark(
    "\u{feff}{\"Statement\":[]}",
    "line 1, column 1: the document begins with a byte order mark"
)]
#[case::lone_surrogate(
    r#"{"Statement":[{"Sid":"\ud800"}]}"#,
    "line 1, column 29: not valid JSON: unexpected end of hex escape"
)]
#[case::no_escape(
    r#"{"Statement":[{"Sid":"\x41"}]}"#,
    "line 1, column 24: not valid JSON: invalid escape"
)]
#[case::a_list("[]", "line 1, column 2: a policy document must be a JSON object")]
#[case::null("null", "line 1, column 4: a policy document must be a JSON object")]
#[case::no_statement("{}", "line 1, column 2: the document has no Statement")]
#[case::statement_is_text(
    r#"{"Statement":"x"}"#,
    "line 1, column 16: Statement must be an object or a list of objects"
)]
#[case::a_statement_is_text(
    "{\"Statement\":[{},\n\"x\",\n{}]}",
    "line 2, column 3: the 2nd statement must be a JSON object"
)]
#[case::a_statement_is_a_list(
    r#"{"Statement":[[]]}"#,
    "line 1, column 16: the 1st statement must be a JSON object"
)]
fn unreadable_document_gives_position_and_reason(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(error(text), expected);
}

/// serde_json by itself would keep the last one, and a foreign statement would be changed when it
/// is written.
#[rstest]
#[case::in_the_document(
    r#"{"Version":"2012-10-17","Statement":[],"Version":"x"}"#,
    "line 1, column 48: the key \"Version\""
)]
#[case::statement(
    r#"{"Statement":[{"Effect":"Deny"}],"Statement":[]}"#,
    "line 1, column 44: the key \"Statement\""
)]
#[case::in_a_statement(
    "{\"Statement\":[{\"Sid\":\"a\",\n\"Sid\":\"a\"}]}",
    "line 2, column 5: the key \"Sid\""
)]
#[case::in_a_condition(
    r#"{"Statement":{"Condition":{"Bool":{"k":"a","k":"b"}}}}"#,
    "line 1, column 46: the key \"k\""
)]
#[case::in_something_unknown(
    r#"{"Odd":[{"a":1,"a":1}],"Statement":[]}"#,
    "line 1, column 18: the key \"a\""
)]
#[case::by_an_escape(
    r#"{"Statement":[{"Sid":"a","\u0053id":"b"}]}"#,
    "line 1, column 35: the key \"Sid\""
)]
fn duplicate_key_is_an_error(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(
        error(text),
        format!("{expected} occurs twice in one object")
    );
}

#[test]
fn error_quotes_only_the_beginning_of_the_text() {
    let key = "line\n at line 7 column 7".to_owned() + &"x".repeat(10_000);
    let text = serde_json::json!({ "Statement": {} })
        .to_string()
        .replace("{}", "{\"K\":1,\"K\":2}");
    let text = text.replace("\"K\"", &serde_json::Value::from(key).to_string());
    let error = error(&text);
    assert!(
        error.len() < 250 && error.contains("\"line\\n at line 7") && error.contains('…'),
        "{error}"
    );
    assert!(error.starts_with("line 1, column 20"), "{error}");
}

#[rstest]
#[case::an_integer_over_64_bits("123456789012345678901234567890")]
#[case::an_integer_that_a_float_rounds("18446744073709551617")]
#[case::more_digits_than_a_float_has("0.12345678901234567890")]
#[case::too_small("1e-400")]
#[case::nearly_too_small("1.2345678901234e-320")]
#[case::a_hostile_exponent("1e-99999999999999999999")]
fn number_that_would_change_is_an_error(#[case] number: &str) {
    let text = format!("{{\"Statement\":[],\n\"Odd\":[{number}]}}");
    assert_eq!(
        error(&text),
        format!("line 2, column 8: the number \"{number}\" cannot be written back exactly")
    );
}

#[test]
fn number_beyond_every_float_is_an_error() {
    assert!(error(r#"{"Statement":[],"Odd":1e400}"#).contains("number out of range"));
}

#[rstest]
#[case("0")]
#[case("-1")]
#[case("18446744073709551615")]
#[case("-9223372036854775808")]
#[case("1.5")]
#[case("0.1")]
#[case("1.0")]
fn numbers_that_survive_are_kept(#[case] number: &str) {
    let text = format!("{{\"Odd\":{number},\"Statement\":[]}}");
    assert_eq!(Document::parse(&text).unwrap().to_string(), text);
}

/// The same number in another notation.
#[rstest]
#[case("1e3", "1000.0")]
#[case("1.50", "1.5")]
#[case("-0", "-0.0")]
#[case("0e9999999999", "0.0")]
fn number_may_be_printed_with_other_digits(#[case] number: &str, #[case] printed: &str) {
    let document = Document::parse(&format!("{{\"Odd\":{number},\"Statement\":[]}}")).unwrap();
    assert_eq!(
        document.to_string(),
        format!("{{\"Odd\":{printed},\"Statement\":[]}}")
    );
}

#[test]
fn digits_in_a_string_are_not_a_number() {
    let text = r#"{"Odd\"":"\\\" 123456789012345678901234567890","Statement":[]}"#;
    assert_eq!(Document::parse(text).unwrap().to_string(), text);
}

#[rstest]
#[case::lists("[")]
#[case::objects("{\"a\":")]
fn deep_nesting_is_an_error(#[case] level: &str) {
    let hostile = format!("{{\"Statement\":[],\"Odd\":{}", level.repeat(100_000));
    assert!(
        error(&hostile).contains("nested more than 64 levels deep"),
        "{}",
        error(&hostile)
    );
}

#[test]
fn deepest_lone_statement_is_readable_when_printed_in_a_list() {
    let nested = |levels: usize| {
        format!(
            "{{\"Statement\":{{\"Odd\":{}{}}}}}",
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    let deepest = (1..100)
        .take_while(|levels| Document::parse(&nested(*levels)).is_ok())
        .last()
        .unwrap();
    assert_eq!(deepest, 61);
    let document = Document::parse(&nested(deepest)).unwrap();
    assert_eq!(Document::parse(&document.to_string()).unwrap(), document);
}

#[test]
fn text_of_megabytes_is_rejected_unread() {
    let text = " ".repeat(MAX_BYTES + 1);
    assert_eq!(
        error(&text),
        "the document has 1048577 bytes, more than the limit of 1048576"
    );
    assert!(error(&text[1..]).contains("EOF"));
}

#[test]
fn unknown_elements_are_kept() {
    let text = r#"{"Id":"x","Statement":[{"Effect":"Deny","NotPrincipal":{"AWS":"*"},"Odd":[1,{"a":null}]}],"Version":"2008-10-17"}"#;
    assert_eq!(Document::parse(text).unwrap().to_string(), text);
}

#[test]
fn percent_encoded_document_is_decoded_as_iam_encodes_it() {
    // A `+` is not a space: IAM encodes according to RFC 3986.
    // https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetRolePolicy.html
    let encoded = "%7B%22Statement%22%3A%5B%7B%22Sid%22%3A%22a+b%20%C3%A9%25%22%7D%5D%7d";
    let document = Document::parse(encoded).unwrap();
    assert_eq!(document.statements[0].sid_text(), Some("a+b é%"));
    assert_eq!(
        Document::parse(&format!(" \n%0A{encoded}")).unwrap(),
        document
    );
}

#[test]
fn percent_sign_in_a_plain_document_is_literal() {
    let text = r#"{"Statement":[{"Sid":"%7B%zz"}]}"#;
    assert_eq!(Document::parse(text).unwrap().to_string(), text);
}

#[rstest]
#[case::no_digits("%7B%zz", "line 1, column 4: \"%zz\" is not a percent-encoded byte")]
#[case::truncated("%7B\n%2", "line 2, column 1: \"%2\" is not a percent-encoded byte")]
#[case::not_hexadecimal("%7B%é2", "line 1, column 4: \"%é2\" is not a percent-encoded byte")]
#[case::not_utf8(
    "%7B%22é%22%C3%28",
    "line 1, column 11: the percent-encoded bytes here are not UTF-8"
)]
#[case::twice("%257B%257D", "line 1, column 1: not valid JSON: expected value")]
#[case::byte_order_mark(
    "%EF%BB%BF%7B%7D",
    "line 1, column 1: the document begins with a byte order mark"
)]
fn malformed_percent_encoding_is_an_error(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(error(text), expected);
}

#[test]
fn invalid_utf8_is_an_error() {
    let error = Document::parse_bytes(b"{\"Statement\":[]\n,\"\xc3\xa9\":\"\xff\"}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2, column 7: the document is not UTF-8 here"
    );
    assert!(Document::parse_bytes(b"{\"Statement\":[]}").is_ok());
}
