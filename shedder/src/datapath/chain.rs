//! The chain of programs that judge what leaves an interface (tcx). The first that does not hand on decides, so that whoever
//! stands before shedder's program can let pass what a kill stops. On the way in there is one program only.

use super::pins::{Pins, Way};
use super::sys::{self, Chained};
use std::fmt;
use std::io;
use std::os::fd::AsFd;

/// A program of somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Its id.
    pub id: u32,
    /// Its name; none: it has none, or may not be opened.
    pub name: Option<String>,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program {}", self.id)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

/// The programs of others that judge what leaves an interface of the caller's network namespace before shedder's does, the first
/// first. None where shedder is not in the chain, or the kernel has none: where it is attached by a filter.
pub(super) fn before_ours(pins: &Pins, slot: usize, interface: u32) -> io::Result<Option<Vec<Foreign>>> {
    let Ok(link) = sys::get_pinned(&pins.link(Way::Egress, slot)) else { return Ok(None) };
    let link = sys::link_state(link.as_fd())?.link;
    // A run that died may have put another of ours first.
    let is_ours =
        |entry: &Chained| entry.link == link || pins.own_program(Way::Egress, slot, entry.program).is_some();
    let chain = sys::tcx_on_the_way_out(interface)?;
    let Some(first) = chain.iter().position(is_ours) else { return Ok(None) };
    let foreign = |entry: &Chained| Foreign {
        id: entry.program,
        name: sys::program_name(entry.program).ok().filter(|name| !name.is_empty()),
    };
    Ok(Some(chain[..first].iter().map(foreign).collect()))
}
