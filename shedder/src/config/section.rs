//! Tables of the file: which keys each has, and how they are read.

use super::kind::{Kind, Node, abridged};
use super::mistake::Mistakes;
use super::suggest::nearest;
use super::{keys, kind};
use std::fmt;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table of the file that becomes a `Self`.
pub(super) trait Section: Sized + 'static {
    /// As it stands in the file, as in `[source]`.
    const HEADER: &'static str;
    /// What it is for; Markdown.
    const ABOUT: &'static str;
    /// Its keys, tables aside, in the order in which they are printed.
    const KEYS: &'static [&'static dyn Entry<Self>];
    /// Its tables.
    const TABLES: &'static [&'static str] = &[];

    /// What an empty table says. A required key has a value that no file can give it.
    fn blank() -> Self;
}

/// A key of the section `S`.
pub(super) trait Entry<S>: Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// What it means that the key is not there.
    fn absent(&self) -> Absent;
    /// What it is for; Markdown.
    fn meaning(&self) -> &'static str;
    /// See [`Kind::describe`].
    fn describe(&self) -> String;
    /// Reads a value into the section.
    fn read(&self, node: Node<'_>, section: &mut S, mistakes: &mut Mistakes);
    /// The value that the section has, as TOML; none where the key is better left out.
    fn write(&self, section: &S) -> Option<String>;
}

/// What it means that a key is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// That of [`Section::blank`].
    Default,
    /// A mistake.
    Mistake,
    /// This; Markdown.
    Means(&'static str),
}

/// An [`Entry`] whose value is of the kind `K`.
pub(super) struct Key<S, K: Kind> {
    pub(super) name: &'static str,
    pub(super) kind: K,
    pub(super) absent: Absent,
    pub(super) meaning: &'static str,
    pub(super) get: fn(&S) -> Option<K::Value>,
    pub(super) set: fn(&mut S, K::Value),
}

impl<S, K: Kind> Entry<S> for Key<S, K> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn absent(&self) -> Absent {
        self.absent
    }

    fn meaning(&self) -> &'static str {
        self.meaning
    }

    fn describe(&self) -> String {
        self.kind.describe()
    }

    fn read(&self, node: Node<'_>, section: &mut S, mistakes: &mut Mistakes) {
        if let Some(value) = self.kind.read(node, mistakes) {
            (self.set)(section, value);
        }
    }

    fn write(&self, section: &S) -> Option<String> {
        (self.get)(section).map(|value| self.kind.write(&value))
    }
}

/// A table of a file.
pub(super) struct Table<'a> {
    path: String,
    entries: &'a DeTable<'a>,
    offset: usize,
}

