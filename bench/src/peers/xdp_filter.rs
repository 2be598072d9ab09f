//! xdp-tools' filter: a list of addresses that are dropped, not a limit.

use super::Peer;
use crate::programs::Limit;
use crate::shape::Shape;
use anyhow::{Result, ensure};
use shedder_tests::netns::Network;
use shedder_tests::process::Process;
use std::time::{Duration, Instant};

/// It denies the server's address, and so drops everything.
pub(super) struct XdpFilter {
    /// Keeps the directory of pins alive until it is dropped, without which the filter stops filtering.
    keeper: Option<Process>,
    network: Network,
}

impl XdpFilter {
    pub(super) fn new(network: Network) -> XdpFilter {
        XdpFilter { keeper: None, network }
    }
}

impl Peer for XdpFilter {
    fn name(&self) -> &str {
        "xdp-filter, address denied"
    }

    fn arm(&mut self, _: &Shape, _: Limit) -> Result<()> {
        if self.keeper.is_some() {
            return Ok(());
        }
        let link = self.network.link();
        // It knows one directory of pins only, the machine's: it is given another, in a mount namespace of its own.
        let script = format!(
            "set -e\n\
             mount -t bpf bpf /sys/fs/bpf\n\
             xdp-filter load {interface} -f ipv4,ipv6\n\
             xdp-filter ip {} -m dst\n\
             xdp-filter ip {} -m dst\n\
             echo ready\n\
             exec sleep 3600\n",
            link.server_v4(),
            link.server_v6(),
            interface = link.interface,
        );
        let mut command = self.network.server.command("unshare");
        command.args(["--mount", "sh", "-c", &script]);
        let mut keeper = self.network.start("xdp-filter", command)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while !keeper.output().ends_with("ready\n") {
            let ended = keeper.ended()?;
            ensure!(ended.is_none() && Instant::now() < deadline, "xdp-filter: {}", keeper.output().trim());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.keeper = Some(keeper);
        Ok(())
    }

    fn drops_all(&self) -> bool {
        true
    }

    fn network(&self) -> &Network {
        &self.network
    }
}
