//! From the text of a file to a configuration, or to everything that is wrong with it.

use super::address::ProbeUrl;
use super::check::check;
use super::keys::{SignalKeys, SignalKind};
use super::kind::Scalar;
use super::mistake::{Mistake, Mistakes};
use super::model::*;
use super::section::{Section, Table};
use shedder_common::abi::MAX_SERVICES;
use std::time::Duration;
use toml::de::DeTable;

/// The configuration that `text` (TOML) says. What it leaves out has its default.
///
/// # Errors
/// Every mistake that can be told from the text, in its order; at least one. A line that is not TOML hides what else
/// may be wrong with it.
pub fn parse(text: &str) -> Result<Config, Vec<Mistake>> {
    let mut mistakes = Mistakes::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or_default();
        let what = error.message().trim_end_matches(['.', '\n']);
        let message = match text.get(span.clone()).map(str::trim).filter(|found| !found.is_empty()) {
            Some(found) => format!("is not TOML: {what}, at {}", super::kind::abridged(found)),
            None => format!("is not TOML: {what}"),
        };
        mistakes.syntax(span.start, message);
    }
    let root = Table::root(document.get_ref());
    let config = read(&root, &mut mistakes);
    check(&config, &root, &mut mistakes);
    let mistakes = mistakes.locate(text);
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
}

/// Each key by itself. Where it is wrong or missing its default stands in.
fn read(root: &Table<'_>, mistakes: &mut Mistakes) -> Config {
    let mut config: Config = root.read(mistakes);
    read_table(root, "source", &mut config.source, mistakes);
    read_table(root, "newcomers", &mut config.newcomers, mistakes);
    config.lifelines = read_tables(root, "lifeline", usize::MAX, mistakes, |_, _, _| {});
    config.rules = read_tables(root, "rule", usize::MAX, mistakes, |_, _, _| {});
    config.services =
        read_tables(root, "service", MAX_SERVICES, mistakes, |table, service: &mut Service, mistakes| {
            service.signal = read_signal(table, service.target, mistakes);
        });
    read_table(root, "control", &mut config.control, mistakes);
    read_table(root, "endpoint", &mut config.endpoint, mistakes);
    config
}

fn read_table<S: Section>(root: &Table<'_>, name: &str, section: &mut S, mistakes: &mut Mistakes) {
    if let Some(table) = root.table(name, S::HEADER, mistakes) {
        *section = table.read(mistakes);
    }
}

/// One section for each element, so that the section at an index is what the file has there.
fn read_tables<S: Section>(
    root: &Table<'_>,
    name: &str,
    max: usize,
    mistakes: &mut Mistakes,
    read_rest: fn(&Table<'_>, &mut S, &mut Mistakes),
) -> Vec<S> {
    let tables = root.tables(name, max, mistakes);
    let mut sections = Vec::with_capacity(tables.len());
    for table in &tables {
        let mut section = S::blank();
        if let Some(table) = table {
            section = table.read(mistakes);
            read_rest(table, &mut section, mistakes);
        }
        sections.push(section);
    }
    sections
}

fn read_signal(service: &Table<'_>, target: Duration, mistakes: &mut Mistakes) -> Signal {
    const FORM: &str = "signal = { kind = \"probe\", url = \"http://127.0.0.1:8080/\" }";
    let Some(table) = service.table("signal", FORM, mistakes) else { return Signal::None };
    let keys: SignalKeys = table.read(mistakes);
    if matches!(keys.kind, Some(SignalKind::Push | SignalKind::None)) {
        for name in SignalKeys::OF_PROBE {
            table.refuse(name, "goes with kind = \"probe\" only: remove it, or change the kind", mistakes);
        }
    }
    match keys.kind {
        Some(SignalKind::Probe) => {
            if !table.has("url") {
                table.missing("url", &ProbeUrl.describe(), mistakes);
            }
            match keys.url {
                Some(url) => Signal::Probe {
                    target: url,
                    every: keys.every.unwrap_or(Signal::PROBE_EVERY),
                    timeout: keys.timeout.unwrap_or_else(|| Signal::probe_timeout(target)),
                },
                None => Signal::None,
            }
        }
        Some(SignalKind::Push) => Signal::Push,
        Some(SignalKind::None) | None => Signal::None,
    }
}
