//! Kinds of values that name something outside the file: interfaces, services, prefixes, sockets, probes.

use super::kind::{Scalar, abridged, quoted};
use super::model::ProbeTarget;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use toml::de::DeValue;

/// The name of an interface, as the kernel allows it (`dev_valid_name`).
pub(super) struct InterfaceName;

impl Scalar for InterfaceName {
    type Value = String;

    fn convert(&self, value: &DeValue<'_>) -> Result<String, String> {
        let is_allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
        match value.as_str() {
            Some(name)
                if (1..=15).contains(&name.len())
                    && name.chars().all(is_allowed)
                    && name != "."
                    && name != ".." =>
            {
                Ok(name.to_owned())
            }
            _ => Err(self.wrong(value)),
        }
    }

    fn write(&self, value: &String) -> String {
        quoted(value)
    }

    fn describe(&self) -> String {
        "the name of an interface: 1 to 15 bytes, without blanks, \"/\" and \":\"".into()
    }
}

/// The name of a service.
pub(super) struct ServiceName;

impl Scalar for ServiceName {
    type Value = String;

    fn convert(&self, value: &DeValue<'_>) -> Result<String, String> {
        let is_allowed = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
        match value.as_str() {
            Some(name) if (1..=31).contains(&name.len()) && name.bytes().all(is_allowed) => {
                Ok(name.to_owned())
            }
            _ => Err(self.wrong(value)),
        }
    }

    fn write(&self, value: &String) -> String {
        quoted(value)
    }

    fn describe(&self) -> String {
        "a name: 1 to 31 of a-z, A-Z, 0-9, \"-\", \"_\" and \".\"".into()
    }
}

/// An IPv4 or IPv6 prefix; an address is the prefix of that address alone.
pub(super) struct Prefix;

impl Scalar for Prefix {
    type Value = IpNet;

    fn convert(&self, value: &DeValue<'_>) -> Result<IpNet, String> {
        let Some(text) = value.as_str() else { return Err(self.wrong(value)) };
        let prefix = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
            (Ok(prefix), _) => prefix,
            (_, Ok(address)) => IpNet::from(address),
            _ => return Err(self.wrong(value)),
        };
        if prefix.trunc() != prefix {
            return Err(format!(
                "{text} has bits set past its length: write \"{}\" for the whole prefix or \"{}\" for the one address",
                prefix.trunc(),
                prefix.addr()
            ));
        }
        if let IpAddr::V6(address) = prefix.addr()
            && prefix.prefix_len() >= 96
            && let Some(address) = address.to_ipv4_mapped()
        {
            let length = prefix.prefix_len() - 96;
            return Err(format!("{text} is no address that a packet carries: write \"{address}/{length}\""));
        }
        Ok(prefix)
    }

    fn write(&self, value: &IpNet) -> String {
        quoted(&value.to_string())
    }

    fn describe(&self) -> String {
        "an IPv4 or IPv6 prefix or address, as in \"192.0.2.0/24\" or \"2001:db8::1\"".into()
    }
}

/// The address that a socket listens on, or none.
pub(super) struct Listen;

const NO_SOCKET: &str = "none";

impl Scalar for Listen {
    type Value = Option<SocketAddr>;

    fn convert(&self, value: &DeValue<'_>) -> Result<Option<SocketAddr>, String> {
        match value.as_str() {
            Some(NO_SOCKET) => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| self.wrong(value)),
            None => Err(self.wrong(value)),
        }
    }

    fn write(&self, value: &Option<SocketAddr>) -> String {
        value.map_or_else(|| quoted(NO_SOCKET), |address| quoted(&address.to_string()))
    }

    fn describe(&self) -> String {
        "an IP address and a port, as in \"127.0.0.1:9477\" or \"[::1]:9477\", or \"none\"".into()
    }
}

/// The path of a Unix socket.
pub(super) struct SocketPath;

impl Scalar for SocketPath {
    type Value = PathBuf;

    fn convert(&self, value: &DeValue<'_>) -> Result<PathBuf, String> {
        match value.as_str() {
            Some(path) if path.len() <= 107 && path.starts_with('/') && !path.contains('\0') => {
                Ok(path.into())
            }
            _ => Err(self.wrong(value)),
        }
    }

    fn write(&self, value: &PathBuf) -> String {
        quoted(&value.to_string_lossy())
    }

    fn describe(&self) -> String {
        "an absolute path of at most 107 bytes".into()
    }
}

/// What a probe asks, as a URL.
pub(super) struct ProbeUrl;

impl Scalar for ProbeUrl {
    type Value = ProbeTarget;

