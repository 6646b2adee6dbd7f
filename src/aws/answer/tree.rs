//! The body of an answer as one kind of tree, whether AWS sent JSON or XML.

use serde_json::Value;
use std::collections::BTreeMap;
use xmlparser::{ElementEnd, Token, Tokenizer};

/// The maximum nesting depth. The deepest answer that the operator reads has six levels.
const DEEPEST: usize = 32;

/// A value in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// A text, a number or a boolean; an XML element without child elements.
    Text(String),
    /// A list; an XML element whose child elements are all called `member`.
    List(Vec<Self>),
    /// Fields by name.
    Fields(BTreeMap<String, Self>),
}

impl Tree {
    /// Reads a JSON document. `null` is the same as an absent field.
    pub fn of_json(body: &[u8]) -> Option<Self> {
        Self::of_value(serde_json::from_slice(body).ok()?, DEEPEST)
    }

    fn of_value(value: Value, deepest: usize) -> Option<Self> {
        let deepest = deepest.checked_sub(1)?;
        Some(match value {
            Value::Null => return None,
            Value::Bool(value) => Self::Text(value.to_string()),
            Value::Number(value) => Self::Text(value.to_string()),
            Value::String(value) => Self::Text(value),
            Value::Array(items) => {
                let trees = items.into_iter().map(|item| Self::of_value(item, deepest));
                Self::List(trees.collect::<Option<_>>()?)
            }
            Value::Object(fields) => {
                let trees = fields
                    .into_iter()
                    .filter(|(_, value)| !value.is_null())
                    .map(|(name, value)| Some((name, Self::of_value(value, deepest)?)));
                Self::Fields(trees.collect::<Option<_>>()?)
            }
        })
    }

    /// Reads an XML document: returns the name and the content of its root element.
    pub fn of_xml(body: &[u8]) -> Option<(String, Self)> {
        let mut open = Vec::<Element>::new();
        let mut root = None;
        for token in Tokenizer::from(std::str::from_utf8(body).ok()?) {
            let ended = match token.ok()? {
                Token::ElementStart { local, .. } if root.is_none() && open.len() < DEEPEST => {
                    open.push(Element {
                        name: local.as_str().to_owned(),
                        ..Element::default()
                    });
                    continue;
                }
                Token::ElementStart { .. } => return None,
                Token::ElementEnd {
                    end: ElementEnd::Open,
                    ..
                } => continue,
                Token::ElementEnd {
                    end: ElementEnd::Empty,
                    ..
                } => open.pop()?,
                Token::ElementEnd {
                    end: ElementEnd::Close(_, name),
                    ..
                } => open.pop().filter(|element| element.name == name.as_str())?,
                Token::Text { text } => {
                    if let Some(element) = open.last_mut() {
                        element.text.push_str(&unescaped(text.as_str()));
                    }
                    continue;
                }
                Token::Cdata { text, .. } => {
                    open.last_mut()?.text.push_str(text.as_str());
                    continue;
                }
                _ => continue,
            };
            match open.last_mut() {
                Some(around) => around.elements.push(ended.named()),
                None => root = Some(ended.named()),
            }
        }
        root.filter(|_| open.is_empty())
    }

    /// Returns the field of this name.
    pub fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Fields(fields) => fields.get(name),
            Self::Text(_) | Self::List(_) => None,
        }
    }
}

/// An XML element that is being read.
#[derive(Default)]
struct Element {
    name: String,
    text: String,
    elements: Vec<(String, Tree)>,
}

impl Element {
    fn named(self) -> (String, Tree) {
        let Self {
            name,
            text,
            elements,
        } = self;
        let tree = if elements.is_empty() {
            Tree::Text(text.trim().to_owned())
        } else if elements.iter().all(|(name, _)| name == "member") {
            Tree::List(elements.into_iter().map(|(_, item)| item).collect())
        } else {
            Tree::Fields(elements.into_iter().collect())
        };
        (name, tree)
    }
}

/// Decodes the character references of a text. An unknown one stays as it is, so that the text does
/// not equal any parameter of the request.
fn unescaped(text: &str) -> String {
    let mut pieces = text.split('&');
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece
            .split_once(';')
            .and_then(|(name, rest)| Some((character(name)?, rest)))
        {
            Some((character, rest)) => {
                whole.push(character);
                whole.push_str(rest);
            }
            None => {
                whole.push('&');
                whole.push_str(piece);
            }
        }
    }
    whole
}

fn character(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}
