//! Compiles the programs and leaves them in `OUT_DIR/shedder-ebpf`, where the library embeds them.

#[path = "../xtask/src/compile.rs"]
mod compile;
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

use std::process::ExitCode;

fn main() -> ExitCode {
    compile::programs("shedder-ebpf", "shedder-ebpf")
}
