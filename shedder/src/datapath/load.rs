//! Loading one generation: the programs of every interface, and the maps of policy that they share.

use super::by_cpu;
use super::fault;
use super::object::{Object, Plan, Refused};
use super::pins::{Pins, Way, remove_pin};
use super::policy::{Compiled, MEMORY_SETS};
use super::state::State;
use super::sys;
use crate::config::Protocol;
use anyhow::{Context, Result, anyhow, bail, ensure};
use aya::programs::{ProgramError, ProgramType, SchedClassifier, Xdp};
use aya::sys::{BpfHelper, is_helper_supported};
use aya_obj::programs::XdpAttachType;
use bytemuck::Zeroable;
use shedder_common::abi::{Policy, Ports, maps};
use shedder_common::bucket::Set;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread;

/// The oldest kernel on which the programs are known to run.
const OLDEST: &str = "Linux 6.1";

/// What an XDP program returns to let a frame pass.
const XDP_PASS: u32 = 2;

/// One generation being loaded.
pub(super) struct Generation<'a> {
    pub(super) number: u64,
    pub(super) compiled: &'a Compiled,
    pub(super) pins: &'a Pins,
    /// What is there already.
    pub(super) state: Option<&'a State>,
}

/// A map of state whose pin was taken away for another of its name.
pub(super) struct Retired {
    pin: PathBuf,
    map: OwnedFd,
}

impl Retired {
    /// Pins it again, in place of the other.
    pub(super) fn reinstate(self) -> Result<()> {
        remove_pin(&self.pin)?;
        sys::pin(self.map.as_fd(), &self.pin)
            .with_context(|| format!("cannot pin {} again", self.pin.display()))
    }
}

/// The forms that the programs are compiled in, the least first: how their names end, and the flags of a policy that they are
/// for.
const FORMS: [(&str, u32); 3] =
    [("_plain", Policy::PLAIN), ("_unmeasured", Policy::UNMEASURED), ("", Policy::ANY)];

/// The end of the names of the least programs that have all that a policy needs.
fn form_for(policy: &Policy) -> &'static str {
    FORMS.iter().find(|(_, flags)| policy.flags & !flags == 0).map_or("", |(form, _)| form)
}

/// The programs of one interface, which are pinned.
pub(super) struct Programs {
    pub(super) ingress: Xdp,
    pub(super) egress: SchedClassifier,
    /// What they were loaded from, where they were just now.
    object: Option<Object>,
}

impl Programs {
    /// Opens those of the interface in `slot`, of a generation that is in force.
    pub(super) fn pinned(pins: &Pins, generation: u64, slot: usize) -> Result<Programs> {
        let [ingress, egress] = Way::BOTH.map(|way| pins.program(generation, way, slot));
        let open = || -> Result<_, ProgramError> {
            Ok((Xdp::from_pin(ingress, XdpAttachType::Interface)?, SchedClassifier::from_pin(egress)?))
        };
        let (ingress, egress) = open().context("cannot open the programs that are pinned")?;
        Ok(Programs { ingress, egress, object: None })
    }

    /// Asks the loaded object itself whether its programs, its policy and the maps it was given are of one ABI.
    ///
    /// # Errors
    /// Where they are not, or the kernel cannot run it.
    pub(super) fn shake_hands(&self) -> Result<()> {
        const SHORTEST_FRAME: [u8; 14] = [0; 14];
        // Those that were pinned before are in force, and so of one ABI with their maps.
        let Some(object) = &self.object else { return Ok(()) };
        let handshake = object.load("shedder_handshake").map_err(explain)?;
        let answer =
            sys::run(handshake.as_fd(), &SHORTEST_FRAME).context("the kernel does not run the handshake")?;
        ensure!(
            answer == XDP_PASS,
            "the programs and the maps under the pins are of different builds: run `shedder detach`, then attach again"
        );
        Ok(())
    }
}

