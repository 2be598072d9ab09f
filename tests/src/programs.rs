//! How large the programs are as the kernel took them, against the figures on record.

use crate::kernel::Attached;
use crate::shedder::Shedder;
use anyhow::{Context, Result, ensure};
use aya::programs::ProgramInfo;
use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The figures on record, from the root of the repository: to be changed with what changes them.
pub const RECORD: &str = "shedder-ebpf/programs.txt";

/// By how much a figure may exceed the one on record, in hundredths.
pub const GROWTH: u64 = 20;

/// A program of one configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// The configuration and the program.
    pub name: String,
    /// Instructions that are left of it: what the configuration turns off the verifier takes out.
    pub instructions: u64,
    /// Instructions that the verifier followed.
    pub verified: u64,
}

/// A [`Size`], and the one on record for this kernel's series; none: it is another kernel's.
#[derive(Clone, Debug)]
pub struct Held {
    /// As loaded.
    pub size: Size,
    /// As recorded.
    pub recorded: Option<Size>,
}

impl Held {
    /// Whether it has not grown by more than is allowed.
    pub fn fits(&self) -> bool {
        let fits = |now: u64, then: u64| now * 100 <= then * (100 + GROWTH);
        self.recorded.as_ref().is_none_or(|then| {
            fits(self.size.instructions, then.instructions) && fits(self.size.verified, then.verified)
        })
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size { name, instructions, verified } = &self.size;
        write!(f, "{name}: {instructions} instructions, {verified} followed by the verifier")?;
        match &self.recorded {
            Some(then) => write!(f, " (on record: {}, {})", then.instructions, then.verified),
            None => write!(f, " (none on record for this kernel)"),
        }
    }
}

/// Loads the programs of some configurations, and holds them against the record.
///
/// # Errors
/// Where the record is of no use, or the kernel does not tell.
///
/// # Panics
/// Where the programs do not load.
pub fn hold(shedder: &Shedder<'_>) -> Result<Vec<Held>> {
    let nothing = String::from("interfaces = [\"$IF\"]\n");
    let mut all = Vec::new();
    for (configuration, text) in [("nothing", nothing), ("largest", largest(&RATES))] {
        shedder.attach(&text);
        let attached = Attached::under(shedder.pins());
        let programs = [("ingress", attached.ingress().info()?), ("egress", attached.egress().info()?)];
        for (program, info) in programs {
            let size = size(format!("{configuration} {program}"), &info)?;
            let recorded = recorded(&size.name)?;
            all.push(Held { size, recorded });
        }
    }
    Ok(all)
}

fn size(name: String, info: &ProgramInfo) -> Result<Size> {
    let bytes = info.size_translated().context("the kernel does not tell a program's size")?;
    let verified = info.verified_instruction_count().context("the kernel does not tell what it followed")?;
    Ok(Size { name, instructions: u64::from(bytes) / 8, verified: verified.into() })
}

/// What is on record for the program of this name on this kernel's series.
fn recorded(name: &str) -> Result<Option<Size>> {
    let running = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
    recorded_in(include_str!("../../shedder-ebpf/programs.txt"), &running, name)
}

fn recorded_in(record: &str, running: &str, name: &str) -> Result<Option<Size>> {
    let mut lines = record.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let series = lines.next().and_then(|line| line.strip_prefix("kernel ")).context("it names no kernel")?;
    if !running.strip_prefix(series).is_some_and(|rest| rest.starts_with('.')) {
        return Ok(None);
    }
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [configuration, program, instructions, verified] = words[..] else {
            anyhow::bail!("{RECORD}: `{line}` is not a configuration, a program and two figures");
        };
        if name == format!("{configuration} {program}") {
            return Ok(Some(Size {
                name: name.into(),
                instructions: instructions.parse()?,
                verified: verified.parse()?,
            }));
        }
    }
    ensure!(false, "{RECORD} has no line for `{name}`");
    Ok(None)
}

/// Every limit of a source.
pub const RATES: [&str; 3] =
    ["packets_per_second = 10_000", "bytes_per_second = 50_000_000", "new_flows_per_second = 200"];

/// A configuration of rules and lifelines of as many prefix lengths as there may be, and a service that is measured;
/// with these limits of every source.
pub fn largest(rates: &[&str]) -> String {
    const LENGTHS: u32 = 33;
    let mut text = String::from(
        "interfaces = [\"$IF\"]\nposture = \"closed\"\n\
         [newcomers]\npackets_per_second = 50_000\n\
         [[service]]\nname = \"web\"\nprotocol = \"tcp\"\nport = 80\n\
         [[lifeline]]\npeers = [\"10.0.0.0/8\"]\nports = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]\n",
    );
    for length in 0..LENGTHS {
        let v4 = Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - length).unwrap_or(0));
        let v6 = Ipv6Addr::from_bits(u128::MAX.checked_shl(128 - 2 * length).unwrap_or(0));
        let (rule, v6_length) = ("[[rule]]\nclass = \"low\"\nsources =", 2 * length);
        let _ = writeln!(text, "{rule} [\"{v4}/{length}\", \"{v6}/{v6_length}\"]");
    }
    let _ = writeln!(text, "[source]\nipv6_prefix = 128\n{}", rates.join("\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = "# A comment.\nkernel 6.18\n\nnothing ingress 100 1000\n";

    #[test]
    fn figures_are_of_the_kernel_that_they_were_taken_on() {
        let size = Size { name: "nothing ingress".into(), instructions: 100, verified: 1000 };
        let find = |running| recorded_in(RECORDED, running, "nothing ingress").unwrap();
        assert_eq!(find("6.18.44-generic"), Some(size));
        assert_eq!([find("6.1.0"), find("6.181.0")], [None, None]);
        assert!(recorded_in(RECORDED, "6.18.1", "largest ingress").is_err());
    }

    #[test]
    fn growth_past_a_fifth_of_either_figure_does_not_fit() {
        let held = |instructions, verified| Held {
            size: Size { name: String::new(), instructions, verified },
            recorded: Some(Size { name: String::new(), instructions: 100, verified: 1000 }),
        };
        assert!(held(120, 1200).fits() && held(1, 1).fits());
        assert!(!held(121, 1).fits() && !held(1, 1201).fits());
    }
}
