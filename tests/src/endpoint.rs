//! The daemon's endpoint, asked from inside a namespace.

use crate::netns::Namespace;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Where it is unless configured.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9477);

/// Asks for `path`. The status and the body; an error where nobody answers.
pub fn get(namespace: &Namespace, path: &str) -> Result<(u16, String)> {
    namespace.run(|| {
        let patience = Some(Duration::from_secs(10));
        let mut stream = TcpStream::connect(ADDRESS).context("connecting to the endpoint")?;
        stream.set_read_timeout(patience)?;
        stream.write_all(
            format!("GET {path} HTTP/1.1\r\nhost: {ADDRESS}\r\nconnection: close\r\n\r\n").as_bytes(),
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("reading the endpoint's answer")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer without an end of its head")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.with_context(|| format!("an answer without a status: {head}"))?, body.to_owned()))
    })?
}

/// Whether a daemon is there and ready.
pub fn is_ready(namespace: &Namespace) -> bool {
    get(namespace, "/readyz").is_ok_and(|(status, _)| status == 200)
}

/// The value of a sample in `/metrics`, named with its labels as they are exposed.
pub fn metric(namespace: &Namespace, sample: &str) -> Result<f64> {
    let (_, body) = get(namespace, "/metrics")?;
    let line = body.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.with_context(|| format!("there is no {sample} in:\n{body}"))?
        .trim()
        .parse()
        .context("a sample's value")
}
