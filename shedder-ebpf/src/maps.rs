//! The maps, as `shedder_common::abi` describes them. Sizes that depend on the configuration, or on
//! how many CPUs there are, are set by the loader.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use shedder_common::abi::{
    Control, FLOW_SETS, FlowSet, Interface, Kills, MAX_INTERFACES, MAX_SERVICES, Measured, Meta, OfInterface,
    Offered, Ports, Prefix4, Prefix6, PrefixPolicy, Service, Shared,
};
use shedder_common::bucket::Set;
use shedder_common::prefix::PrefixSet;

use crate::measure::Search;
use crate::table::Table;

// State: pinned, and adopted by every later load.

#[map]
pub static META: Table<Meta> = Table::with_entries(1);
#[map]
pub static KILLS: Table<Kills> = Table::with_entries(1);
#[map]
pub static CONTROL: Table<Control> = Table::with_entries(1);
#[map]
pub static COUNTERS: Table<OfInterface> = Table::with_entries(MAX_INTERFACES);
#[map]
pub static PACKETS: Table<Set> = Table::with_entries(1);
#[map]
pub static BYTES: Table<Set> = Table::with_entries(1);
#[map]
pub static NEW_FLOWS: Table<Set> = Table::with_entries(1);
#[map]
pub static SHARED: Table<Shared> = Table::with_entries(1);
#[map]
pub static PROVEN: Table<Set> = Table::with_entries(1);
#[map]
pub static UDP_FLOWS: Table<Set> = Table::with_entries(1);
#[map]
pub static INTERFACES: Table<Interface> = Table::with_entries(MAX_INTERFACES);
#[map]
pub static FLOW_KEYS: Table<Set> = Table::with_entries(FLOW_SETS);
#[map]
pub static FLOWS: Table<FlowSet> = Table::with_entries(FLOW_SETS);
#[map]
pub static SERVICES: Table<Service> = Table::with_entries(MAX_SERVICES);

// Policy: made anew with each configuration.

#[map]
pub static PREFIXES4: Table<PrefixSet<Prefix4>> = Table::with_entries(1);
#[map]
pub static PREFIXES6: Table<PrefixSet<Prefix6>> = Table::with_entries(1);
#[map]
pub static RULES: Table<PrefixPolicy> = Table::with_entries(1);
#[map]
pub static PORTS: Table<Ports> = Table::with_entries(1);
#[map]
pub static OFFERED: Table<Offered> = Table::with_entries(1);
#[map]
pub static MEASURED: Table<Measured> = Table::with_entries(1);

// For one run of a program: not pinned.

#[map]
pub static SEARCH: PerCpuArray<Search> = PerCpuArray::with_max_entries(1, 0);
