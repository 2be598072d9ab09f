//! The machine that something was measured on.

/// CPUs and kernel.
pub fn describe() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, |cpus| cpus.get());
    let kernel = nix::sys::utsname::uname()
        .map(|system| format!("{} {}", system.sysname().display(), system.release().display()));
    format!("{cpus} CPUs, {}", kernel.unwrap_or_else(|_| "an unknown kernel".into()))
}
