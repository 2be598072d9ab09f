//! Compiles the benchmark's programs and leaves them in `OUT_DIR/bench-ebpf`, where the benchmark embeds them.

#[path = "../xtask/src/compile.rs"]
mod compile;
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

use std::process::ExitCode;

fn main() -> ExitCode {
    compile::programs("bench/ebpf", "bench-ebpf")
}
