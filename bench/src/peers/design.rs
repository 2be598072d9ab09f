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
    fn new(name: &'static str, program: &'static str, network: Network) -> Design {
        Design { name, program, loaded: None, network }
    }

    pub(super) fn bare(network: Network) -> Design {
        Design::new(super::BARE, programs::Design::BARE, network)
    }

    pub(super) fn switch(network: Network) -> Design {
        Design::new(super::SWITCH, programs::Design::SWITCH, network)
    }

    pub(super) fn line(network: Network) -> Design {
        Design::new(super::LINE, programs::Design::LINE, network)
    }

    pub(super) fn recent(network: Network) -> Design {
        Design::new(super::RECENT, programs::Design::RECENT, network)
    }

    pub(super) fn locked(network: Network) -> Design {
        Design::new(super::LOCKED, programs::Design::LOCKED, network)
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
        !programs::Design::limits(self.program)
    }

    fn network(&self) -> &Network {
        &self.network
    }
}
