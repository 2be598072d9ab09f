//! Loading one generation: the programs of every interface, and the maps of policy that they share.

use super::fault;
use super::pins::{Pins, Way, remove_pin};
use super::policy::{Compiled, MEMORY_SETS};
use super::sys::{self, MapShape};
use crate::config::Protocol;
use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{Array, Map, MapData};
use aya::programs::{ProgramError, ProgramType, SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::sys::{BpfHelper, is_helper_supported};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use aya_log::EbpfLogger;
use aya_obj::programs::XdpAttachType;
use bytemuck::Zeroable;
use shedder_common::abi::{Policy, Ports, maps};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread;

/// The programs, compiled by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/shedder-ebpf"));

/// The oldest kernel on which the programs are known to run.
const OLDEST: &str = "Linux 6.1";

/// What an XDP program returns to let a frame pass.
const XDP_PASS: u32 = 2;

/// One generation being loaded.
pub(super) struct Generation<'a> {
    pub(super) number: u64,
    pub(super) compiled: &'a Compiled,
    pub(super) pins: &'a Pins,
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

/// The programs of one interface.
pub(super) enum Programs {
    /// Just now, with all that they need, in this form.
    Loaded(Ebpf, &'static str),
    /// Earlier, and pinned since.
    Pinned(Box<(Xdp, SchedClassifier)>),
}

impl Programs {
    /// Opens those of the interface in `slot`, of a generation that is in force.
    pub(super) fn pinned(pins: &Pins, generation: u64, slot: usize) -> Result<Programs> {
        let [ingress, egress] = Way::BOTH.map(|way| pins.program(generation, way, slot));
        let open = || -> Result<_, ProgramError> {
            Ok((Xdp::from_pin(ingress, XdpAttachType::Interface)?, SchedClassifier::from_pin(egress)?))
        };
        let programs = open().context("cannot open the programs that are pinned")?;
        Ok(Programs::Pinned(Box::new(programs)))
    }

    pub(super) fn ingress(&mut self) -> Result<&mut Xdp> {
        match self {
            Programs::Loaded(object, form) => Ok(object
                .program_mut(&format!("shedder_ingress{form}"))
                .context("the object has no ingress program")?
                .try_into()?),
            Programs::Pinned(programs) => Ok(&mut programs.0),
        }
    }

    pub(super) fn egress(&mut self) -> Result<&mut SchedClassifier> {
        match self {
            Programs::Loaded(object, form) => Ok(object
                .program_mut(&format!("shedder_egress{form}"))
                .context("the object has no egress program")?
                .try_into()?),
            Programs::Pinned(programs) => Ok(&mut programs.1),
        }
    }
}

impl Programs {
    /// Asks the loaded object itself whether its programs, its policy and the maps it was given are of one ABI. What it
    /// says goes to the log.
    ///
    /// # Errors
    /// Where they are not, or the kernel cannot run it.
    pub(super) fn shake_hands(&mut self) -> Result<()> {
        const SHORTEST_FRAME: [u8; 14] = [0; 14];
        // Those that are pinned are in force, and so of one ABI with their maps.
        let Programs::Loaded(object, _) = self else { return Ok(()) };
        let mut logger = EbpfLogger::init(object).context("cannot read what the programs log")?;
        let handshake: &mut Xdp =
            object.program_mut("shedder_handshake").context("the object has no handshake")?.try_into()?;
        undisturbed(|| handshake.load().map_err(anyhow::Error::from))?;
        let options = TestRunOptions { data_in: Some(&SHORTEST_FRAME), ..TestRunOptions::default() };
        let answer =
            handshake.test_run(options).context("the kernel does not run the handshake")?.return_value;
        logger.flush();
        handshake.unload().context("cannot unload the handshake")?;
        if answer != XDP_PASS {
            bail!(
                "the programs and the maps under the pins are of different builds: run `shedder detach`, then attach again"
            );
        }
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
            let MapShape { max_entries, .. } = sys::map_shape(map.as_fd())?;
            if max_entries != entries {
                tracing::info!(
                    map = name,
                    from = max_entries,
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
        let mut policy = self.compiled.policy;
        policy.interface = slot as u32;
        let mut loader = EbpfLoader::new();
        // Without any level the kernel refuses the buffer that aya gives it after a refusal, and that error hides the
        // first. This one says why a program is refused, and nothing of each instruction.
        loader.verifier_log_level(VerifierLogLevel::STATS);
        loader.override_global("POLICY", bytemuck::bytes_of(&policy), true);
        for name in maps::STATE {
            loader.map_pin_path(name, self.pins.map(name));
        }
        for name in maps::POLICY {
            loader.map_pin_path(name, self.pins.policy_map(self.number, name));
        }
        for (name, entries) in self.sizes() {
            loader.map_max_entries(name, entries);
        }
        fault::point()?;
        let mut object = loader.load(OBJECT).map_err(explain)?;
        let form = form_for(&policy);
        verify(&mut object, form)?;
        let mut programs = Programs::Loaded(object, form);
        let path = |way| self.pins.program(self.number, way, slot);
        fault::point()?;
        programs.ingress()?.pin(path(Way::Ingress)).context("cannot pin the ingress program")?;
        fault::point()?;
        programs.egress()?.pin(path(Way::Egress)).context("cannot pin the egress program")?;
        Ok(programs)
    }

    /// Fills the maps of policy. Done before any program that reads them is attached.
    pub(super) fn fill(&self) -> Result<()> {
        let open = |name| -> Result<MapData> {
            MapData::from_pin(self.pins.policy_map(self.number, name))
                .with_context(|| format!("cannot open the map {name}"))
        };
        fill_array(open(maps::PREFIXES4)?, &self.compiled.prefixes4).context("cannot write IPv4 prefixes")?;
        fill_array(open(maps::PREFIXES6)?, &self.compiled.prefixes6).context("cannot write IPv6 prefixes")?;
        fill_array(open(maps::RULES)?, &self.compiled.rules).context("cannot write rules")?;
        let mut ports = Box::new(Ports::zeroed());
        for (protocol, port, entry) in &self.compiled.ports {
            let table = match protocol {
                Protocol::Tcp => &mut ports.tcp,
                Protocol::Udp => &mut ports.udp,
            };
            table[*port as usize] = entry.0;
        }
        fill_array(open(maps::PORTS)?, std::slice::from_ref(&*ports))
            .context("cannot write the table of ports")
    }
}

/// A value of a map, in a form that aya takes.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value<T>(T);

// SAFETY: `bytemuck::Pod` asks for more than `aya::Pod` does.
unsafe impl<T: bytemuck::Pod> aya::Pod for Value<T> {}

/// Writes all entries of an array map.
fn fill_array<T: bytemuck::Pod>(map: MapData, entries: &[T]) -> Result<()> {
    let mut map = Array::try_from(Map::Array(map))?;
    for (index, entry) in (0..).zip(entries) {
        map.set(index, Value(*entry), 0)?;
    }
    Ok(())
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
fn verify(object: &mut Ebpf, form: &str) -> Result<()> {
    let (mut ingress, mut egress) = (None::<&mut Xdp>, None::<&mut SchedClassifier>);
    for (name, program) in object.programs_mut() {
        match name.strip_suffix(form) {
            Some("shedder_ingress") => ingress = Some(program.try_into()?),
            Some("shedder_egress") => egress = Some(program.try_into()?),
            _ => {}
        }
    }
    let ingress = ingress.context("the object has no ingress program")?;
    let egress = egress.context("the object has no egress program")?;
    thread::scope(|scope| {
        let other = thread::Builder::new()
            .name("verifier".into())
            .spawn_scoped(scope, || undisturbed(|| egress.load().map_err(anyhow::Error::from)));
        let other = other.context("cannot start a thread to load a program")?;
        undisturbed(|| ingress.load().map_err(anyhow::Error::from))?;
        other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Loads a program, again where the verifier gave up because this process was stopped or traced meanwhile.
fn undisturbed(mut load: impl FnMut() -> Result<()>) -> Result<()> {
    const ATTEMPTS: usize = 10;
    let mut load = || load().map_err(|error| error.downcast::<ProgramError>());
    for _ in 1..ATTEMPTS {
        match load() {
            Err(Ok(error))
                if io_error_of(&error).and_then(|error| error.raw_os_error()) == Some(libc::EAGAIN) => {}
            Err(Ok(error)) => return Err(explain(error.into())),
            Err(Err(other)) => return Err(other),
            Ok(()) => return Ok(()),
        }
    }
    load().map_err(|error| error.map_or_else(|other| other, |error| explain(error.into())))
}

fn kernel_release() -> String {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    release.unwrap_or_else(|_| "unknown".into())
}

/// What is missing, and how to get it, where the kernel refuses to load.
fn explain(error: aya::EbpfError) -> anyhow::Error {
    let kernel = kernel_release();
    if let aya::EbpfError::ProgramError(ProgramError::LoadError { io_error, verifier_log }) = &error
        && !matches!(io_error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM))
    {
        // The verifier gives its reason at the end of what may be thousands of lines.
        let log = verifier_log.to_string();
        let reason: Vec<&str> = log.lines().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect();
        return anyhow!(
            "the verifier of this kernel ({kernel}) refused the program ({io_error}): {OLDEST} or later is needed; on \
             such a kernel this is a defect of shedder, to be reported with these lines:\n{}",
            reason.join("\n")
        );
    }
    let needs;
    let hint = match io_error_of(&error).and_then(|error| error.raw_os_error()) {
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
    anyhow!(error).context(format!("the kernel ({kernel}) refused to load the programs: {hint}"))
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

    #[test]
    fn a_program_that_the_verifier_refuses_is_a_defect_where_the_kernel_is_new_enough() {
        let refused = ProgramError::LoadError {
            io_error: std::io::Error::from_raw_os_error(libc::EINVAL),
            verifier_log: aya_obj::VerifierLog::new("first\nR1 invalid mem access".into()),
        };
        let said = explain(refused.into()).to_string();
        for part in [kernel_release().as_str(), OLDEST, "R1 invalid mem access"] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn the_least_form_is_loaded_that_a_policy_needs() {
        let form = |flags| form_for(&Policy { flags, ..Policy::zeroed() });
        assert_eq!(form(0), "_plain");
        assert_eq!(form(Policy::DRY_RUN | Policy::PRECISE_CLOCK), "_plain");
        for flag in [Policy::SERVICES, Policy::LIFELINES, Policy::PREFIXES] {
            assert_eq!(form(flag), "_unmeasured");
        }
        assert_eq!(form(Policy::SERVICES | Policy::MEASURED), "");
    }

    #[test]
    fn a_program_that_finds_no_memory_is_no_defect() {
        let refused = ProgramError::LoadError {
            io_error: std::io::Error::from_raw_os_error(libc::ENOMEM),
            verifier_log: aya_obj::VerifierLog::new(String::new()),
        };
        let said = format!("{:#}", explain(refused.into()));
        assert!(said.contains("raise the memory limit") && !said.contains("defect"), "{said}");
    }
}
