//! Finds what compiles the programs: a compiler that can build `core` for the BPF target, and the linker.
//!
//! Shared by the tasks and by shedder's build script, so that what the one installs is what the other uses; hence
//! the standard library only.

use std::ffi::OsStr;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Major version of the LLVM that the linker is built for: it reads no bitcode of a newer one, and the compiler
/// that writes the bitcode lends the linker its library.
pub(crate) const LLVM: u32 = 22;

/// The one version of bpf-linker in use; later ones want an LLVM of the system's.
pub(crate) const LINKER_VERSION: &str = "0.10.3";

/// The rustup toolchain to ask for where the active one does not fit: a release with [`LLVM`].
pub(crate) const PINNED_RUST: &str = "1.95.0";

/// Oldest release of Rust that the programs compile with.
const OLDEST_RUST: (u32, u32) = (1, 95);

/// Names the one compiler to use for the programs, instead of those looked for.
pub(crate) const RUSTC_VARIABLE: &str = "SHEDDER_BPF_RUSTC";

/// Where, below the root of the repository, tools are installed that the machine lacks.
pub(crate) const TOOLS: &str = ".tools";

/// A compiler that can build the programs.
#[derive(Debug)]
pub(crate) struct Compiler {
    /// Its `rustc`, which is no proxy of rustup's.
    pub(crate) rustc: PathBuf,
    /// Its release, such as `1.95.0`.
    pub(crate) release: String,
    /// The shared library of its LLVM, which the linker has to load.
    pub(crate) llvm: PathBuf,
}

/// Where a compiler was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Named by [`RUSTC_VARIABLE`].
    Chosen,
    /// What compiles the rest of the repository.
    Active,
    /// rustup's [`PINNED_RUST`].
    Pinned,
    /// The distribution's.
    Distribution,
    /// rustup's nightly.
    Nightly,
}

/// A compiler that is there and cannot build the programs.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// Where it was looked for.
    pub(crate) origin: Origin,
    /// Its `rustc`.
    pub(crate) rustc: PathBuf,
    /// What it lacks.
    pub(crate) lacks: Lack,
}

/// The first thing that a compiler lacks; what costs least to mend comes last.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// It does not run, or does not say what it is.
    Answer,
    /// Its release is older than the programs need.
    Release(String),
    /// Its LLVM has another major version.
    Llvm(Option<u32>),
    /// Its LLVM is no shared library that could be found.
    LlvmLibrary,
    /// The sources of the standard library.
    Sources,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match self.origin {
            Origin::Chosen => RUSTC_VARIABLE,
            Origin::Active => "the active compiler",
            Origin::Pinned | Origin::Nightly => "rustup's other compiler",
            Origin::Distribution => "the distribution's compiler",
        };
        write!(f, "{origin}, {}, ", self.rustc.display())?;
        match &self.lacks {
            Lack::Answer => write!(f, "does not run"),
            Lack::Release(release) => {
                write!(f, "is {release}, older than {}.{}", OLDEST_RUST.0, OLDEST_RUST.1)
            }
            Lack::Llvm(Some(major)) => write!(f, "has LLVM {major}, and bpf-linker needs {LLVM}"),
            Lack::Llvm(None) => write!(f, "does not say which LLVM it has"),
            Lack::LlvmLibrary => write!(f, "has no libLLVM {LLVM} beside it for bpf-linker to load"),
            Lack::Sources => write!(f, "lacks the sources of the standard library (rust-src)"),
        }
    }
}

/// The first compiler that can build the programs, or why none of those that are there can.
pub(crate) fn compiler() -> Result<Compiler, Vec<Rejected>> {
    let mut rejected: Vec<Rejected> = Vec::new();
    for (origin, rustc) in candidates() {
        // One installation may be found under two names.
        if rejected.iter().any(|other| is_same_file(&other.rustc, &rustc)) {
            continue;
        }
        match examine(&rustc) {
            Ok(compiler) => return Ok(compiler),
            Err(lacks) => rejected.push(Rejected { origin, rustc, lacks }),
        }
    }
    Err(rejected)
}

/// bpf-linker of [`LINKER_VERSION`], if it is there.
pub(crate) fn linker(root: &Path) -> Option<PathBuf> {
    tool(root, "bpf-linker", |version| version.split_whitespace().nth(1) == Some(LINKER_VERSION))
}

/// The first program of this name, among the repository's own tools, on PATH and where cargo installs, that
/// answers `--version` with something acceptable.
pub(crate) fn tool(root: &Path, name: &str, accepts: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let own = root.join(TOOLS).join("bin");
    [own]
        .into_iter()
        .chain(env::split_paths(&path))
        .chain(home("CARGO_HOME", ".cargo").map(|home| home.join("bin")))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file() && answer(file, &["--version"]).is_some_and(|version| accepts(&version)))
}

