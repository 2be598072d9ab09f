//! What holds a program on an interface: a link, which is pinned; or, on the way out where the kernel has no tcx, a
//! filter.

use super::fault;
use super::filter::{Filter, Owner};
use super::load::io_error_of;
use super::sys;
use anyhow::{Context, Result};
use aya::programs::links::{FdLink, LinkOrder};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What holds a program on an interface.
pub(super) enum Hold {
    /// Of XDP, or tcx.
    Link(OwnedFd),
    /// Of clsact.
    Filter(Filter),
}

impl Hold {
    /// The pinned link, if it is there and holds the interface.
    pub(super) fn by_link(pin: &Path, interface: u32) -> Result<Option<Hold>> {
        let link = match sys::get_pinned(pin) {
            Ok(link) => link,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", pin.display())),
        };
        let state =
            sys::link_state(link.as_fd()).with_context(|| format!("cannot read {}", pin.display()))?;
        Ok((state.interface == interface).then_some(Hold::Link(link)))
    }

    /// What holds the way out of the interface, by a link or a filter.
    pub(super) fn on_the_way_out(pin: &Path, interface: u32, owner: Owner) -> Result<Option<Hold>> {
        if let Some(link) = Hold::by_link(pin, interface)? {
            return Ok(Some(link));
        }
        let filter = Filter::find(interface, owner).context("cannot read the filters on the way out")?;
        Ok(filter.map(Hold::Filter))
    }

    /// The id of the program that is held.
    pub(super) fn program(&self) -> io::Result<u32> {
        match self {
            Hold::Link(link) => sys::link_state(link.as_fd()).map(|state| state.program),
            Hold::Filter(filter) => Ok(filter.program),
        }
    }

    /// Puts another program in its place, in one step.
    pub(super) fn replace(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Hold::Link(link) => sys::link_update(link.as_fd(), program),
            Hold::Filter(filter) => filter.replace(program),
        }
    }
}

/// Attaches the egress program: by a link, which is pinned, or where the kernel has none for it by a filter, which is
/// returned.
pub(super) fn attach_on_the_way_out(
    program: &mut SchedClassifier,
    (name, interface): (&str, u32),
    pin: &Path,
    owner: Owner,
) -> Result<Option<Filter>> {
    // What a kernel without tcx says to a place that it does not know.
    let has_no_tcx = |error: &anyhow::Error| {
        let refused: Option<&ProgramError> = error.downcast_ref();
        refused.and_then(|refused| io_error_of(refused)?.raw_os_error()) == Some(libc::EINVAL)
    };
    match link_first(program, name, pin) {
        Ok(()) => Ok(None),
        Err(error) if has_no_tcx(&error) => {
            tracing::info!(
                interface = name,
                "the kernel has no tcx (Linux 6.6): a filter of a clsact qdisc judges what leaves"
            );
            Filter::attach(interface, owner, program.fd()?.as_fd()).map(Some)
        }
        Err(error) => Err(error),
    }
}

/// Attaches the egress program by a link, before all that judge what leaves, and pins the link.
pub(super) fn link_first(program: &mut SchedClassifier, name: &str, pin: &Path) -> Result<()> {
    fault::point()?;
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program
        .attach_with_options(name, TcAttachType::Egress, options)
        .context("the kernel refused the tcx program")?;
    let link: FdLink = program.take_link(id)?.try_into().context("the kernel made no tcx link")?;
    fault::point()?;
    link.pin(pin).context("cannot pin the egress link")?;
    Ok(())
}
