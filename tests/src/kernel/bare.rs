//! The least that an XDP program can do, to hold others against.

use anyhow::{Context, Result, ensure};
use aya::programs::Xdp;
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_prog_type};
use aya_obj::programs::XdpAttachType;
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `r0 = XDP_DROP`, `exit`: opcode, registers, offset and immediate of each.
const DROP: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

/// Loads an XDP program that drops everything, two instructions long, and pins it at `pin`, on a bpffs.
pub fn bare_drop(pin: &Path) -> Result<Xdp> {
    let license = c"Dual MIT/GPL";
    let mut attributes = zeroed();
    // SAFETY: a union of plain data; this command reads this member of it.
    let load = unsafe { &mut attributes.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
    load.insn_cnt = DROP.len() as u32;
    load.insns = DROP.as_ptr() as u64;
    load.license = license.as_ptr() as u64;
    let program = bpf(bpf_cmd::BPF_PROG_LOAD, &attributes).context("loading two instructions")?;
    // SAFETY: the call made this descriptor, and nobody else has it.
    let program = unsafe { OwnedFd::from_raw_fd(program) };

    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attributes = zeroed();
    // SAFETY: as above.
    let object = unsafe { &mut attributes.__bindgen_anon_4 };
    object.pathname = path.as_ptr() as u64;
    object.bpf_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_OBJ_PIN, &attributes).with_context(|| format!("pinning at {}", pin.display()))?;
    Ok(Xdp::from_pin(pin, XdpAttachType::Interface)?)
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain data, for which all zeros are valid.
    unsafe { std::mem::zeroed() }
}

fn bpf(command: bpf_cmd, attributes: &bpf_attr) -> Result<i32> {
    // SAFETY: the attributes, and all that they point to, live across the call.
    let returned = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<bpf_attr>())
    };
    ensure!(returned >= 0, "bpf() is refused: {}", std::io::Error::last_os_error());
    Ok(returned as i32)
}
