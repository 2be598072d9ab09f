//! What a host could use in place of shedder, each at the same limit, and shedder itself.

mod design;
mod netfilter;
mod shedder;
mod tc;
mod xdp_filter;

pub(crate) use shedder::Subject;

use crate::counters::Counted;
use crate::programs::Limit;
use crate::shape::{Layout, Shape};
use crate::shed::Build;
use anyhow::{Context, Result, ensure};
use shedder_tests::netns::{Namespace, Network};

/// The two instructions that drop everything.
pub(crate) const BARE: &str = "bare XDP_DROP";
/// The least that any switch can do.
pub(crate) const SWITCH: &str = "XDP, a word, the type and a count";
/// The least that any limit per source can do.
pub(crate) const LINE: &str = "XDP, a line of memory and a count";
/// The usual designs of a limit per source.
pub(crate) const RECENT: &str = "XDP, LRU_HASH + compare-and-swap";
pub(crate) const LOCKED: &str = "XDP, HASH + spin lock";
pub(crate) const LIMITED: &str = "shedder, a limit per source";
pub(crate) const KILLED: &str = "shedder, killed";

/// Something that drops what exceeds a limit, or everything.
pub(crate) trait Peer {
    /// What tables call it.
    fn name(&self) -> &str;

    /// Makes it ready on its network's server, with this limit per source where it has one, and with no memory of what was
    /// before. The error is shown in the tables.
    fn arm(&mut self, shape: &Shape, limit: Limit) -> Result<()>;

    /// What it let pass since it was made ready, where it counts that itself.
    fn passed(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Whether it drops everything, and so has no limit to be held to.
    fn drops_all(&self) -> bool {
        false
    }

    /// Its network.
    fn network(&self) -> &Network;
}

/// All of them. Those that cannot be had on this machine say so when they are made ready.
pub(crate) fn all() -> Result<Vec<Box<dyn Peer>>> {
    let network = || Network::new("bench");
    let own = Build::own();
    use netfilter::{Hook, Netfilter};
    Ok(vec![
        Box::new(design::Design::bare(network()?)),
        Box::new(design::Design::line(network()?)),
        Box::new(Subject::limited(own, network()?)),
        Box::new(Subject::everything(own, network()?)),
        Box::new(Subject::newcomers(own, network()?)),
        Box::new(Subject::killed(own, network()?)),
        Box::new(design::Design::recent(network()?)),
        Box::new(design::Design::locked(network()?)),
        Box::new(xdp_filter::XdpFilter::new(network()?)),
        Box::new(tc::Shot::new(network()?)),
        Box::new(Netfilter::new(Hook::NftIngress, network()?)),
        Box::new(Netfilter::new(Hook::NftPrerouting, network()?)),
        Box::new(Netfilter::new(Hook::IptablesLegacy, network()?)),
        Box::new(Netfilter::new(Hook::IptablesNft, network()?)),
    ])
}

/// Those that are held against the bare program.
pub(crate) fn near_bare() -> Result<Vec<Box<dyn Peer>>> {
    let network = || Network::new("bench");
    Ok(vec![
        Box::new(design::Design::bare(network()?)),
        Box::new(design::Design::switch(network()?)),
        Box::new(Subject::killed(Build::own(), network()?)),
        Box::new(design::Design::line(network()?)),
        Box::new(Subject::limited(Build::own(), network()?)),
    ])
}

/// Lets a veth's end take frames without a program on it: else it is not polled.
fn poll(network: &Network) -> Result<()> {
    run(&network.server, &format!("ethtool -K {} gro on", network.link().interface))
}

/// Runs a command line, split at spaces, in a namespace.
fn run(namespace: &Namespace, line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command line")?;
    let output = namespace.command(program).args(words).output();
    let output = output.with_context(|| format!("`{program}` does not start: is it installed?"))?;
    ensure!(
        output.status.success(),
        "`{line}` ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// What was let pass: by the peer's own count where it has one, else by what the stack was given.
pub(crate) fn passed(own: Option<u64>, counted: Counted, shape: &Shape) -> Option<u64> {
    // There is no VLAN device, so that tagged packets end before the protocols whatever a peer says.
    own.or((shape.layout != Layout::Tagged).then_some(counted.delivered))
}