impl Generation<'_> {
    /// How many entries each map has that the configuration sizes.
    fn sizes(&self) -> [(&'static str, u32); 10] {
        let sets = self.compiled.bucket_sets;
        [
            (maps::PACKETS, sets.packets),
            (maps::BYTES, sets.bytes),
            (maps::NEW_FLOWS, sets.new_flows),
            (maps::PROVEN, MEMORY_SETS),
            (maps::UDP_FLOWS, MEMORY_SETS),
            (maps::PREFIXES4, self.compiled.prefixes4.len() as u32),
            (maps::PREFIXES6, self.compiled.prefixes6.len() as u32),
            (maps::RULES, self.compiled.rules.len() as u32),
            (maps::OFFERED, self.compiled.offered_slots),
            (maps::MEASURED, self.compiled.offered_slots),
        ]
    }

    /// Takes away the pins of state whose size this generation changes: a table of buckets that is made larger begins
    /// empty, while the programs that are still attached keep the old one. What was taken away is in `retired`, also where
    /// it fails.
    pub(super) fn retire_resized_state(&self, retired: &mut Vec<Retired>) -> Result<()> {
        for (name, entries) in self.sizes().into_iter().filter(|(name, _)| maps::STATE.contains(name)) {
            let pin = self.pins.map(name);
            let Ok(map) = sys::get_pinned(&pin) else { continue };
            let shape = sys::map_shape(map.as_fd())?;
            let has = shape.value_size as usize * shape.max_entries as usize / size_of::<Set>();
            if has != entries as usize {
                tracing::info!(
                    map = name,
                    from = has,
                    to = entries,
                    "a table changes its size and begins empty"
                );
                remove_pin(&pin)?;
                retired.push(Retired { pin, map });
            }
        }
        Ok(())
    }

    /// Loads the programs of the interface in `slot`, and pins them.
    pub(super) fn load(&self, slot: usize) -> Result<Programs> {
        let cpus = by_cpu::places()?;
        let interface = slot as u32;
        let own = Policy {
            interface,
            cpu_mask: cpus - 1,
            service_entries: u64::from(self.compiled.offered_slots) * u64::from(cpus),
            ..self.compiled.policy
        };
        fault::point()?;
        let plan = |name: &str| Plan {
            pin: if maps::STATE.contains(&name) {
                Some(self.pins.map(name))
            } else if maps::POLICY.contains(&name) {
                Some(self.pins.policy_map(self.number, name))
            } else {
                None
            },
            open: self.state.and_then(|state| state.map(name)),
            entries: self.sizes().into_iter().find(|(sized, _)| *sized == name).map(|(_, entries)| entries),
            first: if name == maps::COUNTERS { interface * cpus } else { 0 },
            copies: if maps::BY_CPU.contains(&name) { cpus } else { 1 },
        };
        let object = Object::open(&own, plan).map_err(explain)?;
        let form = form_for(&own);
        let [ingress, egress] = verify(&object, form)?;
        let pin = |way, program: &OwnedFd| -> Result<()> {
            let path = self.pins.program(self.number, way, slot);
            sys::pin(program.as_fd(), &path).with_context(|| format!("cannot pin {}", path.display()))
        };
        pin(Way::Ingress, &ingress)?;
        pin(Way::Egress, &egress)?;
        tracing::debug!(slot, form, flags = own.flags, "loaded");
        Ok(Programs { object: Some(object), ..Programs::pinned(self.pins, self.number, slot)? })
    }

    /// Fills the maps of policy. Done before any program that reads them is attached.
    pub(super) fn fill(&self) -> Result<()> {
        let mut ports = Box::new(Ports::zeroed());
        for (protocol, port, entry) in &self.compiled.ports {
            let table = match protocol {
                Protocol::Tcp => &mut ports.tcp,
                Protocol::Udp => &mut ports.udp,
            };
            table[*port as usize] = entry.0;
        }
        self.fill_table(maps::PREFIXES4, &self.compiled.prefixes4)?;
        self.fill_table(maps::PREFIXES6, &self.compiled.prefixes6)?;
        self.fill_table(maps::RULES, &self.compiled.rules)?;
        self.fill_table(maps::PORTS, std::slice::from_ref(&*ports))
    }

    /// Writes all entries of a table.
    fn fill_table<T: bytemuck::Pod>(&self, name: &str, entries: &[T]) -> Result<()> {
        let path = self.pins.policy_map(self.number, name);
        let map =
            sys::get_pinned(&path).with_context(|| format!("cannot open the map {}", path.display()))?;
        let shape = sys::map_shape(map.as_fd())?;
        let entries: &[u8] = bytemuck::cast_slice(entries);
        ensure!(shape.value_size as usize == entries.len(), "the map {} has another size", path.display());
        // SAFETY: as long as the map's value, by the comparison.
        unsafe { sys::write_value(map.as_fd(), entries) }
            .with_context(|| format!("cannot write the map {}", path.display()))
    }
}

/// Looks for the youngest thing that the programs need of the kernel, before anything is changed. A kernel older than
/// [`OLDEST`] into which its distribution brought that thing may do.
///
/// # Errors
/// A sentence that names what is missing.
pub(super) fn require_kernel() -> Result<()> {
    let needed = BpfHelper::BPF_FUNC_xdp_get_buff_len;
    // Where that cannot be found out, loading will say why.
    judge_kernel(is_helper_supported(ProgramType::Xdp, needed).unwrap_or(true), &kernel_release())
}

