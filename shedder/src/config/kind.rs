//! What a kind of value is: what is accepted, how it is printed, how it is described.

use super::mistake::Mistakes;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use toml::Spanned;
use toml::de::DeValue;

/// A value of the file and the path of its key.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) path: &'a dyn fmt::Display,
    pub(super) value: &'a Spanned<DeValue<'a>>,
}

impl Node<'_> {
    /// Notes that this value is wrong.
    pub(super) fn refuse(&self, message: impl Into<String>, mistakes: &mut Mistakes) {
        if self.is_placeholder() {
            mistakes.doubt(self.path);
        } else {
            mistakes.add(self.value.span().start, self.path, message);
        }
    }

    /// Whether the parser made this up in place of a value that is missing from the text, which it has reported.
    fn is_placeholder(&self) -> bool {
        self.value.span().is_empty() && self.value.get_ref().is_integer()
    }
}

/// A kind of value.
pub(super) trait Kind: Sync + 'static {
    /// What the value means to the configuration.
    type Value;

    /// The value, or every mistake in it.
    fn read(&self, node: Node<'_>, mistakes: &mut Mistakes) -> Option<Self::Value>;

    /// The value as TOML.
    fn write(&self, value: &Self::Value) -> String;

    /// What would be right, to follow "must be".
    fn describe(&self) -> String;
}

/// A kind of value that has no parts.
pub(super) trait Scalar: Sync + 'static {
    /// See [`Kind::Value`].
    type Value;

    /// The value, or a sentence on what is wrong with it.
    fn convert(&self, value: &DeValue<'_>) -> Result<Self::Value, String>;

    /// See [`Kind::write`].
    fn write(&self, value: &Self::Value) -> String;

    /// See [`Kind::describe`].
    fn describe(&self) -> String;

    /// The sentence for a value that is not what [`describe`](Scalar::describe) asks for.
    fn wrong(&self, value: &DeValue<'_>) -> String {
        format!("must be {}, not {}", self.describe(), shown(value))
    }
}

impl<S: Scalar> Kind for S {
    type Value = S::Value;

    fn read(&self, node: Node<'_>, mistakes: &mut Mistakes) -> Option<Self::Value> {
        self.convert(node.value.get_ref()).map_err(|message| node.refuse(message, mistakes)).ok()
    }

    fn write(&self, value: &Self::Value) -> String {
        Scalar::write(self, value)
    }

    fn describe(&self) -> String {
        Scalar::describe(self)
    }
}

/// A list of things, each once.
pub(super) struct List<S> {
    pub(super) of: S,
    /// The things, in the plural.
    pub(super) things: &'static str,
    pub(super) max: usize,
    pub(super) may_be_empty: bool,
}

impl<S: Scalar<Value: Clone + Eq + Hash>> Kind for List<S> {
    type Value = Vec<S::Value>;

    fn read(&self, node: Node<'_>, mistakes: &mut Mistakes) -> Option<Self::Value> {
        let Some(elements) = node.value.get_ref().as_array() else {
            node.refuse(
                format!("must be {}, not {}", self.describe(), shown(node.value.get_ref())),
                mistakes,
            );
            return None;
        };
        if elements.is_empty() && !self.may_be_empty {
            node.refuse(format!("is empty: must be {}", self.describe()), mistakes);
            return None;
        }
        if elements.len() > self.max {
            let message = format!("has {} elements: must be {}", elements.len(), self.describe());
            node.refuse(message, mistakes);
        }
        let mut values = Vec::with_capacity(elements.len());
        let mut first_at = HashMap::with_capacity(elements.len());
        for (index, value) in elements.iter().enumerate() {
            let element = Node { path: &format_args!("{}[{index}]", node.path), value };
            let Some(value) = self.of.read(element, mistakes) else { continue };
            if let Some(first) = first_at.insert(value.clone(), index) {
                element.refuse(format!("is the same as {}[{first}]: remove one", node.path), mistakes);
            }
            values.push(value);
        }
        Some(values)
    }

    fn write(&self, values: &Self::Value) -> String {
        let elements: Vec<String> = values.iter().map(|value| self.of.write(value)).collect();
        format!("[{}]", elements.join(", "))
    }

    fn describe(&self) -> String {
        let how_many = match (self.may_be_empty, self.max) {
            (true, usize::MAX) => String::new(),
            (true, max) => format!("at most {max} "),
            (false, usize::MAX) => "one or more ".into(),
            (false, max) => format!("1 to {max} "),
        };
        format!("a list of {how_many}{}, each once", self.things)
    }
}

/// A string as TOML.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A value as a message shows it: on one line, and not at any length.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => abridged(text),
        DeValue::Integer(number) => abridge(&number.to_string()),
        DeValue::Float(number) => abridge(&number.to_string()),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date or time".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// A string as a message shows it: quoted, on one line, and not at any length.
pub(super) fn abridged(text: &str) -> String {
    format!("{:?}", abridge(text))
}

/// Characters of the file that a message shows at most.
pub(super) const LONGEST: usize = 60;

fn abridge(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}
