//! A program on the way out by a filter of a clsact qdisc: where the kernel has no tcx, before Linux 6.6.
//!
//! A filter is no object of its own that could be pinned: it lies at a place on its interface, goes with the
//! interface, and is found only in the interface's network namespace. Ours lies at a fixed place, and its name says
//! whose it is. The kernel puts another program at the place in one step, so that no packet sees none.

use super::netlink::ask;
use anyhow::{Context, Result, anyhow};
use aya_obj::generated::{TCA_BPF_FD, TCA_BPF_FLAG_ACT_DIRECT, TCA_BPF_FLAGS, TCA_BPF_ID, TCA_BPF_NAME};
use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Nla, NlasIterator};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcHeader, TcMessage, TcOption};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The first of all filters, as with tcx: one before it could let pass what a kill stops.
const PRIORITY: u16 = 1;
/// Ours among the filters of that priority: "shed".
const HANDLE: u32 = 0x7368_6564;
/// Of the qdisc that has a way in and a way out.
const CLSACT: TcHandle = TcHandle { major: 0xffff, minor: 0 };
const WAY_IN: TcHandle = TcHandle { major: 0xffff, minor: TcHandle::MIN_INGRESS };
const WAY_OUT: TcHandle = TcHandle { major: 0xffff, minor: TcHandle::MIN_EGRESS };

/// Whose a filter is: the kernel's id of the map [`META`](shedder_common::abi::maps::META) of a directory of pins.
pub(super) type Owner = u32;

/// A filter of ours, as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    interface: u32,
    /// The id of its program.
    pub(super) program: u32,
    name: Name,
}

/// What a filter is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    owner: Owner,
    /// Whether the qdisc was made for it, and goes with the last filter.
    made_qdisc: bool,
}

impl Name {
    fn text(self) -> String {
        format!("shedder:{}{}", self.owner, if self.made_qdisc { ":clsact" } else { "" })
    }

    fn parse(text: &str) -> Option<Name> {
        let owner = text.strip_prefix("shedder:")?;
        let (owner, made_qdisc) = match owner.strip_suffix(":clsact") {
            Some(owner) => (owner, true),
            None => (owner, false),
        };
        Some(Name { owner: owner.parse().ok()?, made_qdisc })
    }
}

impl Filter {
    /// The filter of this owner on an interface of the caller's network namespace.
    pub(super) fn find(interface: u32, owner: Owner) -> io::Result<Option<Filter>> {
        let request = message(interface, WAY_OUT, HANDLE, Vec::new());
        let answers = match ask(RouteNetlinkMessage::GetTrafficFilter(request), 0) {
            Ok(answers) => answers,
            // No filter there, none of this kind, no qdisc, no interface.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let found = answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewTrafficFilter(filter) => read(interface, filter),
            _ => None,
        });
        Ok(found.filter(|found| found.name.owner == owner))
    }

    /// Puts a program on the way out of an interface that has none of this owner's.
    ///
    /// # Errors
    /// A sentence, where the kernel has no such filters, or another kind of filter lies where ours must.
    pub(super) fn attach(interface: u32, owner: Owner, program: BorrowedFd<'_>) -> Result<Filter> {
        let made_qdisc = make_qdisc(interface)?;
        let name = Name { owner, made_qdisc };
        let filter = Filter { interface, program: 0, name };
        match filter.put(program, NLM_F_CREATE) {
            Ok(()) => {}
            Err(error) => {
                // The error to tell is the first.
                let _ = filter.remove_qdisc();
                return Err(match error.raw_os_error() {
                    Some(libc::EINVAL) => anyhow!(
                        "a filter of another kind has priority {PRIORITY} on the way out, where shedder's must be: move \
                         it behind, as `tc filter` shows it"
                    ),
                    Some(libc::ENOENT) => anyhow!(
                        "this kernel has neither tcx (Linux 6.6) nor filters that are programs: load its module cls_bpf"
                    ),
                    _ => anyhow!(error).context("the kernel refused the filter on the way out"),
                });
            }
        }
        Filter::find(interface, owner)?.context("the filter on the way out is not there")
    }

    /// Puts another program in place of this one, in one step.
    pub(super) fn replace(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        self.put(program, 0)
    }

    fn put(&self, program: BorrowedFd<'_>, flags: u16) -> io::Result<()> {
        let mut name = self.name.text().into_bytes();
        name.push(0);
        let option = |kind: u32, value: Vec<u8>| TcOption::Other(DefaultNla::new(kind as u16, value));
        let options = vec![
            option(TCA_BPF_FD, program.as_raw_fd().to_ne_bytes().to_vec()),
            option(TCA_BPF_NAME, name),
            // What the program returns is the verdict.
            option(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes().to_vec()),
        ];
        let attributes = vec![TcAttribute::Kind("bpf".into()), TcAttribute::Options(options)];
        let request = message(self.interface, WAY_OUT, HANDLE, attributes);
        ask(RouteNetlinkMessage::NewTrafficFilter(request), flags).map(drop)
    }

    /// Takes it off its interface, and the qdisc with it where that was made for it and nobody else uses it.
    pub(super) fn remove(&self) -> io::Result<()> {
        let request = message(self.interface, WAY_OUT, HANDLE, vec![TcAttribute::Kind("bpf".into())]);
        ask(RouteNetlinkMessage::DelTrafficFilter(request), 0)?;
        self.remove_qdisc()
    }

    fn remove_qdisc(&self) -> io::Result<()> {
        if !self.name.made_qdisc
            || has_filters(self.interface, WAY_IN)?
            || has_filters(self.interface, WAY_OUT)?
        {
            return Ok(());
        }
        ask(RouteNetlinkMessage::DelQueueDiscipline(qdisc(self.interface)), 0).map(drop)
    }
}

