//! Walks a frame.
#![no_main]

libfuzzer_sys::fuzz_target!(|frame: &[u8]| shedder_common::host::any::any_frame(frame));
