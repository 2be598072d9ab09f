//! shedder as a subject of measurement, seen through its command line alone, so that builds of different layouts can be
//! measured side by side.

use crate::programs::Limit;
use anyhow::{Context, Result, ensure};
use aya::programs::Xdp;
use aya_obj::programs::XdpAttachType;
use serde_json::Value;
use shedder_tests::netns::Network;
use shedder_tests::shedder::Shedder;
use std::path::Path;

/// Measures and counts, kills on demand, limits nothing.
pub(crate) const NOTHING: &str = "interfaces = [\"$IF\"]\n";

/// A limit per source, and all else as it is by default.
pub(crate) fn limited(limit: Limit) -> String {
    let (per_second, burst) = (limit.per_second, burst(limit));
    format!("{NOTHING}[source]\npackets_per_second = {per_second}\nburst = \"{burst}\"\n")
}

/// The configuration of `docs/example.toml`, with this limit per source, and one rule more: [`UNREACHED`] has limits that
/// nobody reaches, so that every bucket is asked and none is empty.
pub(crate) fn everything(limit: Limit) -> Result<String> {
    let (per_second, burst) = (limit.per_second, burst(limit));
    let example = include_str!("../../docs/example.toml");
    let mut text = String::new();
    for line in example.lines() {
        let key = line.split(['=', ' ']).next().unwrap_or_default();
        let is_first = |table: &str| text.contains(table) && !text.contains("[newcomers]");
        text += &match key {
            "interfaces" => "interfaces = [\"$IF\"]".into(),
            "packets_per_second" if is_first("[source]") => format!("packets_per_second = {per_second}"),
            "burst" if is_first("[source]") => format!("burst = \"{burst}\""),
            _ => line.to_owned(),
        };
        text.push('\n');
    }
    for part in ["$IF", &format!("burst = \"{burst}\""), PASSIVE] {
        ensure!(text.contains(part), "docs/example.toml has changed its shape: no {part}");
    }
    Ok(text
        + "\n[[rule]]\nsources = [\"203.0.114.0/24\"]\npackets_per_second = 1_000_000_000\n\
           bytes_per_second = 1_000_000_000_000\nnew_flows_per_second = 1_000_000_000\n")
}

/// The same configuration, in which no service's requests are measured.
pub(crate) fn unmeasured(config: &str) -> String {
    config.replace(PASSIVE, "signal = { kind = \"none\" }")
}

const PASSIVE: &str = "signal = { kind = \"passive\" }";

/// The time that a limit's burst takes to come at its rate.
fn burst(limit: Limit) -> String {
    format!("{}us", limit.burst * 1_000_000 / limit.per_second)
}

/// Puts a configuration in force without a daemon.
pub(crate) fn attach<'a>(network: &'a Network, config: &str) -> Result<Shedder<'a>> {
    let shedder = Shedder::new(network);
    enforce(&shedder, config)?;
    Ok(shedder)
}

/// As [`attach`], by whichever build this is.
pub(crate) fn enforce(shedder: &Shedder<'_>, config: &str) -> Result<()> {
    let config = shedder.config(config);
    run(shedder, &["attach", "--config", config.to_str().context("a path of text")?])
}

/// A build of shedder, and what tables add to its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Build<'a> {
    pub(crate) label: &'a str,
    pub(crate) binary: &'a Path,
}

impl Build<'_> {
    /// The one that is under test.
    pub(crate) fn own() -> Build<'static> {
        Build { label: "", binary: shedder_tests::shedder::binary() }
    }
}

/// Runs a command that must succeed.
pub(crate) fn run(shedder: &Shedder<'_>, arguments: &[&str]) -> Result<()> {
    let output = shedder.run(arguments);
    ensure!(
        output.status.success(),
        "`shedder {}` ended with {}: {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// The program that judges what arrives at an interface, by the interface's place in the configuration.
pub(crate) fn ingress(shedder: &Shedder<'_>, slot: usize) -> Result<Xdp> {
    let policies = shedder.pins().join("policy");
    let entries = std::fs::read_dir(&policies).with_context(|| format!("listing {}", policies.display()))?;
    let entries: Vec<_> = entries.collect::<std::io::Result<_>>()?;
    let [policy] = &entries[..] else { anyhow::bail!("{} policies are in force", entries.len()) };
    let pin = policy.path().join(format!("ingress-{slot}"));
    Xdp::from_pin(&pin, XdpAttachType::Interface).with_context(|| format!("opening {}", pin.display()))
}

/// What `shedder status` says.
pub(crate) struct Status(Value);

impl Status {
    pub(crate) fn read(shedder: &Shedder<'_>) -> Result<Status> {
        let text = shedder.status().context("`shedder status` fails")?;
        Ok(Status(serde_json::from_str(&text).context("reading `shedder status`")?))
    }

    /// Packets that arrived at an interface and passed.
    pub(crate) fn passed(&self, slot: usize) -> Result<u64> {
        self.count(&format!("/interfaces/{slot}/ingress/passed/packets"))
    }

    /// Packets that arrived at an interface and were dropped.
    pub(crate) fn dropped(&self, slot: usize) -> Result<u64> {
        self.count(&format!("/interfaces/{slot}/ingress/dropped/packets"))
    }

    /// Packets that arrived at an interface and met this reason.
    pub(crate) fn met(&self, slot: usize, reason: &str) -> Result<u64> {
        self.count(&format!("/interfaces/{slot}/ingress/reasons/{reason}/packets"))
    }

    /// Charges to the bucket that sources without a place share.
    pub(crate) fn no_place(&self) -> Result<u64> {
        self.count("/interfaces/0/events/no_place")
    }

    fn count(&self, path: &str) -> Result<u64> {
        self.0.pointer(path).and_then(Value::as_u64).with_context(|| format!("the status has no {path}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_takes_the_limit() {
        let text = everything(Limit { per_second: 7, burst: 21 }).unwrap();
        assert_eq!(text.matches("packets_per_second = 7\n").count(), 1);
        assert_eq!(text.matches("burst = \"3000000us\"").count(), 1);
        assert!(!unmeasured(&text).contains("signal = { kind = \"passive\" }"));
    }
}
