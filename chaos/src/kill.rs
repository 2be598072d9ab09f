//! What the switch is to be, by what was commanded.

use std::time::Duration;

/// The switch, as far as it is known. Times are after the Unix epoch.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    state: State,
    /// When a kill surely held, from and until, where it was lifted or ended.
    held: Vec<(Duration, Duration)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Open,
    /// A kill in force since; until a deadline, at the earliest and at the latest, if it has one.
    Killed { since: Duration, until: Option<(Duration, Duration)> },
    /// A command died on its way: nobody knows.
    Unknown,
}

impl Switch {
    /// A kill was commanded at `asked` and confirmed at `confirmed`; it lasts for so long, if not for ever.
    pub(crate) fn kill(&mut self, asked: Duration, confirmed: Duration, lasting: Option<Duration>) {
        self.close(asked);
        let until = lasting.map(|lasting| (asked + lasting, confirmed + lasting));
        self.state = State::Killed { since: confirmed, until };
    }

    /// It was asked to be lifted at `asked`.
    pub(crate) fn resume(&mut self, asked: Duration) {
        self.close(asked);
        self.state = State::Open;
    }

    /// A command that would have changed it died, having begun at `asked`.
    pub(crate) fn lose(&mut self, asked: Duration) {
        self.close(asked);
        self.state = State::Unknown;
    }

    /// When a kill surely held until `now`.
    pub(crate) fn held(&self, now: Duration) -> impl Iterator<Item = (Duration, Duration)> + '_ {
        self.held.iter().copied().chain(self.current(now))
    }

    /// Whether packets surely pass at `now`.
    pub(crate) fn is_open(&self, now: Duration) -> bool {
        match self.state {
            State::Open => true,
            State::Killed { until: Some((_, latest)), .. } => now > latest,
            State::Killed { until: None, .. } | State::Unknown => false,
        }
    }

    /// Whether a kill surely is in force at `now`.
    pub(crate) fn is_killed(&self, now: Duration) -> bool {
        match self.state {
            State::Killed { until, .. } => until.is_none_or(|(earliest, _)| now < earliest),
            State::Open | State::Unknown => false,
        }
    }

    fn current(&self, now: Duration) -> Option<(Duration, Duration)> {
        let State::Killed { since, until } = self.state else { return None };
        let end = until.map_or(now, |(earliest, _)| earliest.min(now));
        (end > since).then_some((since, end))
    }

    fn close(&mut self, now: Duration) {
        let ended = self.current(now);
        self.held.extend(ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_kill_holds_until_its_deadline_or_until_it_is_lifted() {
        let mut switch = Switch::default();
        switch.kill(at(10), at(11), None);
        assert!(switch.is_killed(at(100)) && !switch.is_open(at(100)));
        switch.kill(at(20), at(21), Some(at(5)));
        assert!(switch.is_killed(at(24)) && !switch.is_killed(at(25)) && !switch.is_open(at(26)));
        assert!(switch.is_open(at(27)));
        switch.resume(at(30));
        assert_eq!(switch.held(at(40)).collect::<Vec<_>>(), [(at(11), at(20)), (at(21), at(25))]);
    }

    #[test]
    fn after_a_command_that_died_nothing_is_known() {
        let mut switch = Switch::default();
        switch.kill(at(10), at(11), None);
        switch.lose(at(15));
        assert!(!switch.is_killed(at(16)) && !switch.is_open(at(16)));
        assert_eq!(switch.held(at(20)).collect::<Vec<_>>(), [(at(11), at(15))]);
    }
}
