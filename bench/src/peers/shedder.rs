//! shedder, in some of its states.

use super::Peer;
use crate::programs::Limit;
use crate::shape::Shape;
use crate::shed::{self, Build, Status};
use anyhow::Result;
use shedder_tests::netns::Network;
use shedder_tests::shedder::Shedder;
use std::path::PathBuf;

/// shedder with one configuration.
pub(crate) struct Subject {
    name: String,
    binary: PathBuf,
    config: fn(Limit) -> Result<String>,
    is_killed: bool,
    /// What is in force.
    attached: Option<String>,
    network: Network,
}

impl Subject {
    fn new(build: Build<'_>, name: &str, config: fn(Limit) -> Result<String>, network: Network) -> Subject {
        let (name, binary) = (format!("{name}{}", build.label), build.binary.to_owned());
        Subject { name, binary, config, is_killed: false, attached: None, network }
    }

    /// A limit per source.
    pub(crate) fn limited(build: Build<'_>, network: Network) -> Subject {
        Subject::new(build, super::LIMITED, |limit| Ok(shed::limited(limit)), network)
    }

    /// Everything that there is to configure.
    pub(crate) fn everything(build: Build<'_>, network: Network) -> Subject {
        Subject::new(build, "shedder, everything on", shed::everything, network)
    }

    /// A limit per source, and one for all newcomers together: what stops a flood of sources that do not exist.
    pub(crate) fn newcomers(build: Build<'_>, network: Network) -> Subject {
        let config = |limit| Ok(shed::limited(limit) + "[newcomers]\npackets_per_second = 1_000\n");
        Subject::new(build, "shedder, and a limit for newcomers", config, network)
    }

    /// A kill in force.
    pub(crate) fn killed(build: Build<'_>, network: Network) -> Subject {
        let subject = Subject::new(build, super::KILLED, |_| Ok(shed::NOTHING.into()), network);
        Subject { is_killed: true, ..subject }
    }
}

impl Peer for Subject {
    fn name(&self) -> &str {
        &self.name
    }

    fn arm(&mut self, _: &Shape, limit: Limit) -> Result<()> {
        let config = (self.config)(limit)?;
        // What it remembers of a source is over after a second, long before the same case comes again.
        if self.attached.as_ref() == Some(&config) {
            return Ok(());
        }
        let shedder = Shedder::of_build(&self.network, self.binary.clone());
        if self.attached.take().is_some() {
            shed::run(&shedder, &["detach"])?;
        }
        shed::enforce(&shedder, &config)?;
        if self.is_killed {
            shed::run(&shedder, &["kill"])?;
        }
        self.attached = Some(config);
        Ok(())
    }

    fn passed(&self) -> Result<Option<u64>> {
        Ok(Some(Status::read(&Shedder::of_build(&self.network, self.binary.clone()))?.passed(0)?))
    }

    fn drops_all(&self) -> bool {
        self.is_killed
    }

    fn network(&self) -> &Network {
        &self.network
    }
}
