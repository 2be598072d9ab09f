//! From names on the command line to slots in the maps, and whether what was written there stayed.

use super::args;
use crate::datapath::{Scope, State};
use anyhow::{Result, bail};
use shedder_common::words::KillWord;

/// What a command is about, with the name that a person would use.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) scope: Scope,
    pub(super) name: String,
}

impl args::Scope {
    /// Whether the whole host is meant.
    pub(super) fn names_nothing(&self) -> bool {
        self.interface.is_empty() && self.service.is_none()
    }
}

/// What the arguments name: the host where they name nothing.
pub(super) fn resolve(state: &State, scope: &args::Scope) -> Result<Vec<Named>> {
    if let Some(name) = &scope.service {
        return Ok(vec![Named {
            scope: Scope::Service(service(state, name)?),
            name: format!("service {name}"),
        }]);
    }
    if scope.interface.is_empty() {
        return Ok(vec![Named { scope: Scope::Host, name: "host".into() }]);
    }
    let held = state.interfaces();
    let slot_of = |name: &String| match held.iter().find(|interface| &interface.name == name) {
        Some(interface) => {
            Ok(Named { scope: Scope::Interface(interface.slot), name: format!("interface {name}") })
        }
        None => {
            let names: Vec<&str> = held.iter().map(|interface| interface.name.as_str()).collect();
            bail!("interface {name} is not attached; attached are: {}", names.join(", "))
        }
    };
    scope.interface.iter().map(slot_of).collect()
}

/// Everything that can be killed: the host, each interface, each service.
pub(super) fn every_scope(state: &State) -> Vec<Named> {
    let interfaces = state.interfaces().into_iter().map(|interface| Named {
        scope: Scope::Interface(interface.slot),
        name: format!("interface {}", interface.name),
    });
    let services = state.services().into_iter().map(|service| Named {
        scope: Scope::Service(service.slot),
        name: format!("service {}", service.name),
    });
    let host = Named { scope: Scope::Host, name: "host".into() };
    [host].into_iter().chain(interfaces).chain(services).collect()
}

/// The slot of the service of this name.
pub(super) fn service(state: &State, name: &str) -> Result<usize> {
    let known = state.services();
    match known.iter().find(|service| service.name == name) {
        Some(service) => Ok(service.slot),
        None if known.is_empty() => bail!("there is no service {name}: the configuration in force has none"),
        None => {
            let names: Vec<&str> = known.iter().map(|service| service.name.as_str()).collect();
            bail!("there is no service {name}; there are: {}", names.join(", "))
        }
    }
}

/// What was not there when it was read back. A kill whose own deadline has passed meanwhile was obeyed.
pub(super) fn unwritten(state: &State, targets: &[Named], word: KillWord, now: u64) -> Vec<String> {
    let differs = |target: &&Named| state.kill(target.scope) != word && (!word.is_set() || word.holds(now));
    let say = |target: &Named| format!("{}: {OVERTAKEN}", target.name);
    targets.iter().filter(differs).map(say).collect()
}

/// What is said where a word is not the one that was written.
pub(super) const OVERTAKEN: &str = "somebody else wrote another word meanwhile; see `shedder status`";

/// The last lines of a report.
pub(super) fn verdict(faults: &[String]) -> String {
    match faults {
        [] => "verified: read back from the kernel\n".into(),
        faults => format!("NOT OBEYED:\n  {}\n", faults.join("\n  ")),
    }
}
