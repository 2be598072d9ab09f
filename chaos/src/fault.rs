//! What goes wrong, and what people do meanwhile.

use crate::world::{Daemon, World};
use shedder_tests::random::Random;
use std::fmt;
use std::time::Duration;

/// Something that happens to shedder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL.
    Crash,
    /// SIGSTOP.
    Stop,
    /// SIGCONT to one that was stopped.
    Continue,
    /// SIGTERM to one that is to leave the programs in force.
    Terminate,
    Start,
    /// A start that is killed after so long.
    StartAndCrash(Duration),
    /// A second daemon on the same pins, which has to go.
    StartSecond,
    /// SIGHUP with another file.
    Reload,
    /// SIGHUP upon SIGHUP, with another file each, so long apart.
    Reloads(Duration),
    /// SIGHUP with a file that is wrong.
    ReloadMistakes,
    /// SIGHUP with another file, and SIGKILL after so long.
    ReloadAndCrash(Duration),
    /// `shedder attach` where no daemon is.
    Attach,
    /// `shedder attach` that is killed after so long.
    AttachAndCrash(Duration),
    /// Somebody removes the pins of the maps while the daemon is alive.
    LosePins,
    /// The interface has another name for so long.
    Rename(Duration),
    /// The interface is down for so long.
    Down(Duration),
    /// The interface is deleted and made again: before the daemon can notice, or after. Without a daemon, one starts then.
    MakeAgain {
        at_once: bool,
    },
    Kill {
        total: bool,
        lasting: Option<Duration>,
    },
    Resume,
    /// A `kill` or a `resume` that is killed after so long.
    CommandCrash {
        kill: bool,
        after: Duration,
    },
    Shed(u32),
    Auto,
}

impl Fault {
    /// One that can happen now.
    pub(crate) fn choose(random: &mut Random, world: &World<'_>) -> Fault {
        loop {
            let soon = Duration::from_millis(random.below(300) as u64);
            let fault = match random.below(24) {
                0 | 1 => Fault::Crash,
                2 => Fault::Stop,
                3 => Fault::Continue,
                4 => Fault::Terminate,
                5..=7 => Fault::Start,
                8 => Fault::StartAndCrash(soon),
                9 => Fault::StartSecond,
                10 => Fault::Reload,
                11 => Fault::ReloadMistakes,
                12 => Fault::ReloadAndCrash(soon),
                13 if random.below(2) == 0 => Fault::Attach,
                13 => Fault::AttachAndCrash(soon),
                14 => Fault::LosePins,
                15 => Fault::Kill { total: random.below(3) == 0, lasting: None },
                16 => Fault::Kill { total: false, lasting: Some(Duration::from_secs(1) + soon * 2) },
                17 => Fault::Resume,
                18 => Fault::CommandCrash { kill: random.below(2) == 0, after: soon / 10 },
                19 => Fault::Reloads(soon / 3),
                20 => Fault::Rename(soon),
                21 => Fault::Down(soon),
                22 => Fault::MakeAgain { at_once: random.below(2) == 0 },
                _ if random.below(2) == 0 => Fault::Shed(10 + random.below(80) as u32),
                _ => Fault::Auto,
            };
            if fault.can_happen(world) {
                return fault;
            }
        }
    }

    fn can_happen(self, world: &World<'_>) -> bool {
        match self {
            Fault::Crash => !matches!(world.daemon, Daemon::Dead { .. }),
            Fault::Stop
            | Fault::Terminate
            | Fault::StartSecond
            | Fault::Reload
            | Fault::Reloads(_)
            | Fault::ReloadMistakes
            | Fault::ReloadAndCrash(_)
            | Fault::Rename(_)
            | Fault::LosePins => matches!(world.daemon, Daemon::Alive(_)),
            Fault::MakeAgain { .. } => !matches!(world.daemon, Daemon::Stopped { .. }),
            Fault::Continue => matches!(world.daemon, Daemon::Stopped { .. }),
            Fault::Start | Fault::StartAndCrash(_) | Fault::Attach | Fault::AttachAndCrash(_) => {
                matches!(world.daemon, Daemon::Dead { .. })
            }
            Fault::Down(_)
            | Fault::Kill { .. }
            | Fault::Resume
            | Fault::CommandCrash { .. }
            | Fault::Shed(_)
            | Fault::Auto => true,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Crash => f.write_str("the daemon is killed"),
            Fault::Stop => f.write_str("the daemon is stopped"),
            Fault::Continue => f.write_str("the daemon goes on"),
            Fault::Terminate => f.write_str("the daemon is asked to end"),
            Fault::Start => f.write_str("a daemon starts"),
            Fault::StartAndCrash(after) => write!(f, "a daemon starts, and is killed after {after:?}"),
            Fault::StartSecond => f.write_str("a second daemon starts"),
            Fault::Reload => f.write_str("another configuration"),
            Fault::Reloads(apart) => write!(f, "three other configurations, {apart:?} apart"),
            Fault::Rename(after) => write!(f, "the interface is renamed, and back after {after:?}"),
            Fault::Down(after) => write!(f, "the interface goes down, and up after {after:?}"),
            Fault::MakeAgain { at_once: true } => {
                f.write_str("the interface is deleted and made again at once")
            }
            Fault::MakeAgain { at_once: false } => {
                f.write_str("the interface is deleted, and made again when that is noticed")
            }
            Fault::ReloadMistakes => f.write_str("a configuration with mistakes"),
            Fault::ReloadAndCrash(after) => {
                write!(f, "another configuration, and the daemon is killed after {after:?}")
            }
            Fault::Attach => f.write_str("attach, without a daemon"),
            Fault::AttachAndCrash(after) => write!(f, "attach, which is killed after {after:?}"),
            Fault::LosePins => f.write_str("the pins of the maps are removed"),
            Fault::Kill { total, lasting } => {
                f.write_str(if *total { "kill --total" } else { "kill" })?;
                lasting.map_or(Ok(()), |lasting| write!(f, " --for {lasting:?}"))
            }
            Fault::Resume => f.write_str("resume"),
            Fault::CommandCrash { kill, after } => {
                write!(f, "{}, which is killed after {after:?}", if *kill { "kill" } else { "resume" })
            }
            Fault::Shed(percent) => write!(f, "shed {percent}"),
            Fault::Auto => f.write_str("auto"),
        }
    }
}
