//! A guest: what it is made of, and how it is run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::image::Image;
use super::packages::{Tools, output, unpack};
use crate::steps::Steps;

/// Far more than the minutes that it takes on an idle machine: only what hangs must end.
const LIMIT: Duration = Duration::from_secs(1200);

/// Two CPUs, emulated in turns by one thread. With a thread for each, QEMU before 8.1 ("accel/tcg: Always lock pages before
/// translation") may translate code that the kernel is just patching on the other CPU, keep that, and meet a breakpoint that is
/// long gone: a panic by `int3`, seen where a program took the place of another (`bpf_dispatcher_xdp_func`).
const ACCELERATION: &str = "tcg,thread=single";

/// Frames that are generated for the kernel's verdict against the host's: what an emulator judges in minutes.
const FRAMES: u32 = 10_000;

/// What networks need of a kernel that has it in modules, in the order to load them.
const MODULES: [&str; 5] = ["veth", "sch_ingress", "cls_bpf", "cls_matchall", "act_gact"];

/// What the guest prints when a suite has ended, before the exit code and the suite.
const ENDED: &str = "guest: exit code";

/// A kernel, unpacked.
pub(super) struct Kernel {
    /// As `uname -r` will print it.
    pub(super) release: String,
    /// The first two numbers of it.
    pub(super) version: (u32, u32),
    image: PathBuf,
    modules: PathBuf,
}

/// A test program with its arguments.
pub(super) struct Suite {
    pub(super) target: &'static str,
    pub(super) arguments: Vec<&'static str>,
}