/// Removes every filter of this owner in the caller's network namespace but those on interfaces to `keep`.
pub(super) fn sweep(owner: Owner, keep: impl Fn(u32) -> bool) -> Result<()> {
    let interfaces = nix::net::if_::if_nameindex().context("cannot list the interfaces")?;
    for interface in interfaces.iter().map(|interface| interface.index()).filter(|index| !keep(*index)) {
        if let Some(filter) = Filter::find(interface, owner)? {
            filter.remove().context("cannot remove a filter on the way out")?;
        }
    }
    Ok(())
}

/// Makes sure that an interface has a clsact qdisc. Returns whether it had none.
fn make_qdisc(interface: u32) -> Result<bool> {
    let make = |flags| ask(RouteNetlinkMessage::NewQueueDiscipline(qdisc(interface)), NLM_F_CREATE | flags);
    match make(NLM_F_EXCL) {
        Ok(_) => return Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            return Err(anyhow!(
                "this kernel has neither tcx (Linux 6.6) nor the clsact qdisc: load its module sch_ingress"
            ));
        }
        Err(error) => return Err(anyhow!(error).context("the kernel refused the clsact qdisc")),
    }
    // An ingress qdisc lies at the same place, and would take a filter for the way out on the way in.
    make(0).map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => anyhow!(
            "an ingress qdisc is on the interface, where without tcx (Linux 6.6) a clsact qdisc is needed: replace it"
        ),
        _ => anyhow!(error).context("the kernel refused the clsact qdisc"),
    })?;
    Ok(false)
}

fn has_filters(interface: u32, way: TcHandle) -> io::Result<bool> {
    let request = TcMessage::from_parts(
        TcHeader { index: interface as i32, parent: way, ..TcHeader::default() },
        Vec::new(),
    );
    ask(RouteNetlinkMessage::GetTrafficFilter(request), NLM_F_DUMP).map(|filters| !filters.is_empty())
}

fn qdisc(interface: u32) -> TcMessage {
    let header =
        TcHeader { index: interface as i32, handle: CLSACT, parent: TcHandle::CLSACT, ..TcHeader::default() };
    TcMessage::from_parts(header, vec![TcAttribute::Kind("clsact".into())])
}

fn message(interface: u32, way: TcHandle, handle: u32, attributes: Vec<TcAttribute>) -> TcMessage {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    let header = TcHeader {
        index: interface as i32,
        handle: handle.into(),
        parent: way,
        info: u32::from(PRIORITY) << 16 | u32::from(protocol),
        ..TcHeader::default()
    };
    TcMessage::from_parts(header, attributes)
}

/// A filter as the kernel describes it; none where it is none of shedder's.
fn read(interface: u32, message: &TcMessage) -> Option<Filter> {
    // Options that the library does not know come as one attribute, in which they are nested.
    let options = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => match &options[..] {
            [TcOption::Other(nested)] => Some(nested),
            _ => None,
        },
        _ => None,
    })?;
    let mut nested = vec![0; options.value_len()];
    options.emit_value(&mut nested);
    let (mut program, mut name) = (None, None);
    for option in NlasIterator::new(&nested[..]).flatten() {
        match u32::from(option.kind()) {
            TCA_BPF_ID => program = option.value().try_into().ok().map(u32::from_ne_bytes),
            TCA_BPF_NAME => {
                name = option
                    .value()
                    .strip_suffix(&[0])
                    .and_then(|name| str::from_utf8(name).ok())
                    .and_then(Name::parse)
            }
            _ => {}
        }
    }
    Some(Filter { interface, program: program?, name: name? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filters_name_says_whose_it_is_and_whether_the_qdisc_is_too() {
        for name in [Name { owner: 7, made_qdisc: false }, Name { owner: u32::MAX, made_qdisc: true }] {
            assert_eq!(Name::parse(&name.text()), Some(name));
        }
        for stranger in ["", "shedder", "shedder:", "shedder:x", "shedder:7:", "cls_bpf", "shedder_egress"] {
            assert_eq!(Name::parse(stranger), None, "{stranger}");
        }
    }
}
