//! The benchmark's own programs.

use super::Peer;
use crate::programs::{self, Limit};
use crate::shape::Shape;
use anyhow::{Context, Result};
use shedder_tests::netns::Network;

/// One of them.
pub(super) struct Design {
    name: &'static str,
    program: &'static str,
    loaded: Option<programs::Design>,
    network: Network,
}

impl Design {
    pub(super) fn bare(network: Network) -> Design {
        Design { name: "bare XDP_DROP", program: programs::Design::BARE, loaded: None, network }
    }

    pub(super) fn recent(network: Network) -> Design {
        Design {
            name: "XDP, LRU_HASH + compare-and-swap",
            program: programs::Design::RECENT,
            loaded: None,
            network,
        }
    }

    pub(super) fn locked(network: Network) -> Design {
        Design { name: "XDP, HASH + spin lock", program: programs::Design::LOCKED, loaded: None, network }
    }
}

impl Peer for Design {
    fn name(&self) -> &str {
        self.name
    }

    fn arm(&mut self, _: &Shape, limit: Limit) -> Result<()> {
        // The old one lets go of the interface first.
        self.loaded = None;
        self.loaded = Some(programs::Design::attach(self.program, limit, &self.network)?);
        Ok(())
    }

    fn passed(&self) -> Result<Option<u64>> {
        if self.drops_all() {
            return Ok(Some(0));
        }
        Ok(Some(self.loaded.as_ref().context("it was made ready")?.counts()?.passed))
    }

    fn drops_all(&self) -> bool {
        self.program == programs::Design::BARE
    }

    fn network(&self) -> &Network {
        &self.network
    }
}
