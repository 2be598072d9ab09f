//! Latency signals as they come in: probes that ask, and a socket that is told.
//!
//! Tasks on a tokio runtime take the samples, and each service's [`Inbox`] hands them to the control thread, which
//! makes windows and quantiles of them. Nothing here decides anything.

mod inbox;
mod line;
mod probe;
mod push;
mod socket;

pub use inbox::{CAPACITY, Inbox, MAX_IN_FLIGHT, Sample, monotonic};
pub use line::Refusal;
pub(super) use socket::make_parent as make_directory;

use crate::config::{Config, Signal};
use anyhow::Context;
use arc_swap::ArcSwap;
use probe::Probe;
use push::{Listener, Refusals, Services};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// Every signal of a configuration, at work. Dropping it stops the probes and removes the push socket.
#[derive(Debug)]
pub struct Signals {
    handle: Handle,
    sources: BTreeMap<String, Source>,
    push_services: Arc<ArcSwap<Services>>,
    push_refusals: Arc<Refusals>,
    /// None: no service is pushed to.
    listener: Option<Listener>,
}

/// One service's signal.
#[derive(Debug)]
struct Source {
    signal: Signal,
    inbox: Arc<Inbox>,
    /// None: it is pushed.
    _probing: Option<Task>,
}

impl Signals {
    /// Starts the probes, and opens the push socket where a service is pushed to, on the runtime of `handle`.
    ///
    /// # Errors
    /// Where a probe's request cannot be made, and where the push socket cannot be had: its path is in use by a live
    /// process or is no socket, or the system refuses.
    pub fn start(config: &Config, handle: &Handle) -> anyhow::Result<Signals> {
        let mut signals = Signals {
            handle: handle.clone(),
            sources: BTreeMap::new(),
            push_services: Arc::default(),
            push_refusals: Arc::default(),
            listener: None,
        };
        signals.reconfigure(config)?;
        Ok(signals)
    }

    /// Follows `config`. A service whose signal is the same as before keeps its inbox with its samples, and its
    /// probes; any other begins with an empty inbox.
    ///
    /// # Errors
    /// As [`start`](Signals::start). Nothing has changed then.
    pub fn reconfigure(&mut self, config: &Config) -> anyhow::Result<()> {
        // What can fail comes first.
        let mut new = Vec::new();
        for service in &config.services {
            if self.sources.get(&service.name).is_some_and(|source| source.signal == service.signal) {
                continue;
            }
            let probe = match &service.signal {
                // The control thread reads what the kernel measured by itself.
                Signal::Passive { .. } | Signal::None => continue,
                Signal::Push => None,
                Signal::Probe { target, every, timeout } => {
                    let probe = Probe::new(target, *every, *timeout);
                    Some(probe.with_context(|| format!("service `{}`", service.name))?)
                }
            };
            new.push((service, probe));
        }
        let path = &config.endpoint.push;
        let pushed = config.services.iter().any(|service| service.signal == Signal::Push);
        let opened = if pushed && self.listener.as_ref().is_none_or(|listener| listener.path() != path) {
            let (services, refusals) = (Arc::clone(&self.push_services), Arc::clone(&self.push_refusals));
            Some(Listener::open(path, services, refusals, &self.handle)?)
        } else {
            None
        };

        self.sources.retain(|name, source| {
            config.services.iter().any(|service| service.name == *name && service.signal == source.signal)
        });
        for (service, probe) in new {
            let inbox = Arc::new(Inbox::default());
            let probing = probe.map(|probe| Task::spawn(probe.run(Arc::clone(&inbox)), &self.handle));
            let source = Source { signal: service.signal.clone(), inbox, _probing: probing };
            self.sources.insert(service.name.clone(), source);
        }
        let services = self.sources.iter().filter(|(_, source)| source.signal == Signal::Push);
        let services = services.map(|(name, source)| (name.clone(), Arc::clone(&source.inbox))).collect();
        self.push_services.store(Arc::new(services));
        if opened.is_some() || !pushed {
            self.listener = opened;
        }
        Ok(())
    }

    /// The samples of `service`; none where the configuration has no service of this name, or no signal for it.
    pub fn inbox(&self, service: &str) -> Option<&Arc<Inbox>> {
        self.sources.get(service).map(|source| &source.inbox)
    }

    /// Datagrams and lines that were refused since the start, by kind.
    pub fn push_refused(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.into_iter().map(|refusal| (refusal, self.push_refusals.count(refusal)))
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Task(AbortHandle);

impl Task {
    fn spawn(future: impl Future<Output = ()> + Send + 'static, handle: &Handle) -> Task {
        Task(handle.spawn(future).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
