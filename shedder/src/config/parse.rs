//! From the text of a file to a configuration, or to everything that is wrong with it.

use super::address::ProbeUrl;
use super::check::check;
use super::keys::{SignalKeys, SignalKind};
use super::kind::{Scalar, abridged};
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
    let (mut document, mut errors) = DeTable::parse_recoverable(text);
    let rest;
    if let Some(without) = without_hopeless_lines(text, &errors) {
        rest = without;
        let (document_of_rest, errors_of_rest) = DeTable::parse_recoverable(&rest);
        document = document_of_rest;
        errors.extend(errors_of_rest);
    }
    for error in &errors {
        mistakes.syntax(offset_of(error), not_toml(text, error));
    }
    let root = Table::root(document.get_ref());
    let config = read(&root, &mut mistakes);
    check(&config, &root, &mut mistakes);
    let mistakes = mistakes.locate(text);
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
}

fn offset_of(error: &toml::de::Error) -> usize {
    error.span().unwrap_or_default().start
}

fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let what = error.message().trim_end_matches(['.', '\n']);
    let found = error.span().and_then(|span| text.get(span)).map(str::trim).unwrap_or_default();
    if found.is_empty() {
        format!("is not TOML: {what}")
    } else {
        format!("is not TOML: {what}, at {}", abridged(found))
    }
}

/// At a line such as `lease "2s"` the parser gives up and drops all that follows. The text with blanks in place of
/// the lines of which it can make nothing by themselves; none where there is no such line. A table's header stays,
/// and so does a line that may open or close a list.
fn without_hopeless_lines(text: &str, errors: &[toml::de::Error]) -> Option<String> {
    let mut offsets: Vec<usize> = errors.iter().map(offset_of).collect();
    offsets.sort_unstable();
    let mut rest = None;
    let mut judged = 0;
    for offset in offsets {
        let offset = text.floor_char_boundary(offset);
        if offset < judged {
            continue;
        }
        let start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[offset..].find('\n').map_or(text.len(), |newline| offset + newline);
        judged = end + 1;
        let line = &text[start..end];
        let is_balanced = |open, close| line.matches(open).count() == line.matches(close).count();
        let stands_alone =
            is_balanced('[', ']') && is_balanced('{', '}') && !line.trim_start().starts_with('[');
        if stands_alone && DeTable::parse_recoverable(line).0.get_ref().is_empty() {
            rest.get_or_insert_with(|| text.to_owned()).replace_range(start..end, &" ".repeat(end - start));
        }
    }
    rest
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
    if !root
        .table("control", Control::HEADER, &mut Mistakes::default())
        .is_some_and(|table| table.has("window"))
    {
        config.control.window = fitting_window(&config);
    }
    read_table(root, "endpoint", &mut config.endpoint, mistakes);
    config
}

/// The default window, made longer where slow turns or seldom probes would otherwise leave it without samples.
fn fitting_window(config: &Config) -> Duration {
    let Control { interval, min_samples, window, .. } = config.control;
    let slowest_probe = config.services.iter().filter_map(|service| match service.signal {
        Signal::Probe { every, .. } => Some(every),
        Signal::Passive { .. } | Signal::Push | Signal::None => None,
    });
    let for_probes = slowest_probe.max().unwrap_or_default().saturating_mul(min_samples.saturating_add(1));
    window.max(interval).max(for_probes).min(Control::LONGEST_WINDOW)
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
    const UNSAID: Signal = Signal::Passive { since: Since::FirstByte };
    let Some(table) = service.table("signal", FORM, mistakes) else { return UNSAID };
    let keys: SignalKeys = table.read(mistakes);
    for (name, kind, word) in SignalKeys::OWN {
        if keys.kind.is_some_and(|own| own != kind) {
            let message = format!("goes with kind = \"{word}\" only: remove it, or change the kind");
            table.refuse(name, &message, mistakes);
        }
    }
    match keys.kind {
        Some(SignalKind::Passive) => Signal::Passive { since: keys.since.unwrap_or_default() },
        Some(SignalKind::Probe) => {
            if !table.has("url") {
                table.missing("url", &ProbeUrl.describe(), mistakes);
            }
            Signal::Probe {
                // Without a URL the file is refused; the times are judged all the same.
                target: keys.url.unwrap_or(ProbeTarget::Tcp { address: ([127, 0, 0, 1], 0).into() }),
                every: keys.every.unwrap_or(Signal::PROBE_EVERY),
                timeout: keys.timeout.unwrap_or_else(|| Signal::probe_timeout(target)),
            }
        }
        Some(SignalKind::Push) => Signal::Push,
        Some(SignalKind::None) => Signal::None,
        None => UNSAID,
    }
}
