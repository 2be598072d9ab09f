//! The critical class is shed last of all: not to drain a queue faster, and only where shedding the rest is not enough.

use std::time::Duration;

/// How much of what the service does the critical class may ask for, to be served whole: what is left drains the queue.
const FITS: f64 = 0.8;

/// For how long shedding all the rest may fail to bring the latency back before the critical class is shed as well, in
/// targets, and at least.
const PATIENCE_TARGETS: u32 = 10;
const LEAST_PATIENCE: Duration = Duration::from_millis(500);

/// Whether the critical class is spared.
#[derive(Clone, Debug)]
pub(super) struct Essential {
    patience: Duration,
    /// How long the rest was shed in vain.
    in_vain: Duration,
}

impl Essential {
    pub(super) fn new(target: Duration) -> Essential {
        Essential { patience: (target * PATIENCE_TARGETS).max(LEAST_PATIENCE), in_vain: Duration::ZERO }
    }

    /// Whether to spare the critical class, of which `demanded` requests a second come, at a service that does `done` a
    /// second. `dt` after the turn before; `would_shed` says that the loop would shed some of it, and `is_late` that the
    /// latency is past the target. Once it was spared in vain, it is not spared again until the loop sheds none of it.
    pub(super) fn spares(
        &mut self,
        dt: Duration,
        demanded: f64,
        done: f64,
        would_shed: bool,
        is_late: bool,
    ) -> bool {
        if !would_shed {
            self.in_vain = Duration::ZERO;
            return false;
        }
        if demanded > FITS * done {
            return false;
        }
        if is_late {
            self.in_vain = self.in_vain.saturating_add(dt);
        }
        self.in_vain < self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_millis(20);

    fn essential() -> Essential {
        Essential::new(Duration::from_millis(50))
    }

    #[test]
    fn what_fits_is_spared_and_what_does_not_is_shed() {
        assert!(essential().spares(TURN, 70.0, 100.0, true, true));
        assert!(!essential().spares(TURN, 90.0, 100.0, true, true));
        assert!(!essential().spares(TURN, 70.0, 100.0, false, true));
    }

    #[test]
    fn it_is_not_spared_in_vain_for_long() {
        let mut essential = essential();
        let spared = (0..100).take_while(|_| essential.spares(TURN, 10.0, 100.0, true, true)).count();
        assert_eq!(spared, 24);
        assert!(!essential.spares(TURN, 10.0, 100.0, true, false), "only once the loop sheds none of it");
        essential.spares(TURN, 10.0, 100.0, false, false);
        assert!(essential.spares(TURN, 10.0, 100.0, true, true));
    }
}