impl Kernel {
    /// Unpacks a package in `folder`.
    pub(super) fn unpack(folder: &Path, package: &Path) -> Result<Kernel> {
        let name = package.file_stem().context("a package has a name")?;
        let into = folder.join(name);
        if !into.exists() {
            let partial = folder.join("kernel.partial");
            let _ = fs::remove_dir_all(&partial);
            unpack(package, &partial)?;
            fs::rename(&partial, &into).context("the folder of a kernel cannot be named")?;
        }
        let boot = fs::read_dir(into.join("boot"))
            .with_context(|| format!("{} has no kernel", package.display()))?;
        let release = boot
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("vmlinuz-").map(str::to_owned))
            .next()
            .with_context(|| format!("{} has no kernel", package.display()))?;
        Ok(Kernel {
            version: version(&release).with_context(|| format!("{release} is no version"))?,
            image: into.join("boot").join(format!("vmlinuz-{release}")),
            modules: into.join("lib/modules").join(&release).join("kernel"),
            release,
        })
    }

    /// A module, as the kernel takes it; none: it is built in, or was not made.
    fn module(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let places = ["drivers/net", "net/sched"];
        for place in places.map(|place| self.modules.join(place)) {
            let plain = place.join(format!("{name}.ko"));
            if plain.exists() {
                return fs::read(&plain)
                    .map(Some)
                    .with_context(|| format!("{} cannot be read", plain.display()));
            }
            let packed = place.join(format!("{name}.ko.xz"));
            if packed.exists() {
                let unpacked = Command::new("xz").args(["--decompress", "--stdout"]).arg(&packed).output();
                let unpacked = unpacked.context("`xz` does not start: install xz-utils")?;
                ensure!(unpacked.status.success(), "`xz` failed on {}", packed.display());
                return Ok(Some(unpacked.stdout));
            }
        }
        Ok(None)
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-', '+']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Makes the file system that the kernel boots into.
pub(super) fn image(
    path: &Path,
    kernel: &Kernel,
    tools: &Tools,
    programs: &[(String, PathBuf)],
    suites: &[Suite],
) -> Result<()> {
    let mut image = Image::create(path)?;
    for directory in ["/dev", "/proc", "/run", "/sys", "/tmp"] {
        image.directory(directory)?;
    }
    for tool in ["ip", "tc"] {
        let path =
            output(Command::new("sh").args(["-c", &format!("PATH=$PATH:/usr/sbin:/sbin command -v {tool}")]));
        let path = path.with_context(|| format!("`{tool}` is missing: install iproute2"))?;
        image.program(&format!("/bin/{tool}"), Path::new(path.trim()))?;
    }
    for (name, path) in programs {
        image.program(&format!("/bin/{name}"), path)?;
    }
    let busybox =
        fs::read(&tools.busybox).with_context(|| format!("{} cannot be read", tools.busybox.display()))?;
    image.file("/bin/busybox", &busybox)?;
    let mut modules = Vec::new();
    for name in MODULES {
        if let Some(module) = kernel.module(name)? {
            image.file(&format!("/modules/{name}"), &module)?;
            modules.push(name);
        }
    }
    image.file("/init", init(&modules, suites).as_bytes())?;
    image.finish().map(drop)
}

/// The first process, which runs the suites one after the other and puts the machine out.
fn init(modules: &[&str], suites: &[Suite]) -> String {
    let mut script = String::from("#!/bin/busybox sh\n");
    let mounts = [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
        ("bpf", "/sys/fs/bpf"),
    ];
    for (kind, place) in mounts {
        script += &format!("/bin/busybox mount -t {kind} {kind} {place}\n");
    }
    for module in modules {
        script += &format!("/bin/busybox insmod /modules/{module}\n");
    }
    script += &format!("export PATH=/bin SHEDDER_GUEST=1 SHEDDER_BIN=/bin/shedder SHEDDER_FRAMES={FRAMES}\n");
    for Suite { target, arguments } in suites {
        script += &format!("/bin/{target} {} 2>&1\necho \"{ENDED} $?: {target}\"\n", arguments.join(" "));
    }
    script + "/bin/busybox poweroff -f\n"
}

/// Boots a guest and shows what it prints.
///
/// # Errors
/// A suite failed, or the guest ended or was ended before it.
pub(super) fn boot(image: &Path, kernel: &Kernel, tools: &Tools, suites: &[Suite]) -> Result<()> {
    // Ends the emulator where it does not end by itself.
    let mut emulator = Command::new("timeout");
    emulator.arg("--kill-after=10s").arg(format!("{}s", LIMIT.as_secs())).arg(&tools.emulator);
    for firmware in &tools.firmware {
        emulator.arg("-L").arg(firmware);
    }
    emulator
        .args(["-accel", ACCELERATION, "-cpu", "max", "-smp", "2", "-m", "2048"])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-nographic",
            "-serial",
            "stdio",
            "-no-reboot",
            "-net",
            "none",
        ])
        .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(image)
        .env("LD_LIBRARY_PATH", std::env::join_paths(&tools.libraries).context("a path has a colon")?)
        .stdin(std::process::Stdio::null());
    let mut codes = Vec::new();
    let title = format!("Linux {}, emulated", kernel.release);
    Steps::new(1).run_reading(&title, &mut emulator, |line| {
        codes.extend(line.trim().strip_prefix(ENDED).map(|rest| rest.trim().to_owned()));
    })?;
    let wanted: Vec<String> = suites.iter().map(|suite| format!("0: {}", suite.target)).collect();
    ensure!(codes == wanted, "Linux {}: the suites ended with {codes:?}, not {wanted:?}", kernel.release);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_first_two_numbers() {
        assert_eq!(version("6.1.0-56-amd64"), Some((6, 1)));
        assert_eq!(version("6.12.117+deb12-amd64"), Some((6, 12)));
        assert_eq!(version("amd64"), None);
    }

    #[test]
    fn the_first_process_runs_every_suite_and_ends_the_guest() {
        let suites = [Suite { target: "packets", arguments: vec!["--nocapture"] }];
        let script = init(&["veth"], &suites);
        assert!(script.contains("insmod /modules/veth\n"));
        assert!(script.contains("/bin/packets --nocapture 2>&1\necho \"guest: exit code $?: packets\"\n"));
        assert!(script.ends_with("poweroff -f\n"));
    }
}
