//! From names on the command line to slots in the maps.

use super::args;
use crate::datapath::{Scope, State};
use anyhow::{Result, bail};

/// What a command is about, with the name that a person would use.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) scope: Scope,
    pub(super) name: String,
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
