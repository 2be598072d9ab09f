//! Whether the benchmark runs: all of it, so little of each that the figures say nothing.

use serde_json::Value;
use shedder_tests::privileged;
use shedder_tests::shedder::{BINARY, binary};
use std::path::Path;
use std::process::Command;

#[test]
fn every_part_measures_what_needs_no_package() {
    if !privileged::require() {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let document = folder.join("glance.md");
    let output = Command::new(env!("CARGO_BIN_EXE_shedder-bench"))
        .arg("--glance")
        .arg("--output")
        .arg(&document)
        .env(BINARY, binary())
        .output()
        .expect("the benchmark starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let raw = std::fs::read_to_string(folder.join("glance/raw.json")).expect("raw data are written");
    let raw: Value = serde_json::from_str(&raw).expect("raw data are JSON");
    let list = |name: &str| raw[name].as_array().unwrap_or_else(|| panic!("no {name}")).clone();
    let text = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
    // What has to be installed may be missing here; what is the repository's own may not.
    for (part, name, values) in [("floods", "peer", "rates"), ("stops", "way", "milliseconds")] {
        let mut own = list(part);
        own.retain(|it| ["shedder", "bare", "XDP"].iter().any(|own| text(it, name).starts_with(own)));
        assert!(own.len() >= 4, "{part}: {own:#?}");
        for it in own {
            assert!(it["error"].is_null(), "{it:#}");
            assert!(it[values][0].as_f64().is_some_and(|value| value > 0.0), "{it:#}");
        }
    }
    for goal in list("goals") {
        let what = text(&goal, "what");
        // The lab, which plays the overload, has tests of its own; and at a glance the daemon turns at another interval.
        let needs_more = ["nft", "iptables", "overload", "20 ms"].iter().any(|it| what.contains(it));
        assert!(needs_more || goal["found"].is_number(), "not measured: {goal:#}");
        let is_bounded = ["10M", "kill,"].iter().any(|it| what.contains(it));
        assert!(!is_bounded || goal["bound"].is_string(), "what bounds it is not measured: {goal:#}");
    }
    for name in ["floods.svg", "decisions.svg", "kills.svg"] {
        assert!(folder.join("glance").join(name).exists(), "no {name}");
    }
    let document = std::fs::read_to_string(&document).expect("the document is written");
    for heading in ["Goals", "Floods on one CPU", "Kill", "Accuracy at the limit", "On larger machines"] {
        assert!(document.contains(&format!("\n## {heading}\n")), "no {heading}");
    }
}
