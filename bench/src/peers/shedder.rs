//! shedder, in some of its states.

use super::Peer;
use crate::programs::Limit;
use crate::shape::Shape;
use crate::shed::{self, Status};
use anyhow::Result;
use shedder_tests::netns::Network;
use shedder_tests::shedder::Shedder;

/// shedder with one configuration.
pub(super) struct Subject {
    name: &'static str,
    config: fn(Limit) -> Result<String>,
    is_killed: bool,
    /// What is in force.
    attached: Option<String>,
    network: Network,
}

impl Subject {
    fn new(name: &'static str, config: fn(Limit) -> Result<String>, network: Network) -> Subject {
        Subject { name, config, is_killed: false, attached: None, network }
    }

    /// A limit per source.
    pub(super) fn limited(network: Network) -> Subject {
        Subject::new("shedder, a limit per source", |limit| Ok(shed::limited(limit)), network)
    }

    /// Everything that there is to configure.
    pub(super) fn everything(network: Network) -> Subject {
        Subject::new("shedder, everything on", shed::everything, network)
    }

    /// A limit per source, and one for all newcomers together: what stops a flood of sources that do not exist.
    pub(super) fn newcomers(network: Network) -> Subject {
        let config = |limit| Ok(shed::limited(limit) + "[newcomers]\npackets_per_second = 1_000\n");
        Subject::new("shedder, and a limit for newcomers", config, network)
    }

    /// A kill in force.
    pub(super) fn killed(network: Network) -> Subject {
        let subject = Subject::new("shedder, killed", |_| Ok(shed::NOTHING.into()), network);
        Subject { is_killed: true, ..subject }
    }
}

impl Peer for Subject {
    fn name(&self) -> &str {
        self.name
    }

    fn arm(&mut self, _: &Shape, limit: Limit) -> Result<()> {
        let config = (self.config)(limit)?;
        // What it remembers of a source is over after a second, long before the same case comes again.
        if self.attached.as_ref() == Some(&config) {
            return Ok(());
        }
        let shedder = Shedder::new(&self.network);
        if self.attached.take().is_some() {
            shed::run(&shedder, &["detach"])?;
        }
        shed::attach(&self.network, &config)?;
        if self.is_killed {
            shed::run(&shedder, &["kill"])?;
        }
        self.attached = Some(config);
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