fn judge_kernel(has_buff_len: bool, release: &str) -> Result<()> {
    if !has_buff_len {
        bail!(
            "this kernel ({release}) is too old: it lacks bpf_xdp_get_buff_len and XDP on frames in several buffers, which \
             came with Linux 5.18; {OLDEST} or later is needed"
        );
    }
    Ok(())
}

/// Loads both programs of a form, side by side: the verifier takes some tenths of a second for each.
fn verify(object: &Object, form: &str) -> Result<[OwnedFd; 2]> {
    let load = |program| object.load(&format!("{program}{form}")).map_err(explain);
    thread::scope(|scope| {
        let other = thread::Builder::new()
            .name("verifier".into())
            .spawn_scoped(scope, || load("shedder_egress"))
            .context("cannot start a thread to load a program")?;
        let ingress = load("shedder_ingress")?;
        let egress = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok([ingress, egress])
    })
}

fn kernel_release() -> String {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    release.unwrap_or_else(|_| "unknown".into())
}

/// What is missing, and how to get it, where it is the kernel that refuses to load.
fn explain(error: anyhow::Error) -> anyhow::Error {
    let Some(refusal) = io_error_of(error.as_ref()).map(std::io::Error::raw_os_error) else { return error };
    let kernel = kernel_release();
    if let Some(Refused { error, log, .. }) = error.downcast_ref()
        && !matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM))
    {
        // The verifier gives its reason at the end of what may be thousands of lines.
        let reason: Vec<&str> = log.lines().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect();
        return anyhow!(
            "the verifier of this kernel ({kernel}) refused the program ({error}): {OLDEST} or later is needed; on \
             such a kernel this is a defect of shedder, to be reported with these lines:\n{}",
            reason.join("\n")
        );
    }
    let needs;
    let hint = match refusal {
        Some(libc::EPERM | libc::EACCES) => {
            needs = format!("this needs {}", sys::PRIVILEGES);
            &needs
        }
        Some(libc::ENOMEM) => {
            "it has no memory for the maps and the programs: lower `source.table`, or raise the memory limit"
        }
        Some(libc::EROFS) => {
            "the BPF file system is read-only: remount it with `mount -o remount,rw /sys/fs/bpf`"
        }
        _ => {
            needs = format!("{OLDEST} or later with BPF is needed");
            &needs
        }
    };
    error.context(format!("the kernel ({kernel}) refused to load the programs: {hint}"))
}

/// The system's error at the end of a chain of causes.
pub(super) fn io_error_of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a std::io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io_error) = error.downcast_ref() {
            return Some(io_error);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_judged_by_what_it_lacks_and_told_what_it_is_and_what_is_needed() {
        let said = judge_kernel(false, "5.10.0-46-amd64").unwrap_err().to_string();
        for part in [
            "this kernel (5.10.0-46-amd64) is too old",
            "bpf_xdp_get_buff_len",
            "Linux 6.1 or later is needed",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!said.contains('\n'), "one sentence: {said}");
        // A distribution may have brought it to an older one.
        assert!(judge_kernel(true, "5.14.0-611.el9").is_ok());
    }

    fn refused(errno: i32, log: &str) -> Refused {
        let error = std::io::Error::from_raw_os_error(errno);
        Refused { program: "shedder_ingress".into(), error, log: log.into() }
    }

    #[test]
    fn a_program_that_the_verifier_refuses_is_a_defect_where_the_kernel_is_new_enough() {
        let refused = refused(libc::EINVAL, "first\nR1 invalid mem access");
        let said = explain(refused.into()).to_string();
        for part in [kernel_release().as_str(), OLDEST, "R1 invalid mem access"] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn the_least_form_is_loaded_that_a_policy_needs() {
        let form = |flags| form_for(&Policy { flags, ..Policy::zeroed() });
        assert_eq!(form(0), "_plain");
        assert_eq!(form(Policy::PRECISE_CLOCK), "_plain");
        for flag in [Policy::DRY_RUN, Policy::SERVICES, Policy::LIFELINES, Policy::PREFIXES] {
            assert_eq!(form(flag), "_unmeasured");
        }
        assert_eq!(form(Policy::SERVICES | Policy::MEASURED), "");
    }

    #[test]
    fn a_program_that_finds_no_memory_is_no_defect() {
        let refused = refused(libc::ENOMEM, "");
        let said = format!("{:#}", explain(refused.into()));
        assert!(said.contains("raise the memory limit") && !said.contains("defect"), "{said}");
    }
}
