//! Compiles a crate of eBPF programs. What build scripts share, as they do [`toolchain`](crate::toolchain); hence the
//! standard library only.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::toolchain::{self, Compiler, LINKER_VERSION, RUSTC_VARIABLE};

/// What every crate of programs is made of, below the root of the repository.
const SHARED: [&str; 3] = ["Cargo.toml", "shedder-common/Cargo.toml", "shedder-common/src"];

/// Compiles the crate in `folder`, below the root of the repository, which is the parent of the package that is being
/// built, and leaves its binary, `name`, in `OUT_DIR`. What a build script's `main` returns.
pub(crate) fn programs(folder: &str, name: &str) -> ExitCode {
    build(folder, name).unwrap_or_else(|message| {
        println!("cargo::error={message}");
        // The message alone fails the build; a failing script would have all its output shown as well.
        ExitCode::SUCCESS
    })
}

fn build(folder: &str, name: &str) -> Result<ExitCode, String> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    let folder = root.join(folder);
    let out = PathBuf::from(variable("OUT_DIR")?);
    let own = ["Cargo.toml", "Cargo.lock", "src"].map(|source| folder.join(source));
    for source in SHARED.map(|source| root.join(source)).iter().chain(&own) {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    println!("cargo::rerun-if-env-changed={RUSTC_VARIABLE}");

    let compiler = toolchain::compiler().map_err(|rejected| {
        let reasons: Vec<String> = rejected.iter().map(ToString::to_string).collect();
        let reasons = if reasons.is_empty() { "there is none".into() } else { reasons.join("; ") };
        format!("No compiler can build the eBPF programs ({reasons}): run `cargo xtask setup`.")
    })?;
    let linker = toolchain::linker(&root).ok_or_else(|| {
        format!(
            "bpf-linker {LINKER_VERSION} is missing, which links the eBPF programs: run `cargo xtask setup`."
        )
    })?;
    for tool in [&compiler.rustc, &compiler.llvm, &linker] {
        println!("cargo::rerun-if-changed={}", tool.display());
    }
    compile(&folder, name, &out, &compiler, &linker)
}

/// Compiles the crate in `folder` with a cargo of its own, and copies the object file into `out`. Fails as a
/// script does where that cargo's output has to be seen.
fn compile(
    folder: &Path,
    name: &str,
    out: &Path,
    compiler: &Compiler,
    linker: &Path,
) -> Result<ExitCode, String> {
    let architecture = variable("CARGO_CFG_TARGET_ARCH")?.to_string_lossy().into_owned();
    if !["x86_64", "aarch64"].contains(&architecture.as_str()) {
        return Err(format!("shedder runs on x86_64 and aarch64, and this build is for {architecture}."));
    }
    let target = "bpfel-unknown-none";
    let target_folder = out.join("programs");
    // v3: atomic compare-and-swap, and 32-bit arithmetic. BTF is what names the maps and lets the kernel check them.
    let flags = [
        format!("--cfg=bpf_target_arch=\"{architecture}\""),
        "-Ctarget-cpu=v3".into(),
        // Headers lie where they lie, and both architectures load unaligned words as they load aligned ones.
        "-Ctarget-feature=+allows-misaligned-mem-access".into(),
        "-Clink-arg=--btf".into(),
        format!("-Clinker={}", linker.display()),
    ];
    let mut cargo = Command::new(variable("CARGO")?);
    toolchain::isolate(&mut cargo);
    let status = cargo
        .current_dir(folder)
        .args(["build", "--release", "--target", target, "--target-dir"])
        .arg(&target_folder)
        // No release of Rust ships `core` for this target; the permission to build it is for the programs alone.
        .args(["-Z", "build-std=core"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", &compiler.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("LD_LIBRARY_PATH", library_path(out, &compiler.llvm)?)
        .status()
        .map_err(|error| format!("{} does not start: {error}.", cargo.get_program().display()))?;
    if !status.success() {
        let (rustc, release) = (compiler.rustc.display(), &compiler.release);
        println!(
            "cargo::error=The eBPF programs do not compile with rustc {release}, {rustc}: see stderr below."
        );
        return Ok(ExitCode::FAILURE);
    }
    let object = target_folder.join(target).join("release").join(name);
    fs::copy(&object, out.join(name))
        .map_err(|error| format!("{} cannot be copied to {}: {error}.", object.display(), out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// A search path on which the linker finds the compiler's LLVM first. It takes the first libLLVM of any version that
/// it meets there, so that one goes into a folder where no other is.
fn library_path(out: &Path, llvm: &Path) -> Result<OsString, String> {
    let folder = out.join("llvm");
    let error = |error| format!("{} cannot be written: {error}.", folder.display());
    match fs::remove_dir_all(&folder) {
        Err(other) if other.kind() != std::io::ErrorKind::NotFound => return Err(error(other)),
        _ => {}
    }
    fs::create_dir(&folder).map_err(error)?;
    symlink(llvm, folder.join(llvm.file_name().unwrap_or_default())).map_err(error)?;
    let inherited = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    env::join_paths(
        [folder].into_iter().chain(env::split_paths(&inherited).filter(|path| !path.as_os_str().is_empty())),
    )
    .map_err(|error| format!("LD_LIBRARY_PATH cannot be set: {error}."))
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: this is a build script, run by cargo."))
}
