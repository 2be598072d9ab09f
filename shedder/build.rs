//! Builds the programs and embeds them.

fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    std::fs::copy("/tmp/bpf-target/bpfel-unknown-none/release/shedder-ebpf", format!("{out}/shedder-ebpf")).unwrap();
    println!("cargo::rerun-if-changed=/tmp/bpf-target/bpfel-unknown-none/release/shedder-ebpf");
}