    fn convert(&self, value: &DeValue<'_>) -> Result<ProbeTarget, String> {
        let Some(text) = value.as_str() else { return Err(self.wrong(value)) };
        if let Some(rest) = text.strip_prefix("http://") {
            http_target(rest)
        } else if let Some(rest) = text.strip_prefix("tcp://") {
            tcp_target(rest)
        } else if text.starts_with("https://") {
            Err("probes do not speak TLS: time the opening of a connection with \"tcp://ADDRESS:PORT\", or let the \
                 application tell its latency with kind = \"push\""
                .into())
        } else {
            Err(self.wrong(value))
        }
    }

    fn write(&self, value: &ProbeTarget) -> String {
        quoted(&match value {
            ProbeTarget::Http { host, path, .. } => format!("http://{host}{path}"),
            ProbeTarget::Tcp { address } => format!("tcp://{address}"),
        })
    }

    fn describe(&self) -> String {
        "\"http://ADDRESS:PORT/PATH\" or \"tcp://ADDRESS:PORT\"".into()
    }
}

fn http_target(rest: &str) -> Result<ProbeTarget, String> {
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let Authority { host, address, port } = Authority::parse(authority)?;
    let path = match path {
        "" => "/",
        _ if !path.starts_with('/') => return Err(format!("has no \"/\" before {}", abridged(path))),
        _ if path.contains('#') => return Err("has a \"#\" part, which is never sent: leave it out".into()),
        _ if !path.bytes().all(|byte| byte.is_ascii_graphic()) => {
            return Err("has a path with blanks or characters outside ASCII: write them as %XX".into());
        }
        _ => path,
    };
    let host = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    let address = SocketAddr::new(address, port.unwrap_or(80));
    Ok(ProbeTarget::Http { address, host, path: path.to_owned() })
}

fn tcp_target(rest: &str) -> Result<ProbeTarget, String> {
    if rest.contains('/') {
        return Err(
            "has a path, which a TCP connection has no use for: must be \"tcp://ADDRESS:PORT\"".into()
        );
    }
    let authority = Authority::parse(rest)?;
    let port = authority.port.ok_or("has no port: must be \"tcp://ADDRESS:PORT\"")?;
    Ok(ProbeTarget::Tcp { address: SocketAddr::new(authority.address, port) })
}

/// The part of a URL that says where to connect.
struct Authority {
    /// Without the port; an IPv6 address in brackets.
    host: String,
    address: IpAddr,
    port: Option<u16>,
}