/// Takes from a command what a surrounding cargo, or a user for the rest of the repository, put into the
/// environment: the programs are compiled by another compiler, for another target, with flags of their own.
pub(crate) fn isolate(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(leaks) {
            command.env_remove(&name);
        }
    }
    // Empty rather than absent, so that a user's cargo configuration does not put a wrapper back.
    command.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
}

/// Whether a variable tells cargo or rustc how to compile something else.
fn leaks(name: &str) -> bool {
    const KEPT: [&str; 5] =
        ["CARGO", "CARGO_HOME", "CARGO_BUILD_JOBS", "CARGO_MAKEFLAGS", "CARGO_CACHE_RUSTC_INFO"];
    const KEPT_PREFIXES: [&str; 5] =
        ["CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"];
    const COMPILING: [&str; 12] = [
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
        "DEBUG",
        "HOST",
        "NUM_JOBS",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTDOC",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
        "TARGET",
    ];
    if name.starts_with("CARGO") {
        return !KEPT.contains(&name) && !KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    }
    name.starts_with("RUSTC") || name.starts_with("DEP_") || COMPILING.contains(&name)
}

/// The compilers to look at, best first. The active one comes first, so that one compiler builds everything.
fn candidates() -> Vec<(Origin, PathBuf)> {
    if let Some(chosen) = env::var_os(RUSTC_VARIABLE) {
        return vec![(Origin::Chosen, chosen.into())];
    }
    let active = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    // Through its root, because rustup's proxy would choose again in every folder and environment.
    let active = sysroot(Path::new(&active)).map(|root| root.join("bin/rustc"));
    let of_rustup = |name: &str| {
        let toolchain = format!("{name}-{}-unknown-linux-gnu", env::consts::ARCH);
        home("RUSTUP_HOME", ".rustup").map(|home| home.join("toolchains").join(toolchain).join("bin/rustc"))
    };
    [
        (Origin::Active, active),
        (Origin::Pinned, of_rustup(PINNED_RUST)),
        (Origin::Distribution, Some("/usr/bin/rustc".into())),
        (Origin::Nightly, of_rustup("nightly")),
    ]
    .into_iter()
    .filter_map(|(origin, rustc)| Some((origin, rustc.filter(|rustc| rustc.is_file())?)))
    .collect()
}

fn examine(rustc: &Path) -> Result<Compiler, Lack> {
    let version = answer(rustc, &["-vV"]).ok_or(Lack::Answer)?;
    let sysroot = sysroot(rustc).ok_or(Lack::Answer)?;
    let release = judge_version(&version)?.to_owned();
    let llvm = llvm_library(&sysroot).ok_or(Lack::LlvmLibrary)?;
    if !sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file() {
        return Err(Lack::Sources);
    }
    Ok(Compiler { rustc: rustc.to_owned(), release, llvm })
}

