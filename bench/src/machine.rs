//! What the measurements were made on and with.

use serde::Serialize;
use std::fs;
use std::process::Command;

/// The machine, its kernel, and the versions of everything that took part.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpus: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    /// Milliseconds between two ticks of the coarse clock.
    pub(crate) tick: Option<f64>,
    pub(crate) commit: String,
    pub(crate) versions: Vec<(String, String)>,
}

impl Machine {
    pub(crate) fn describe() -> Machine {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let versions = [
            ("nft", "--version"),
            ("iptables-legacy", "--version"),
            ("iptables-nft", "--version"),
            ("xdp-filter", "--version"),
            ("tc", "-Version"),
        ];
        let changed = !first_line("git", &["status", "--porcelain"]).unwrap_or_default().is_empty();
        let commit = first_line("git", &["rev-parse", "--short=12", "HEAD"]).unwrap_or("unknown".into());
        Machine {
            cpus: std::thread::available_parallelism().map_or(0, |cpus| cpus.get()),
            processor: processor.map_or("unknown", |(_, name)| name).into(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().into(),
            tick: tick(),
            commit: if changed { commit + ", with changes" } else { commit },
            versions: versions
                .map(|(name, option)| {
                    let version = first_line(name, &[option]).unwrap_or("not installed".into());
                    (name.to_owned(), version)
                })
                .into(),
        }
    }
}

/// The resolution of the kernel's coarse clock.
fn tick() -> Option<f64> {
    let resolution = nix::time::clock_getres(nix::time::ClockId::CLOCK_MONOTONIC_COARSE).ok()?;
    Some(std::time::Duration::from(resolution).as_secs_f64() * 1e3)
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().next().unwrap_or_default().to_owned())
}
