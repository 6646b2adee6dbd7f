//! Texts for people.

use std::error::Error;

/// Joins the first `limit` texts with `separator`. If there are more, the result of `rest` for
/// their number follows.
pub fn list_some<T: AsRef<str>>(
    texts: impl IntoIterator<Item = T>,
    limit: usize,
    separator: &str,
    rest: impl FnOnce(usize) -> String,
) -> String {
    let mut list = String::new();
    let mut more = 0;
    for (at, text) in texts.into_iter().enumerate() {
        if at >= limit {
            more += 1;
            continue;
        }
        if at > 0 {
            list.push_str(separator);
        }
        list.push_str(text.as_ref());
    }
    if more > 0 {
        list.push_str(&rest(more));
    }
    list
}

/// Limits a text to `longest` characters. A longer text is cut, and ends with an ellipsis.
pub fn truncate(mut text: String, longest: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(longest) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Returns an error's message, followed by the messages of its causes that add to it.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::none(&[], "")]
    #[case::one(&["a"], "a")]
    #[case::as_many_as_fit(&["a", "b"], "a; b")]
    #[case::one_more(&["a", "b", "c"], "a; b and 1 more")]
    #[case::many_more(&["a", "b", "c", "d", "e"], "a; b and 3 more")]
    fn list_names_the_first_texts_and_counts_the_rest(
        #[case] texts: &[&str],
        #[case] expected: &str,
    ) {
        let list = list_some(texts, 2, "; ", |more| format!(" and {more} more"));
        assert_eq!(list, expected);
    }

    #[rstest]
    #[case::short("abc", "abc")]
    #[case::long("abcd", "abc…")]
    #[case::characters_count("äöü", "äöü")]
    #[case::no_character_is_split("äöüß", "äöü…")]
    fn longer_text_ends_with_an_ellipsis(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(truncate(text.to_owned(), 3), expected);
    }
}