/// The release in what `rustc -vV` prints, if it and the LLVM are such as the programs need.
fn judge_version(version: &str) -> Result<&str, Lack> {
    let field = |name: &str| version.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let release = field("release").ok_or(Lack::Answer)?;
    let mut numbers = release.split('.').map_while(|number| number.parse().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else { return Err(Lack::Answer) };
    if (major, minor) < OLDEST_RUST {
        return Err(Lack::Release(release.to_owned()));
    }
    let llvm = field("LLVM version").and_then(|llvm| llvm.split('.').next()?.parse().ok());
    if llvm == Some(LLVM) { Ok(release) } else { Err(Lack::Llvm(llvm)) }
}

/// The shared library of [`LLVM`] that belongs to the compiler installed at `sysroot`.
fn llvm_library(sysroot: &Path) -> Option<PathBuf> {
    let multiarch = format!("lib/{}-linux-gnu", env::consts::ARCH);
    ["lib", &multiarch, "lib64"].iter().find_map(|folder| {
        let files = fs::read_dir(sysroot.join(folder)).ok()?;
        let mut found: Vec<PathBuf> = files
            .filter_map(|file| Some(file.ok()?.path()))
            .filter(|file| llvm_major(file.file_name()) == Some(LLVM) && is_elf(file))
            .collect();
        found.sort();
        found.into_iter().next()
    })
}

/// The major version in a name such as `libLLVM.so.22.1` or `libLLVM-22.so`.
fn llvm_major(name: Option<&OsStr>) -> Option<u32> {
    let rest = name?.to_str()?.strip_prefix("libLLVM")?;
    let rest = rest.strip_prefix(".so.").or_else(|| rest.strip_prefix('-'))?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// rustup installs a linker script under one of the library's names.
fn is_elf(file: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(file).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
}

fn sysroot(rustc: &Path) -> Option<PathBuf> {
    Some(answer(rustc, &["--print", "sysroot"])?.trim().into())
}

/// What a program prints, if it runs and succeeds.
fn answer(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The folder that a variable names, or else one in the user's own.
fn home(variable: &str, default: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(default)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUSTC: &str =
        "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";

    #[test]
    fn a_fitting_compiler_is_known_by_its_version() {
        assert_eq!(judge_version(RUSTC), Ok("1.96.0"));
        let nightly = RUSTC.replace("release: 1.96.0", "release: 1.97.0-nightly");
        assert_eq!(judge_version(&nightly), Ok("1.97.0-nightly"));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let old = RUSTC.replace("release: 1.96.0", "release: 1.63.0");
        assert_eq!(judge_version(&old), Err(Lack::Release("1.63.0".into())));
        let new = RUSTC.replace("22.1.8", "23.0.1");
        assert_eq!(judge_version(&new), Err(Lack::Llvm(Some(23))));
        let cranelift = RUSTC.replace("LLVM version: 22.1.8\n", "");
        assert_eq!(judge_version(&cranelift), Err(Lack::Llvm(None)));
        assert_eq!(judge_version("clang version 14"), Err(Lack::Answer));
    }

    #[test]
    fn the_major_version_of_a_library_is_in_its_name() {
        let major = |name: &str| llvm_major(Some(OsStr::new(name)));
        assert_eq!(major("libLLVM.so.22.1"), Some(22));
        assert_eq!(major("libLLVM.so.22.1-rust-1.95.0-stable"), Some(22));
        assert_eq!(major("libLLVM-22-rust-1.95.0-stable.so"), Some(22));
        assert_eq!(major("libLLVM-14.0.6.so.1"), Some(14));
        assert_eq!(major("libLLVM.so"), None);
        assert_eq!(major("libLLVMSupport.a"), None);
        assert_eq!(major("librustc_driver-22.so"), None);
    }

    #[test]
    fn the_library_is_the_one_of_the_right_version_that_can_be_loaded() {
        let root = tempfile::tempdir().unwrap();
        let lib = root.path().join("lib");
        fs::create_dir(&lib).unwrap();
        fs::write(lib.join("libLLVM-14.so.1"), b"\x7fELF older").unwrap();
        fs::write(lib.join("libLLVM-22-rust-1.95.0-stable.so"), b"INPUT(libLLVM.so.22.1)").unwrap();
        assert_eq!(llvm_library(root.path()), None);
        let library = lib.join("libLLVM.so.22.1-rust-1.95.0-stable");
        fs::write(&library, b"\x7fELF").unwrap();
        assert_eq!(llvm_library(root.path()), Some(library));
    }

    #[test]
    fn the_library_of_a_distribution_is_in_the_folder_of_its_architecture() {
        let root = tempfile::tempdir().unwrap();
        let lib = root.path().join(format!("lib/{}-linux-gnu", env::consts::ARCH));
        fs::create_dir_all(&lib).unwrap();
        let library = lib.join("libLLVM.so.22.1");
        fs::write(&library, b"\x7fELF").unwrap();
        assert_eq!(llvm_library(root.path()), Some(library));
    }

    #[test]
    fn what_tells_how_to_compile_leaks_and_what_tells_where_to_fetch_does_not() {
        for name in [
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_CFG_TARGET_ARCH",
            "CARGO_MANIFEST_DIR",
            "CARGO_INCREMENTAL",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC_LINKER",
            "RUSTC_BOOTSTRAP",
            "RUSTFLAGS",
            "TARGET",
            "DEBUG",
        ] {
            assert!(leaks(name), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "CARGO",
            "CARGO_HOME",
            "CARGO_BUILD_JOBS",
            "CARGO_MAKEFLAGS",
            "CARGO_HTTP_PROXY",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
            "CARGO_REGISTRY_TOKEN",
            "RUSTUP_HOME",
            "HTTPS_PROXY",
        ] {
            assert!(!leaks(name), "{name}");
        }
    }

    #[test]
    fn a_tool_of_another_version_is_passed_over_for_the_repositorys_own() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join(TOOLS).join("bin");
        fs::create_dir_all(&own).unwrap();
        let script = own.join("some-tool-of-shedder");
        fs::write(&script, "#!/bin/sh\necho some-tool 0.10.3\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let found = |version: &str| {
            tool(root.path(), "some-tool-of-shedder", |said| said.split_whitespace().nth(1) == Some(version))
        };
        assert_eq!(found("0.10.3"), Some(script.clone()));
        assert_eq!(found("0.11.0"), None);
    }
}
