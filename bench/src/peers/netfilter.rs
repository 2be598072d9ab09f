//! Netfilter's limits per source.

use super::{Peer, poll, run};
use crate::programs::Limit;
use crate::programs::plan::TABLE;
use crate::shape::{Layout, Shape};
use anyhow::{Context, Result, bail, ensure};
use shedder_tests::netns::Network;
use std::io::Write;
use std::process::Stdio;

/// Where a limit sits, and how it is put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// nft, at the interface's ingress, before IP looks at the packet.
    NftIngress,
    /// nft, where iptables' raw table is.
    NftPrerouting,
    /// hashlimit in the raw table, of the older kernel interface.
    IptablesLegacy,
    /// hashlimit in the raw table, by way of nftables.
    IptablesNft,
}

/// One of them.
pub(super) struct Netfilter {
    hook: Hook,
    is_ready: bool,
    network: Network,
}

impl Netfilter {
    pub(super) fn new(hook: Hook, network: Network) -> Netfilter {
        Netfilter { hook, is_ready: false, network }
    }

    /// Replaces the one table by a fresh one.
    fn nft(&self, layout: Layout, limit: Limit) -> Result<()> {
        let (source, kind) = match layout {
            Layout::V6 => ("ip6 saddr & ffff:ffff:ffff:ffff::", "ipv6_addr"),
            Layout::V4 | Layout::Tagged => ("ip saddr", "ipv4_addr"),
        };
        // At the interface's ingress a rule knows the frame's own protocol, and looks behind a tag where it is told to.
        let matched = match (self.hook, layout) {
            (Hook::NftIngress, Layout::Tagged) => "vlan type ip",
            (_, Layout::V6) => "meta protocol ip6",
            _ => "meta protocol ip",
        };
        let (table, hook) = match self.hook {
            Hook::NftIngress => {
                ("netdev bench", format!("ingress device {} priority 0", self.network.link().interface))
            }
            _ => ("inet bench", "prerouting priority raw".into()),
        };
        let (per_second, burst) = (limit.per_second, limit.burst);
        let lines = format!(
            "table {table} {{}}\n\
             delete table {table}\n\
             table {table} {{\n\
               set sources {{ type {kind}; size {TABLE}; flags dynamic, timeout; timeout 1m; }}\n\
               chain bench {{\n\
                 type filter hook {hook}; policy accept;\n\
                 {matched} add @sources {{ {source} limit rate over {per_second}/second burst {burst} packets }} \
                   counter drop\n\
               }}\n\
             }}\n"
        );
        let mut child = self
            .network
            .server
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("`nft` does not start: is it installed?")?;
        child.stdin.take().context("it is piped")?.write_all(lines.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "`nft -f -` ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Replaces the one rule by a fresh one.
    fn iptables(&self, variant: &str, layout: Layout, limit: Limit) -> Result<()> {
        let (program, mask) = match layout {
            Layout::V6 => (format!("ip6tables-{variant}"), 64),
            Layout::V4 | Layout::Tagged => (format!("iptables-{variant}"), 32),
        };
        run(&self.network.server, &format!("{program} -t raw -F PREROUTING"))?;
        let (per_second, burst) = (limit.per_second, limit.burst);
        run(
            &self.network.server,
            &format!(
                "{program} -t raw -A PREROUTING -m hashlimit --hashlimit-name bench --hashlimit-mode srcip \
                 --hashlimit-srcmask {mask} --hashlimit-above {per_second}/sec --hashlimit-burst {burst} \
                 --hashlimit-htable-size {TABLE} --hashlimit-htable-max {TABLE} --hashlimit-htable-expire 60000 -j DROP"
            ),
        )
    }
}

impl Peer for Netfilter {
    fn name(&self) -> &str {
        match self.hook {
            Hook::NftIngress => "nft limit per source, ingress",
            Hook::NftPrerouting => "nft limit per source, prerouting",
            Hook::IptablesLegacy => "iptables-legacy hashlimit, raw",
            Hook::IptablesNft => "iptables-nft hashlimit, raw",
        }
    }

    fn arm(&mut self, shape: &Shape, limit: Limit) -> Result<()> {
        if !self.is_ready {
            poll(&self.network)?;
            self.is_ready = true;
        }
        match self.hook {
            Hook::NftPrerouting | Hook::IptablesLegacy | Hook::IptablesNft
                if shape.layout == Layout::Tagged =>
            {
                bail!(
                    "sees no tagged packets unless a VLAN device takes the tag off, and this kernel may have none"
                )
            }
            Hook::NftIngress | Hook::NftPrerouting => self.nft(shape.layout, limit),
            Hook::IptablesLegacy => self.iptables("legacy", shape.layout, limit),
            Hook::IptablesNft => self.iptables("nft", shape.layout, limit),
        }
    }

    fn network(&self) -> &Network {
        &self.network
    }
}
