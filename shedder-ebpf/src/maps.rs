//! The maps, as `shedder_common::abi` describes them. Sizes that depend on the configuration are set by the loader.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray};
use shedder_common::abi::{
    Control, FLOW_SETS, FlowSet, Interface, InterfaceCounters, Kills, MAX_INTERFACES, MAX_SERVICES, Measured,
    Meta, Offered, Ports, Prefix4, Prefix6, PrefixPolicy, Service, Shared,
};
use shedder_common::bucket::Set;
use shedder_common::prefix::PrefixSet;

use crate::measure::{Kept, Search};

// State: pinned, and adopted by every later load.

#[map]
pub static META: Array<Meta> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static KILLS: Array<Kills> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static COUNTERS: PerCpuArray<InterfaceCounters> = PerCpuArray::with_max_entries(MAX_INTERFACES as u32, 0);
#[map]
pub static PACKETS: Array<Set> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static BYTES: Array<Set> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static NEW_FLOWS: Array<Set> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static SHARED: Array<Shared> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static PROVEN: Array<Set> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static UDP_FLOWS: Array<Set> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static INTERFACES: Array<Interface> = Array::with_max_entries(MAX_INTERFACES as u32, BPF_F_MMAPABLE);
#[map]
pub static FLOW_KEYS: Array<Set> = Array::with_max_entries(FLOW_SETS as u32, BPF_F_MMAPABLE);
#[map]
pub static FLOWS: Array<FlowSet> = Array::with_max_entries(FLOW_SETS as u32, BPF_F_MMAPABLE);
#[map]
pub static SERVICES: Array<Service> = Array::with_max_entries(MAX_SERVICES as u32, BPF_F_MMAPABLE);

// Policy: made anew with each configuration.

#[map]
pub static PREFIXES4: Array<PrefixSet<Prefix4>> = Array::with_max_entries(1, 0);
#[map]
pub static PREFIXES6: Array<PrefixSet<Prefix6>> = Array::with_max_entries(1, 0);
#[map]
pub static RULES: Array<PrefixPolicy> = Array::with_max_entries(1, 0);
#[map]
pub static PORTS: Array<Ports> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static OFFERED: PerCpuArray<Offered> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static MEASURED: PerCpuArray<Measured> = PerCpuArray::with_max_entries(1, 0);

// For one run of a program: not pinned.

#[map]
pub static KEPT: PerCpuArray<Kept> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static SEARCH: PerCpuArray<Search> = PerCpuArray::with_max_entries(1, 0);
