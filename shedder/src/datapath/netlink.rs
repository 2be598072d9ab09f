//! What only netlink tells and does.

use super::AttachedMode;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;

/// Asks the kernel for something, with these flags besides those that every request has. Returns its answers, which may
/// be none, once it has said that they are all.
///
/// # Errors
/// The kernel's, as a number of the system.
pub(super) fn ask(message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = NetlinkMessage::from(message);
    // A dump ends with a word of its own.
    let end = if flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
    request.header.flags = NLM_F_REQUEST | flags | end;
    request.finalize();
    let mut buffer = vec![0; request.buffer_len()];
    request.serialize(&mut buffer);
    socket.send(&buffer, 0)?;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let answer =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
            let length = (answer.header.length as usize).next_multiple_of(4).min(rest.len());
            rest = &rest[length..];
            match answer.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                _ => {}
            }
        }
    }
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct XdpProgram {
    pub(super) id: u32,
    pub(super) mode: AttachedMode,
}

/// The XDP program on an interface of the caller's network namespace, whoever attached it and by whatever way.
pub(super) fn xdp_on(interface: u32) -> io::Result<Option<XdpProgram>> {
    let mut link = LinkMessage::default();
    link.header.index = interface;
    let answers = ask(RouteNetlinkMessage::GetLink(link), 0)?;
    Ok(answers.iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => program_of(link),
        _ => None,
    }))
}

fn program_of(link: &LinkMessage) -> Option<XdpProgram> {
    let xdp = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => Some(xdp),
        _ => None,
    })?;
    let id = xdp.iter().find_map(|part| match part {
        LinkXdp::ProgId(id) if *id != 0 => Some(*id),
        _ => None,
    })?;
    let is_generic = xdp.contains(&LinkXdp::Attached(XdpAttached::SocketBuffer));
    let mode = if is_generic { AttachedMode::Generic } else { AttachedMode::Native };
    Some(XdpProgram { id, mode })
}
