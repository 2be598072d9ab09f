//! What is wrong with a file, and where.

use std::collections::HashSet;
use std::fmt;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key, as in `service[2].port`, counted from 0; empty where no key can be named (the file is not TOML
    /// there).
    pub path: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column, in characters, counted from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// The mistakes of one file while it is read, by byte offset.
#[derive(Default)]
pub(super) struct Mistakes {
    syntax: Vec<(usize, String)>,
    keys: Vec<(usize, String, String)>,
    doubtful: HashSet<String>,
}

impl Mistakes {
    /// The file is not TOML at `offset`.
    pub(super) fn syntax(&mut self, offset: usize, message: String) {
        self.syntax.push((offset, message));
    }

    /// The key at `path`, whose text is at `offset`, is wrong.
    pub(super) fn add(&mut self, offset: usize, path: impl fmt::Display, message: impl Into<String>) {
        self.doubt(&path);
        self.keys.push((offset, path.to_string(), message.into()));
    }

    /// What the key at `path` means is not known.
    pub(super) fn doubt(&mut self, path: impl fmt::Display) {
        let path = path.to_string();
        // What is wrong with an element is wrong with its list.
        if let Some((list, _)) = path.strip_suffix(']').and_then(|path| path.rsplit_once('[')) {
            self.doubtful.insert(list.to_owned());
        }
        self.doubtful.insert(path);
    }

    /// The key at `path` is missing from the table at `offset`. Said only of a file that is TOML throughout: else
    /// the key may well be in the part that could not be read.
    pub(super) fn missing(&mut self, offset: usize, path: impl fmt::Display, message: impl Into<String>) {
        if self.is_toml() {
            self.add(offset, path, message);
        }
    }

    /// Whether no syntax error was found.
    pub(super) fn is_toml(&self) -> bool {
        self.syntax.is_empty()
    }

    /// Whether nothing is known to be wrong with the key at `path`.
    pub(super) fn is_sound(&self, path: &str) -> bool {
        !self.doubtful.contains(path)
    }

    /// Every mistake, in the order of the text. Of a line that is not TOML, only that is said, once: the parser
    /// guessed the rest of it.
    pub(super) fn locate(self, text: &str) -> Vec<Mistake> {
        let mut positions = Positions::new(text);
        let mut syntax = self.syntax;
        syntax.sort_by_key(|(offset, _)| *offset);
        let mut located: Vec<Mistake> = Vec::new();
        let mut broken = HashSet::new();
        for (offset, message) in syntax {
            let (line, column) = positions.at(offset);
            if broken.insert(line) {
                located.push(Mistake { path: String::new(), line, column, message });
            }
        }
        let mut positions = Positions::new(text);
        let mut keys = self.keys;
        keys.sort_by_key(|(offset, ..)| *offset);
        for (offset, path, message) in keys {
            let (line, column) = positions.at(offset);
            if !broken.contains(&line) {
                located.push(Mistake { path, line, column, message });
            }
        }
        located.sort_by_key(|mistake| (mistake.line, mistake.column));
        located
    }
}

/// Turns ascending byte offsets into lines and columns, in one walk over the text.
struct Positions<'a> {
    text: &'a str,
    offset: usize,
    line: usize,
    column: usize,
}

impl<'a> Positions<'a> {
    fn new(text: &'a str) -> Self {
        Positions { text, offset: 0, line: 1, column: 1 }
    }

    fn at(&mut self, offset: usize) -> (usize, usize) {
        let end = self.text.floor_char_boundary(offset);
        for character in self.text[self.offset..end].chars() {
            if character == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.offset = end;
        (self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "a\nµb = 1\r\n\nc";
        let mut positions = Positions::new(text);
        assert_eq!(positions.at(0), (1, 1));
        assert_eq!(positions.at(2), (2, 1));
        assert_eq!(positions.at(4), (2, 2));
        assert_eq!(positions.at(text.len() - 1), (4, 1));
        assert_eq!(positions.at(text.len() + 100), (4, 2));
    }

    #[test]
    fn a_broken_line_silences_what_it_seems_to_say_and_nothing_else() {
        let text = "one\ntwo\nthree";
        let mut mistakes = Mistakes::default();
        mistakes.add(8, "three", "is wrong");
        mistakes.add(4, "two", "is a guess");
        mistakes.syntax(6, "a consequence".into());
        mistakes.syntax(5, "broken".into());
        mistakes.missing(0, "four", "is missing");
        let located = mistakes.locate(text);
        let shown: Vec<String> = located.iter().map(Mistake::to_string).collect();
        assert_eq!(shown, ["2:2: broken", "3:1: three: is wrong"]);
    }
}
