//! Everything that was measured.

use crate::accuracy::{Admission, Bystanders};
use crate::control::Control;
use crate::decision::Cost;
use crate::goals::Goal;
use crate::kill::Stop;
use crate::live::Flood;
use crate::machine::Machine;
use crate::overload::Overload;
use crate::scale::{self, Demand, Occupancy};
use crate::sources::Decision;
use serde::Serialize;

/// As it is written down; what was not asked for is empty.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) seconds: u64,
    pub(crate) goals: Vec<Goal>,
    pub(crate) costs: Vec<Cost>,
    pub(crate) decisions: Vec<Decision>,
    pub(crate) floods: Vec<Flood>,
    /// Floods of the base case in short turns.
    pub(crate) near_bare: Vec<Flood>,
    pub(crate) stops: Vec<Stop>,
    pub(crate) control: Option<Control>,
    pub(crate) admissions: Vec<Admission>,
    pub(crate) bystanders: Vec<Bystanders>,
    pub(crate) overloads: Vec<Overload>,
    pub(crate) occupancies: Vec<Occupancy>,
    pub(crate) demand: Demand,
}

impl Results {
    /// Nothing measured yet.
    pub(crate) fn new(machine: Machine) -> Results {
        Results {
            machine,
            seconds: 0,
            goals: vec![],
            costs: vec![],
            decisions: vec![],
            floods: vec![],
            near_bare: vec![],
            stops: vec![],
            control: None,
            admissions: vec![],
            bystanders: vec![],
            overloads: vec![],
            // A table as it is by default, with so many live sources to a set.
            occupancies: [1, 2, 4, 8].map(|load| scale::occupancy(1 << 17, load << 17)).into(),
            demand: scale::demand(100.0, 64),
        }
    }
}