impl Authority {
    fn parse(text: &str) -> Result<Authority, String> {
        if text.contains('@') {
            return Err("has a user name, which is never sent: leave out all up to the \"@\"".into());
        }
        if let Some((host, port)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
            let Ok(address) = host.parse::<Ipv6Addr>() else {
                return Err(format!("has {} in brackets, which is no IPv6 address", abridged(host)));
            };
            let port = match port.strip_prefix(':') {
                Some(port) => Some(parse_port(port)?),
                None if port.is_empty() => None,
                None => {
                    return Err(format!("has {} after the IPv6 address, which is no port", abridged(port)));
                }
            };
            return Ok(Authority { host: format!("[{address}]"), address: address.into(), port });
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(format!("has an IPv6 address without brackets: write \"[{text}]\""));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (text, None),
        };
        let host = host.to_ascii_lowercase();
        let address = match host.parse::<Ipv4Addr>() {
            Ok(address) => address,
            Err(_) if host == "localhost" => Ipv4Addr::LOCALHOST,
            Err(_) if host.is_empty() => return Err(format!("has no host: must be {}", ProbeUrl.describe())),
            Err(_) => {
                return Err(format!(
                    "names the host {}: must be an IP address or localhost, because a loop that waits for a resolver \
                     is slower than the failure",
                    abridged(&host)
                ));
            }
        };
        Ok(Authority { host, address: address.into(), port })
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    let digits_only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if port != 0 && digits_only => Ok(port),
        _ => Err(format!("has the port {}: must be a whole number from 1 to 65_535", abridged(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert<S: Scalar>(kind: &S, text: &str) -> Result<S::Value, String> {
        kind.convert(&DeValue::String(text.into()))
    }

    #[track_caller]
    fn assert_refused<S: Scalar<Value: std::fmt::Debug>>(kind: &S, text: &str, because: &str) {
        let refusal = convert(kind, text).expect_err("it should be refused");
        assert!(refusal.contains(because), "{text:?}: {refusal}");
    }

    #[test]
    fn interface_names() {
        for name in ["eth0", "a", "veth-0123456789", "br.10", "wlp3s0f0"] {
            assert_eq!(convert(&InterfaceName, name).as_deref(), Ok(name));
        }
        for name in ["", ".", "..", "a/b", "eth0:1", "a b", "veth-01234567890", "a\u{7f}"] {
            assert!(convert(&InterfaceName, name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn service_names() {
        for name in ["api", "A-1_b.c", "1234567890123456789012345678901"] {
            assert_eq!(convert(&ServiceName, name).as_deref(), Ok(name));
        }
        for name in ["", "a b", "é", "12345678901234567890123456789012"] {
            assert!(convert(&ServiceName, name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn prefixes() {
        assert_eq!(convert(&Prefix, "192.0.2.0/24"), Ok("192.0.2.0/24".parse().unwrap()));
        assert_eq!(convert(&Prefix, "192.0.2.1"), Ok("192.0.2.1/32".parse().unwrap()));
        assert_eq!(convert(&Prefix, "2001:db8::"), Ok("2001:db8::/128".parse().unwrap()));
        assert_eq!(convert(&Prefix, "::/0"), Ok("::/0".parse().unwrap()));
        assert_refused(&Prefix, "192.0.2.1/24", "\"192.0.2.0/24\" for the whole prefix or \"192.0.2.1\"");
        assert_refused(&Prefix, "::ffff:192.0.2.0/120", "write \"192.0.2.0/24\"");
        for text in
            ["", "192.0.2.0/33", "192.0.2/24", "example.org", "fe80::1%eth0", "192.0.2.0/255.255.255.0"]
        {
            assert!(convert(&Prefix, text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sockets() {
        assert_eq!(convert(&Listen, "none"), Ok(None));
        assert_eq!(convert(&Listen, "[::1]:0"), Ok(Some("[::1]:0".parse().unwrap())));
        assert_refused(&Listen, "localhost:9477", "an IP address and a port");
        assert_refused(&Listen, "127.0.0.1", "an IP address and a port");
        assert_eq!(convert(&SocketPath, "/run/a.sock"), Ok("/run/a.sock".into()));
        assert_refused(&SocketPath, "a.sock", "absolute");
        assert_refused(&SocketPath, &format!("/{}", "x".repeat(107)), "107");
    }

    fn http(address: &str, host: &str, path: &str) -> ProbeTarget {
        ProbeTarget::Http { address: address.parse().unwrap(), host: host.into(), path: path.into() }
    }

    #[test]
    fn probes_that_are_accepted() {
        for (url, target) in [
            ("http://127.0.0.1:8080/", http("127.0.0.1:8080", "127.0.0.1:8080", "/")),
            ("http://127.0.0.1:8080", http("127.0.0.1:8080", "127.0.0.1:8080", "/")),
            ("http://LocalHost/a?b=c/d", http("127.0.0.1:80", "localhost", "/a?b=c/d")),
            ("http://[::1]:80/x", http("[::1]:80", "[::1]:80", "/x")),
            ("http://[::1]", http("[::1]:80", "[::1]", "/")),
            ("tcp://127.0.0.1:5432", ProbeTarget::Tcp { address: "127.0.0.1:5432".parse().unwrap() }),
            ("tcp://[2001:db8::1]:1", ProbeTarget::Tcp { address: "[2001:db8::1]:1".parse().unwrap() }),
        ] {
            assert_eq!(convert(&ProbeUrl, url), Ok(target), "{url}");
        }
    }

    #[test]
    fn probes_that_are_refused() {
        for (url, because) in [
            ("https://127.0.0.1/", "TLS"),
            ("ftp://127.0.0.1/", "must be"),
            ("127.0.0.1:80", "must be"),
            ("http://example.org/", "resolver"),
            ("http://:80/", "no host"),
            ("http:///", "no host"),
            ("http://user@127.0.0.1/", "user name"),
            ("http://::1/", "brackets"),
            ("http://[::1", "port"),
            ("http://[1.2.3.4]/", "no IPv6 address"),
            ("http://[::1]8/", "no port"),
            ("http://127.0.0.1:0/", "port"),
            ("http://127.0.0.1:+80/", "port"),
            ("http://127.0.0.1:65536/", "port"),
            ("http://127.0.0.1:/", "port"),
            ("http://127.0.0.1?a", "\"/\""),
            ("http://127.0.0.1/#a", "\"#\""),
            ("http://127.0.0.1/a b", "%XX"),
            ("http://127.0.0.1/é", "%XX"),
            ("http://127.0.0.1/\r\nX: y", "%XX"),
            ("tcp://127.0.0.1", "no port"),
            ("tcp://127.0.0.1:1/", "path"),
            ("tcp://example.org:1", "resolver"),
        ] {
            assert_refused(&ProbeUrl, url, because);
        }
    }
}
