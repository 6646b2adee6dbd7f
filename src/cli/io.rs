//! Files and standard input.

use super::terminal::plain;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// Returns true if the path stands for standard input.
pub fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Returns the path's name for people, without control characters.
pub fn name(path: &Path) -> String {
    if is_stdin(path) {
        "standard input".into()
    } else {
        plain(&path.display().to_string())
    }
}

/// Reads a file, or standard input, but at most one byte more than the limit. The input may be
/// endless, and the extra byte shows that the limit is exceeded.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if is_stdin(path) {
        io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Writes a file into the folder that `--output-dir` names, which is created if it is missing.
pub fn write_into(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    let file = folder.join(name);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&file, text))
        .map_err(|error| format!("--output-dir: {}: {error}", file.display()))
}
