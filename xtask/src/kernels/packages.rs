//! Packages of the distribution, downloaded and unpacked without being installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// What boots a guest, and what it is furnished with.
pub(crate) struct Tools {
    /// The emulator.
    pub(crate) emulator: PathBuf,
    /// Where its libraries are that this machine may lack.
    pub(crate) libraries: [PathBuf; 2],
    /// Where its firmware is.
    pub(crate) firmware: [PathBuf; 2],
    /// A shell and the small tools, in one program without libraries.
    pub(crate) busybox: PathBuf,
}

/// The emulator and busybox: the machine's where it has them, else unpacked in `folder`.
pub(crate) fn tools(folder: &Path) -> Result<Tools> {
    let unpacked = folder.join("tools");
    if !unpacked.exists() {
        let wanted =
            ["--simulate", "--no-install-recommends", "install", "qemu-system-x86", "busybox-static"];
        let plan = output(Command::new("apt-get").args(wanted))?;
        let lacking: Vec<&str> =
            plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next()).collect();
        println!(
            "xtask: downloading {} packages for the emulator, to target/kernels: nothing is installed",
            lacking.len()
        );
        let partial = folder.join("tools.partial");
        for package in download(folder, &lacking)? {
            unpack(&package, &partial)?;
        }
        fs::create_dir_all(&partial).context("the folder of the emulator cannot be made")?;
        fs::rename(&partial, &unpacked).context("the folder of the emulator cannot be named")?;
    }
    let find = |place: &str| {
        let own = unpacked.join(place);
        if own.exists() { own } else { Path::new("/").join(place) }
    };
    let tools = Tools {
        emulator: find("usr/bin/qemu-system-x86_64"),
        libraries: ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|place| unpacked.join(place)),
        firmware: [find("usr/share/qemu"), find("usr/share/seabios")],
        busybox: find("bin/busybox"),
    };
    for program in [&tools.emulator, &tools.busybox] {
        ensure!(
            program.exists(),
            "{} is neither installed nor in a package: remove {} and try again",
            program.display(),
            unpacked.display()
        );
    }
    Ok(tools)
}

/// The newest kernel of each series in the archive, as files.
pub(crate) fn kernels(folder: &Path) -> Result<Vec<PathBuf>> {
    let found =
        output(Command::new("apt-cache").args(["search", "--names-only", "^linux-image-[0-9].*-amd64$"]))?;
    let newest = newest(found.lines().filter_map(|line| line.split(' ').next()));
    ensure!(!newest.is_empty(), "the package lists have no kernel: run `apt-get update` as root");
    download(folder, &newest)
}

/// Of packages of kernels, the newest of each series, the oldest series first.
fn newest<'a>(packages: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut series: BTreeMap<Vec<u32>, (Vec<u32>, &str)> = BTreeMap::new();
    for package in packages {
        let Some(release) = package.strip_prefix("linux-image-") else { continue };
        // Others of the same source: with less hardware, for real time, unsigned.
        if ["-cloud-", "-rt-"].iter().any(|flavour| release.contains(flavour)) {
            continue;
        }
        let digits = |c: char| !c.is_ascii_digit();
        let numbers: Vec<u32> =
            release.trim_end_matches("-amd64").split(digits).filter_map(|n| n.parse().ok()).collect();
        // Two numbers alone are the name of a series, and no kernel.
        if numbers.len() > 2 {
            let best = series.entry(numbers[..2].to_vec()).or_insert_with(|| (numbers.clone(), package));
            if numbers > best.0 {
                *best = (numbers, package);
            }
        }
    }
    series.into_values().map(|(_, package)| package).collect()
}

/// Downloads packages, those that are not there, and returns their files.
fn download(folder: &Path, packages: &[&str]) -> Result<Vec<PathBuf>> {
    let files = folder.join("packages");
    fs::create_dir_all(&files).with_context(|| format!("{} cannot be made", files.display()))?;
    let mut paths = Vec::new();
    for package in packages {
        let find = || -> Result<Option<PathBuf>> {
            for entry in fs::read_dir(&files)? {
                let path = entry?.path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if name.strip_prefix(package).is_some_and(|rest| rest.starts_with('_'))
                    && name.ends_with(".deb")
                {
                    return Ok(Some(path));
                }
            }
            Ok(None)
        };
        if find()?.is_none() {
            // It would warn that its own user cannot write here.
            let options = ["-qq", "--option", "APT::Sandbox::User=root", "download"];
            output(Command::new("apt-get").args(options).arg(package).current_dir(&files))?;
        }
        paths.push(find()?.with_context(|| format!("apt-get downloaded no {package}"))?);
    }
    Ok(paths)
}

/// Unpacks the files of a package.
pub(crate) fn unpack(package: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("{} cannot be made", into.display()))?;
    output(Command::new("dpkg-deb").arg("--extract").args([package, into])).map(drop)
}

/// What a command prints that must succeed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("`{name}` does not start"))?;
    if !output.status.success() {
        bail!("`{name}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_series_is_taken() {
        let packages = [
            "linux-image-6.12.107+deb12-amd64",
            "linux-image-6.1.0-9-amd64",
            "linux-image-6.1.0-56-amd64",
            "linux-image-6.1.0-57-cloud-amd64",
            "linux-image-6.12.117+deb12-amd64",
            "linux-image-6.12.99+deb12-rt-amd64",
            "linux-image-6.1-amd64",
        ];
        assert_eq!(
            newest(packages.into_iter()),
            ["linux-image-6.1.0-56-amd64", "linux-image-6.12.117+deb12-amd64"]
        );
    }
}
