//! What the clients recorded, in windows.

use super::scene::{CLASSES, PATIENCE};
use serde::Serialize;
use shedder_tests::load::{Outcome, Record};
use shedder_tests::stats::{quantile, window};
use std::ops::Range;
use std::time::Duration;

/// How long a window is.
pub(super) const WINDOW: Duration = Duration::from_millis(250);

/// Requests of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// That left.
    pub(super) offered: u64,
    /// Whose connection was made.
    pub(super) admitted: u64,
    /// That were answered in time.
    pub(super) answered: u64,
    /// That could not leave, for want of descriptors or time on this machine.
    pub(super) unsent: u64,
}

impl Counts {
    /// Adds what became of one request.
    fn add(&mut self, outcome: Outcome) {
        self.offered += u64::from(outcome.offered());
        self.admitted += u64::from(outcome.admitted());
        self.answered += u64::from(outcome == Outcome::Answered);
        self.unsent += u64::from(!outcome.offered());
    }

    /// The share of what was offered that was answered; none of nothing.
    pub(super) fn success(&self) -> Option<f64> {
        (self.offered > 0).then(|| self.answered as f64 / self.offered as f64)
    }
}

/// Requests that were due at a certain time.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Window {
    /// When it begins, seconds after the demo's start.
    pub(super) at: f64,
    /// By class.
    pub(super) classes: [Counts; CLASSES.len()],
    /// Quantiles of the latency of what was admitted, milliseconds; an answer that never came counts as the clients'
    /// patience.
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
}

impl Window {
    fn of<'a>(at: Duration, records: impl IntoIterator<Item = &'a Record>) -> Window {
        let mut this = Window { at: at.as_secs_f64(), ..Window::default() };
        let mut latencies = Vec::new();
        for record in records {
            this.classes[record.stream].add(record.outcome);
            if record.outcome.admitted() {
                latencies.push(record.latency.min(PATIENCE));
            }
        }
        latencies.sort_unstable();
        let milliseconds = |latency: Duration| latency.as_secs_f64() * 1e3;
        this.p50 = quantile(&latencies, 0.5).map(milliseconds);
        this.p99 = quantile(&latencies, 0.99).map(milliseconds);
        this
    }

    /// All classes together.
    pub(super) fn total(&self) -> Counts {
        self.classes.iter().fold(Counts::default(), |sum, class| Counts {
            offered: sum.offered + class.offered,
            admitted: sum.admitted + class.admitted,
            answered: sum.answered + class.answered,
            unsent: sum.unsent + class.unsent,
        })
    }
}

/// All records, in the order in which requests ended.
#[derive(Debug, Default)]
pub(super) struct Timeline(Vec<Record>);

impl Timeline {
    pub(super) fn extend(&mut self, records: Vec<Record>) {
        self.0.extend(records);
    }

    /// Requests that were due in `when`, as one window.
    pub(super) fn window(&self, when: &Range<Duration>) -> Window {
        Window::of(when.start, self.0.iter().filter(|record| when.contains(&record.due)))
    }

    /// Requests that ended in `when`, as one window. They are looked for among the latest.
    pub(super) fn ended(&self, when: &Range<Duration>) -> Window {
        let end = |record: &Record| record.due + record.latency;
        let after = self.0.iter().rev().take_while(|record| end(record) >= when.start);
        Window::of(when.start, after.filter(|record| end(record) < when.end))
    }

    /// Requests that were due in `when`, in windows of [`WINDOW`] from its start on; a last one that is not whole is
    /// left out.
    pub(super) fn windows(&self, when: &Range<Duration>) -> Vec<Window> {
        let count = window(when.end.saturating_sub(when.start), WINDOW);
        let mut records = vec![Vec::new(); count];
        for record in self.0.iter().filter(|record| when.contains(&record.due)) {
            if let Some(of) = records.get_mut(window(record.due - when.start, WINDOW)) {
                of.push(record);
            }
        }
        let starts = (0u32..).map(|index| when.start + WINDOW * index);
        starts.zip(records).map(|(at, records)| Window::of(at, records)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stream: usize, due: u64, latency: u64, outcome: Outcome) -> Record {
        let (due, latency) = (Duration::from_millis(due), Duration::from_millis(latency));
        let source = std::net::Ipv4Addr::LOCALHOST.into();
        Record { stream, user: 0, attempt: 0, source, due, sent: due, latency, outcome }
    }

    fn timeline() -> Timeline {
        Timeline(vec![
            record(0, 10, 20, Outcome::Answered),
            record(0, 260, 40, Outcome::Answered),
            record(2, 20, 900, Outcome::ConnectTimeout),
            record(2, 30, 1000, Outcome::AnswerTimeout),
            record(1, 1040, 0, Outcome::NotSent),
        ])
    }

    #[test]
    fn windows_count_by_class_and_time_what_was_admitted() {
        let windows = timeline().windows(&(Duration::ZERO..Duration::from_millis(600)));
        assert_eq!(windows.len(), 2);
        assert_eq!(windows[0].classes[0], Counts { offered: 1, admitted: 1, answered: 1, unsent: 0 });
        assert_eq!(windows[0].classes[2], Counts { offered: 2, admitted: 1, answered: 0, unsent: 0 });
        assert_eq!((windows[0].p50, windows[0].p99), (Some(20.0), Some(900.0)));
        assert_eq!((windows[1].at, windows[1].p99), (0.25, Some(40.0)));
    }

    #[test]
    fn what_was_not_sent_was_not_offered() {
        let window = timeline().window(&(Duration::from_secs(1)..Duration::from_secs(2)));
        assert_eq!(window.total(), Counts { offered: 0, admitted: 0, answered: 0, unsent: 1 });
        assert_eq!(window.classes[1].success(), None);
    }

    #[test]
    fn the_latest_ends_are_found() {
        let ended = timeline().ended(&(Duration::from_millis(900)..Duration::from_millis(1030)));
        assert_eq!(ended.total().offered, 1);
        assert_eq!(ended.classes[2].admitted, 0);
    }
}
