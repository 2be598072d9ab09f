//! A program at the traffic control's ingress.

use super::{Peer, poll, run};
use crate::programs::{self, Limit};
use crate::shape::Shape;
use anyhow::Result;
use shedder_tests::netns::Network;

/// A classifier that drops everything.
pub(super) struct Shot {
    is_attached: bool,
    network: Network,
}

impl Shot {
    pub(super) fn new(network: Network) -> Shot {
        Shot { is_attached: false, network }
    }
}

impl Peer for Shot {
    fn name(&self) -> &str {
        "tc BPF, drop all"
    }

    fn arm(&mut self, _: &Shape, _: Limit) -> Result<()> {
        if self.is_attached {
            return Ok(());
        }
        let (interface, pin) = (&self.network.link().interface, self.network.bpffs().join("shot"));
        poll(&self.network)?;
        programs::pin_shot(&pin)?;
        run(&self.network.server, &format!("tc qdisc add dev {interface} clsact"))?;
        let pin = pin.display();
        run(
            &self.network.server,
            &format!("tc filter add dev {interface} ingress bpf direct-action object-pinned {pin}"),
        )?;
        self.is_attached = true;
        Ok(())
    }

    fn drops_all(&self) -> bool {
        true
    }

    fn network(&self) -> &Network {
        &self.network
    }
}
