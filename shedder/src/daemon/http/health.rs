//! Whether the daemon is alive, and whether it is ready.

use crate::daemon::report::Report;
use serde_json::json;

/// What `/healthz` says of a daemon whose control loop has stopped.
pub(super) const NOT_ALIVE: &str = "The control loop has not turned for longer than one second and ten intervals. \
    The programs, limits and kills stay in force without it; restart the daemon to resume adaptive shedding.";

/// What keeps the daemon from being ready, a sentence each; nothing: it is ready. A loop that does not turn is one.
pub(super) fn obstacles(report: &Report) -> Vec<&str> {
    let stopped = (!report.alive).then_some(NOT_ALIVE);
    report.not_ready.iter().map(String::as_str).chain(stopped).collect()
}

/// The body of `/readyz`.
pub(super) fn readiness(obstacles: &[&str]) -> String {
    let body = if obstacles.is_empty() {
        json!({ "ready": true })
    } else {
        json!({ "ready": false, "reasons": obstacles })
    };
    format!("{body}\n")
}
