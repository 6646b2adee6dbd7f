//! The reason why a text is not a policy document, with its position.

/// The reason why a text is not a policy document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", self.position())]
pub struct ParseError {
    /// Line in the text, from 1; for a percent-encoded document, in the decoded text. 0 if the
    /// error concerns the entire text.
    pub line: usize,
    /// Column in that line, in characters from 1; 0 if the error concerns the entire text.
    pub column: usize,
    /// Description of the error.
    pub problem: String,
}

impl ParseError {
    pub(super) fn whole(problem: impl Into<String>) -> Self {
        Self {
            line: 0,
            column: 0,
            problem: problem.into(),
        }
    }

    /// Creates an error at an offset in bytes.
    pub(super) fn at(text: &[u8], offset: usize, problem: impl Into<String>) -> Self {
        let before = &text[..offset.min(text.len())];
        let line_begins = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |newline| newline + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Self {
            line,
            column: characters(&before[line_begins..]) + 1,
            problem: problem.into(),
        }
    }

    fn position(&self) -> String {
        match self.line {
            0 => String::new(),
            line => format!("line {line}, column {}: ", self.column),
        }
    }
}

/// Counts the UTF-8 characters that begin in these bytes.
pub(super) fn characters(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .filter(|byte| **byte & 0b1100_0000 != 0b1000_0000)
        .count()
}
