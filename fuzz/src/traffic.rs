//! Judges what comes to and leaves a host.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shedder_common::host::any::any_traffic(bytes));
