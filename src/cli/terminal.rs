//! Text for people. Text that others wrote must not be able to control the terminal.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Returns text that is safe for a terminal: control characters, and those that change the
/// direction of writing, become escapes.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    out
}

/// Prints to standard output. A reader that closes the pipe is not an error.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints a line to standard error, with the program's name.
pub fn note(text: impl Display) {
    eprintln!("registry-grants: {text}");
}
