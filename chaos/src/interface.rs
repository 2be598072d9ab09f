//! What becomes of the interface.

use crate::account::{Account, counted};
use crate::world::{Daemon, PATIENCE, World};
use anyhow::{Result, ensure};
use shedder_tests::endpoint;
use shedder_tests::flood::now;
use shedder_tests::netns::ip;
use std::time::{Duration, Instant};

/// What interfaces that were made again came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MadeAgain {
    pub(crate) times: u64,
    /// Until a running daemon had attached it: the longest.
    pub(crate) longest: Duration,
    /// Frames that met no program until then.
    pub(crate) unseen: u64,
}

impl MadeAgain {
    pub(crate) fn add(&mut self, other: &MadeAgain) {
        self.times += other.times;
        self.longest = self.longest.max(other.longest);
        self.unseen += other.unseen;
    }
}

impl World<'_> {
    /// Has another name for so long.
    pub(crate) fn rename(&self, after: Duration) -> Result<()> {
        let (server, name) = (&self.network.server, &self.network.link().interface);
        ip(server, &format!("link set {name} name renamed0\n"))?;
        std::thread::sleep(after);
        ip(server, &format!("link set renamed0 name {name}\n"))
    }

    /// Goes down, and up after so long.
    pub(crate) fn put_down(&self, after: Duration) -> Result<()> {
        let (server, name) = (&self.network.server, &self.network.link().interface);
        ip(server, &format!("link set {name} down\n"))?;
        std::thread::sleep(after);
        self.network.restore()
    }

    /// Is deleted and made again: at once, or when a running daemon has noticed. Where none runs, one starts then. From when it
    /// is made until it is attached no program is on it, which is noted as a gap; from there on all has to hold again.
    pub(crate) fn make_again(&mut self, at_once: bool) -> Result<()> {
        let network = self.network;
        ip(&network.server, &format!("link delete {}\n", network.link().interface))?;
        // Its counters do not change any more, and those of the link are gone.
        self.flows()?.pause();
        let counted: u64 = counted(&self.status()?).values().sum();
        self.account.has_not_gone_back(counted)?;
        let is_alive = matches!(self.daemon, Daemon::Alive(_));
        if is_alive && !at_once {
            self.wait_for("a daemon without its interface not to be ready", |_| {
                Ok(!endpoint::is_ready(&network.server))
            })?;
        }

        let (made, begin) = (now(), Instant::now());
        network.make(network.links())?;
        self.flows()?.resume_datagrams(network)?;
        if !is_alive {
            self.start()?;
        }
        self.wait_for("an interface that was made again to be attached", |world| {
            Ok(world.status()?["interfaces"][0]["attached"] == true)
        })?;
        self.gaps.note(made, now());
        self.made_again.times += 1;
        if is_alive {
            self.made_again.longest = self.made_again.longest.max(begin.elapsed());
        }

        self.flows()?.pause();
        let (account, unseen) = Account::open_on_another(self, counted)?;
        self.account = account;
        self.made_again.unseen += unseen;
        self.flows()?.resume(network)
    }

    fn wait_for(&self, what: &str, is_so: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self)? {
            ensure!(Instant::now() < deadline, "never came: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}
