//! From a file to a configuration.

use super::mistake::Mistake;
use super::model::Config;
use super::parse::parse;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The most that a file may hold: 1 MiB.
pub const MAX_BYTES: u64 = 1 << 20;

/// Why a file gives no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// There is no text to be had from it.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why, and what to do: the rest of a sentence that the path begins.
        reason: String,
    },
    /// Its text is wrong.
    Mistaken {
        /// The file.
        path: PathBuf,
        /// All that is wrong with it, in the order of the text; at least one.
        mistakes: Vec<Mistake>,
    },
}

impl fmt::Display for LoadError {
    /// As compilers do it: `file.toml:12:5: service[0].port: ...`, one line for each mistake.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Unreadable { path, reason } => write!(f, "{} {reason}", path.display()),
            LoadError::Mistaken { path, mistakes } => {
                for (index, mistake) in mistakes.iter().enumerate() {
                    let end_of_last = if index == 0 { "" } else { "\n" };
                    write!(f, "{end_of_last}{}:{mistake}", path.display())?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// The configuration in the file at `path`.
///
/// # Errors
/// Where the file is missing, is not to be read, is a directory, is larger than [`MAX_BYTES`] or is not UTF-8, or
/// where [`parse`] refuses its text.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    let unreadable = |reason| LoadError::Unreadable { path: path.to_owned(), reason };
    let text = read(path).map_err(unreadable)?;
    parse(&text).map_err(|mistakes| LoadError::Mistaken { path: path.to_owned(), mistakes })
}

fn read(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| because(&error))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| because(&error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!(
            "is larger than {MAX_BYTES} bytes (1 MiB), the most that a configuration may have"
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count();
        format!("is not UTF-8 on line {line}: save it as UTF-8")
    })
}

fn because(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist: name the configuration file".into(),
        io::ErrorKind::PermissionDenied => {
            "may not be read: run as root, or allow this user to read it".into()
        }
        io::ErrorKind::IsADirectory => "is a directory: name the configuration file in it".into(),
        _ => format!("cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn refusal(path: &Path) -> String {
        load(path).expect_err("it should be refused").to_string()
    }

    #[test]
    fn files_that_give_no_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shedder.toml");
        assert_eq!(refusal(&path), format!("{} does not exist: name the configuration file", path.display()));
        let directory = refusal(dir.path());
        assert!(directory.ends_with("is a directory: name the configuration file in it"), "{directory}");
        fs::write(&path, b"lease = \"2s\"\nmode = \"\xff\"\n").unwrap();
        assert_eq!(refusal(&path), format!("{} is not UTF-8 on line 2: save it as UTF-8", path.display()));
    }

    #[test]
    fn the_largest_file_and_one_byte_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shedder.toml");
        let mut bytes = vec![b'#'; MAX_BYTES as usize];
        fs::write(&path, &bytes).unwrap();
        assert_eq!(load(&path), Ok(Config::default()));
        bytes.push(b'#');
        fs::write(&path, &bytes).unwrap();
        assert!(refusal(&path).contains("is larger than 1048576 bytes"));
    }

    #[test]
    fn every_mistake_on_a_line_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shedder.toml");
        fs::write(&path, "lease = 2\nmode = \"fast\"\n").unwrap();
        let refusal = refusal(&path);
        let lines: Vec<&str> = refusal.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with(&format!("{}:1:9: lease: must be", path.display())), "{refusal}");
        assert!(lines[1].starts_with(&format!("{}:2:8: mode: must be", path.display())), "{refusal}");
    }
}
