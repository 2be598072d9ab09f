//! What shedder's programs in the kernel and its daemon outside agree on: the layout of the maps, and the
//! verdict on a frame, written once and compiled for both.
//!
//! Nothing here knows a map, a kernel or a clock: the verdict asks an [`Env`](ladder::Env) for them, which is
//! maps in the kernel and plain memory on the host.
#![cfg_attr(not(any(test, feature = "host")), no_std)]
// The compare-and-swap of `word`.
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics), allow(internal_features))]

pub mod abi;
pub mod bucket;
pub mod class;
pub mod flows;
pub mod hash;
pub mod hint;
pub mod histogram;
#[cfg(feature = "host")]
pub mod host;
pub mod ladder;
pub mod memory;
pub mod prefix;
pub mod reason;
pub mod room;
pub mod walk;
pub mod word;
pub mod words;
