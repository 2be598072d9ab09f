//! What the kernel counted on the server, whoever decided.

use anyhow::{Context, Result};
use shedder_tests::netns::Network;
use std::fs;

/// What arrived at the server's interface, and what of it reached a protocol of its stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Frames that the interface took in, dropped by a program or not.
    pub(crate) arrived: u64,
    /// IP packets that nothing stopped.
    pub(crate) delivered: u64,
}

impl Counted {
    pub(crate) fn read(network: &Network) -> Result<Counted> {
        let interface = network.link().interface.as_str();
        // What /proc shows depends on the thread that looks.
        network.server.run(|| {
            let read = |name: &str| {
                let path = format!("/proc/thread-self/net/{name}");
                fs::read_to_string(&path).with_context(|| format!("reading {path}"))
            };
            let delivered = delivered4(&read("snmp")?).context("no InDelivers in snmp")?
                + delivered6(&read("snmp6")?).context("no Ip6InDelivers in snmp6")?;
            let arrived =
                arrived(&read("dev")?, interface).with_context(|| format!("no {interface} in dev"))?;
            Ok(Counted { arrived, delivered })
        })?
    }

    pub(crate) fn since(self, before: Counted) -> Counted {
        Counted { arrived: self.arrived - before.arrived, delivered: self.delivered - before.delivered }
    }
}

fn arrived(text: &str, interface: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn delivered4(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|name| name == "InDelivers")?;
    values.split_whitespace().nth(at)?.parse().ok()
}

fn delivered6(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("Ip6InDelivers"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let dev = "Inter-|   Receive\n face |bytes packets\n    lo: 10 2 0\n veth0: 640 7 0 0\n";
        assert_eq!(arrived(dev, "veth0"), Some(7));
        assert_eq!(arrived(dev, "veth1"), None);
        let snmp = "Ip: Forwarding InDelivers OutRequests\nIp: 2 41 3\nIcmp: InMsgs\nIcmp: 1\n";
        assert_eq!(delivered4(snmp), Some(41));
        assert_eq!(delivered6("Ip6InReceives \t5\nIp6InDelivers        \t6\n"), Some(6));
    }
}
