//! `docs/metrics.md` and the table of metrics say the same.

use super::super::metrics::METRICS;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::{env, fs};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
const BEGIN: &str = "<!-- reference: begin -->\n";
const END: &str = "<!-- reference: end -->\n";

/// What stands between the marks.
fn reference() -> String {
    let mut text = "| metric | type | labels | what it says |\n| --- | --- | --- | --- |\n".to_owned();
    for metric in METRICS {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, labels) = (metric.name, metric.kind(), labels.join(", "));
        writeln!(text, "| `{name}` | {} | {labels} | {} |", kind.as_str(), metric.help).unwrap();
    }
    text
}

#[test]
fn metrics_reference() {
    let document = fs::read_to_string(PATH).unwrap();
    let (before, rest) =
        document.split_once(BEGIN).expect("docs/metrics.md has the mark where the reference begins");
    let (found, after) = rest.split_once(END).expect("docs/metrics.md has the mark where the reference ends");
    if env::var_os("SHEDDER_BLESS").is_some() {
        fs::write(PATH, format!("{before}{BEGIN}{}{END}{after}", reference())).unwrap();
    } else {
        let advice = "SHEDDER_BLESS=1 cargo test -p shedder metrics_reference writes docs/metrics.md anew";
        assert_eq!(found, reference(), "{advice}");
    }
}

#[test]
fn the_document_names_no_metric_that_is_not_there() {
    let document = fs::read_to_string(PATH).unwrap();
    let words = document.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let named: BTreeSet<&str> =
        words.filter(|word| word.starts_with("shedder_") && *word != "shedder_").collect();
    assert!(named.len() >= METRICS.len());
    for name in named {
        let stem = name.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count");
        assert!(METRICS.iter().any(|metric| metric.name == name || metric.name == stem), "{name}");
    }
}
