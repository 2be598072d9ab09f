//! Reads a configuration: the very files of the daemon, without the rest of it.
#![no_main]
#![allow(dead_code, unused_imports, unreachable_pub)]

#[path = "../../shedder/src/config/mod.rs"]
mod config;

#[path = "../../shedder/src/config/any.rs"]
mod any;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        any::any_text(text);
    }
});