impl<'a> Table<'a> {
    /// The table that a whole file is.
    pub(super) fn root(entries: &'a DeTable<'a>) -> Table<'a> {
        Table { path: String::new(), entries, offset: 0 }
    }

    /// Reads the section that this table is: every key of it, and the keys that are none.
    pub(super) fn read<S: Section>(&self, mistakes: &mut Mistakes) -> S {
        let mut section = S::blank();
        for (key, value) in self.entries {
            let name: &str = key.get_ref();
            if let Some(entry) = S::KEYS.iter().find(|entry| entry.name() == name) {
                entry.read(Node { path: &self.path_of(name), value }, &mut section, mistakes);
            } else if !S::TABLES.contains(&name) {
                mistakes.add(key.span().start, self.path_of(name), unknown_key::<S>(name));
            }
        }
        for entry in S::KEYS.iter().filter(|entry| entry.absent() == Absent::Mistake) {
            if !self.has(entry.name()) {
                self.missing(entry.name(), &entry.describe(), mistakes);
            }
        }
        section
    }

    /// Whether there is a key of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Notes that a key is missing, which must be what `describe` says.
    pub(super) fn missing(&self, name: &str, describe: &str, mistakes: &mut Mistakes) {
        mistakes.missing(self.offset, self.path_of(name), format!("is missing: must be {describe}"));
    }

    /// Notes that the key is wrong; nothing where it is not there.
    pub(super) fn refuse(&self, name: &str, message: &str, mistakes: &mut Mistakes) {
        if let Some(value) = self.entries.get(name) {
            Node { path: &self.path_of(name), value }.refuse(message, mistakes);
        }
    }

    /// The table of that name, if there is one; `form` is how a file says it.
    pub(super) fn table(&self, name: &str, form: &str, mistakes: &mut Mistakes) -> Option<Table<'a>> {
        let value = self.entries.get(name)?;
        let path = self.path_of(name).to_string();
        let table = as_table(path, value, self.offset);
        if table.is_none() {
            self.refuse(name, &format!("must be one table: write {form}"), mistakes);
        }
        table
    }

    /// The tables of an array of that name, in its order; none for an element that is no table.
    pub(super) fn tables(&self, name: &str, max: usize, mistakes: &mut Mistakes) -> Vec<Option<Table<'a>>> {
        let Some(value) = self.entries.get(name) else { return Vec::new() };
        let Some(elements) = value.get_ref().as_array() else {
            self.refuse(
                name,
                &format!("must be a list of tables: write [[{name}]], once for each"),
                mistakes,
            );
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(elements.len());
        for (index, value) in elements.iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(name));
            let node = Node { path: &path, value };
            if index == max {
                node.refuse(format!("is one too many: there is room for {max}"), mistakes);
            }
            let table = as_table(path.clone(), value, value.span().start);
            if table.is_none() {
                node.refuse(format!("must be a table: write [[{name}]]"), mistakes);
            }
            tables.push(table);
        }
        tables
    }

    /// The elements of a list, and their index; none where there is no such list.
    pub(super) fn elements(
        &self,
        name: &str,
    ) -> impl Iterator<Item = (usize, &'a Spanned<DeValue<'a>>)> + use<'a> {
        let list = self.entries.get(name).and_then(|value| value.get_ref().as_array());
        list.into_iter().flat_map(|elements| elements.iter().enumerate())
    }

    /// The value at a path below this table, as in `service[2].port`. No name in it holds a dot or a bracket.
    pub(super) fn find(&self, path: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        let mut entries = self.entries;
        let mut names = path.split('.').peekable();
        loop {
            let name = names.next()?;
            let (name, index) = match name.trim_end_matches(']').split_once('[') {
                Some((name, index)) => (name, Some(index.parse::<usize>().ok()?)),
                None => (name, None),
            };
            let mut value = entries.get(name)?;
            if let Some(index) = index {
                value = value.get_ref().get(index)?;
            }
            if names.peek().is_none() {
                return Some(value);
            }
            entries = value.get_ref().as_table()?;
        }
    }

    /// The path of one of its keys.
    pub(super) fn path_of<'n>(&'n self, name: &'n str) -> KeyPath<'n> {
        KeyPath { table: &self.path, name }
    }
}

fn as_table<'a>(path: String, value: &'a Spanned<DeValue<'a>>, parent: usize) -> Option<Table<'a>> {
    let entries = value.get_ref().as_table()?;
    // A table that only dotted keys speak of has no text of its own.
    let offset = if value.span().is_empty() { parent } else { value.span().start };
    Some(Table { path, entries, offset })
}

/// The path of a key: its table's and its name.
#[derive(Clone, Copy)]
pub(super) struct KeyPath<'a> {
    table: &'a str,
    name: &'a str,
}

impl fmt::Display for KeyPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.table.is_empty() {
            write!(f, "{}.", self.table)?;
        }
        let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !self.name.is_empty() && self.name.len() <= kind::LONGEST && self.name.bytes().all(is_bare) {
            f.write_str(self.name)
        } else {
            f.write_str(&abridged(self.name))
        }
    }
}

fn unknown_key<S: Section>(name: &str) -> String {
    let known = || S::KEYS.iter().map(|entry| entry.name()).chain(S::TABLES.iter().copied());
    if let Some(near) = nearest(name, known()) {
        return format!("is no key here; did you mean \"{near}\"?");
    }
    let elsewhere: Vec<&str> = keys::catalogue()
        .into_iter()
        .filter(|(_, names)| names.contains(&name))
        .map(|(header, _)| header)
        .collect();
    if elsewhere.is_empty() {
        format!("is no key here; known are {}", known().collect::<Vec<_>>().join(", "))
    } else {
        format!("is no key here; it belongs to {}", elsewhere.join(" or "))
    }
}
