//! The kernel's side: programs, links, pins, and typed handles on maps. The only place that knows aya.

mod attach;
mod by_cpu;
mod chain;
mod fault;
mod filter;
mod hold;
mod load;
mod mapped;
mod measured;
mod netlink;
mod object;
mod pins;
mod policy;
mod prefixes;
mod push_socket;
mod state;
mod sys;
mod turn;

pub use attach::{Datapath, interface_index};
pub use chain::Foreign;
pub use measured::Measurements;
pub use pins::Pins;
pub use push_socket::{AtPath, remove_dead_socket};
pub use state::{Attachment, InterfaceState, OfferedWork, Scope, ServiceState, State};
pub use sys::monotonic;
pub use turn::{Turn, insist};

use std::fmt;
use std::path::PathBuf;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the driver, before a buffer is allocated.
    Native,
    /// In the stack, on a buffer: slower, and possible on every driver.
    Generic,
}

impl AttachedMode {
    /// The word for it in status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            AttachedMode::Native => "native",
            AttachedMode::Generic => "generic",
        }
    }

    fn to_abi(self) -> u32 {
        match self {
            AttachedMode::Native => 1,
            AttachedMode::Generic => 2,
        }
    }

    fn from_abi(mode: u32) -> AttachedMode {
        if mode == 1 { AttachedMode::Native } else { AttachedMode::Generic }
    }
}

/// Nothing of shedder is attached.
#[derive(Debug)]
pub struct NotAttached {
    root: PathBuf,
}

impl NotAttached {
    /// Nothing under these pins.
    pub fn under(pins: &Pins) -> NotAttached {
        NotAttached { root: pins.root().to_owned() }
    }
}

impl fmt::Display for NotAttached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "nothing is attached: there are no pins under {}; start `shedder run` or `shedder attach`, or name the \
             directory with --bpffs",
            self.root.display()
        )
    }
}

impl std::error::Error for NotAttached {}
