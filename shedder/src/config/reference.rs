//! The reference of the file, generated from the tables of keys: `docs/configuration.md`.

use super::keys::SignalKeys;
use super::model::*;
use super::section::{Absent, Section};

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from shedder/src/config/keys.rs; after a change there: SHEDDER_BLESS=1 cargo test -p shedder config_reference -->

A configuration is a TOML file of at most 1 MiB. A host needs none of it: an empty file measures, counts, kills on
demand, and limits nothing. `shedder check FILE` prints the whole configuration in force, defaults included, or
every mistake with its line, column and key; [example.toml](example.toml) is a file to start from.

- A key that is not described here is a mistake.
- A duration is a string of whole numbers and units: `\"200us\"`, `\"100ms\"`, `\"2s\"`, `\"1h 30m\"`, `\"30days\"`.
- Digits of a number may be grouped: `50_000_000`.
- A prefix is an IPv4 or IPv6 network, as in `\"192.0.2.0/24\"`, with no bit set past its length; an address by itself
  is the prefix of that address alone.
- A rate of 0 is no limit.
";

/// The reference of every key, as Markdown: type and range, default, meaning.
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    describe::<Config>(&mut text);
    describe::<Source>(&mut text);
    describe::<Newcomers>(&mut text);
    describe::<Lifeline>(&mut text);
    describe::<Rule>(&mut text);
    describe::<Service>(&mut text);
    describe::<SignalKeys>(&mut text);
    describe::<Control>(&mut text);
    describe::<Endpoint>(&mut text);
    text
}

fn describe<S: Section>(text: &mut String) {
    let title = match S::HEADER.strip_prefix('[') {
        Some(_) => format!("`{}`", S::HEADER),
        None => {
            let mut letters = S::HEADER.chars();
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
        }
    };
    text.push_str(&format!("\n## {title}\n\n{}\n\n", S::ABOUT));
    text.push_str("| key | must be | default | meaning |\n| --- | --- | --- | --- |\n");
    let blank = S::blank();
    for key in S::KEYS {
        let default = match key.absent() {
            Absent::Default => format!("`{}`", key.write(&blank).unwrap_or_default()),
            Absent::Mistake => "none: required".into(),
            Absent::Means(meaning) => meaning.into(),
        };
        text.push_str(&format!(
            "| `{}` | {} | {default} | {} |\n",
            key.name(),
            key.describe(),
            key.meaning()
        ));
    }
}
