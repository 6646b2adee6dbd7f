//! Lists in pages.

use super::super::answer::Xml;
use super::super::world::Run;

/// Items on a page unless the caller asks for another number.
const DEFAULT: usize = 100;

/// A page of a list.
pub(super) struct Page<T> {
    pub items: Vec<T>,
    /// The marker of the next page, if there is one.
    next: Option<String>,
}

impl<T> Page<T> {
    /// Takes a page of items that begin after the marker.
    pub fn of(run: &Run<'_>, items: impl Iterator<Item = (String, T)>) -> Self {
        let asked = run.call.parameters.number("MaxItems");
        let asked = asked.map_or(DEFAULT, |asked| usize::try_from(asked).unwrap_or(DEFAULT));
        let size = asked.min(run.core.settings.page).max(1);
        let mut page = Vec::with_capacity(size.min(64));
        let mut last = String::new();
        for (key, item) in items {
            if page.len() == size {
                return Self {
                    items: page,
                    next: Some(last),
                };
            }
            page.push(item);
            last = key;
        }
        Self {
            items: page,
            next: None,
        }
    }

    /// Appends what says whether there are more pages.
    pub fn end(&self, xml: &mut Xml) {
        xml.value("IsTruncated", self.next.is_some());
        if let Some(next) = &self.next {
            xml.text("Marker", next);
        }
    }
}

/// Returns the name after which the page begins.
pub(super) fn marker(run: &Run<'_>) -> String {
    run.text("Marker").to_owned()
}

/// Returns the items of a sorted list that come after the marker.
pub(super) fn after_marker<'a, T>(
    run: &Run<'_>,
    items: impl Iterator<Item = (&'a str, T)>,
) -> impl Iterator<Item = (String, T)> {
    let marker = marker(run);
    items
        .skip_while(move |(key, _)| *key <= marker.as_str() && !marker.is_empty())
        .map(|(key, item)| (key.to_owned(), item))
}
