//! shedder, in some of its states.

use super::Peer;
use crate::shape::Shape;
use crate::shed::{self, Status};
use anyhow::Result;
use shedder_tests::netns::Network;
use shedder_tests::shedder::Shedder;

/// shedder with one configuration.
pub(super) struct Subject {
    name: &'static str,
    config: fn() -> Result<String>,
    is_killed: bool,
    is_attached: bool,
    network: Network,
}

impl Subject {
    fn new(name: &'static str, config: fn() -> Result<String>, network: Network) -> Subject {
        Subject { name, config, is_killed: false, is_attached: false, network }
    }

    /// A limit per source.
    pub(super) fn limited(network: Network) -> Subject {
        Subject::new("shedder, a limit per source", || Ok(shed::limited(1, "1s")), network)
    }

    /// Everything that there is to configure.
    pub(super) fn everything(network: Network) -> Subject {
        Subject::new("shedder, everything on", || shed::everything(1, "1s"), network)
    }

    /// A limit per source, and one for all newcomers together: what stops a flood of sources that do not exist.
    pub(super) fn newcomers(network: Network) -> Subject {
        let config = || Ok(shed::limited(1, "1s") + "[newcomers]\npackets_per_second = 1_000\n");
        Subject::new("shedder, and a limit for newcomers", config, network)
    }

    /// A kill in force.
    pub(super) fn killed(network: Network) -> Subject {
        let subject = Subject::new("shedder, killed", || Ok(shed::NOTHING.into()), network);
        Subject { is_killed: true, ..subject }
    }
}

impl Peer for Subject {
    fn name(&self) -> &str {
        self.name
    }

    fn arm(&mut self, _: &Shape) -> Result<()> {
        // What it remembers of a source is over after a second, long before the next case.
        if self.is_attached {
            return Ok(());
        }
        let shedder = shed::attach(&self.network, &(self.config)()?)?;
        if self.is_killed {
            shed::run(&shedder, &["kill"])?;
        }
        self.is_attached = true;
        Ok(())
    }

    fn passed(&self) -> Result<Option<u64>> {
        Ok(Some(Status::read(&Shedder::new(&self.network))?.passed(0)?))
    }

    fn drops_all(&self) -> bool {
        self.is_killed
    }

    fn network(&self) -> &Network {
        &self.network
    }
}
