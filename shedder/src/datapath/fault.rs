//! Where tests make an installation fail, die or stand still: at each change that it makes in the kernel.
//!
//! In a debug build `SHEDDER_FAULT` names a file. While that says `fail:7`, the seventh such change from then on is an
//! error; `die:7` ends the process before it as `kill -9` would; `hang:7` stops there for good, and `stop:7` as SIGSTOP
//! does. `slow:7` takes 7 ms for each. A release build has none of this.

use std::io;

/// A change that is about to be made.
///
/// # Errors
/// Where a test wants it to fail.
#[cfg(debug_assertions)]
pub(super) fn point() -> io::Result<()> {
    use std::path::PathBuf;
    use std::sync::{LazyLock, Mutex, PoisonError};

    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("SHEDDER_FAULT").map(PathBuf::from));
    /// What the file said last, and the changes since it did.
    static SEEN: Mutex<(String, u64)> = Mutex::new((String::new(), 0));

    let Some(file) = &*FILE else { return Ok(()) };
    let wanted = std::fs::read_to_string(file).unwrap_or_default();
    let count = {
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != wanted {
            *seen = (wanted.clone(), 0);
        }
        seen.1 += 1;
        seen.1
    };
    match wanted.split_once(':') {
        Some(("slow", milliseconds)) => {
            let milliseconds = milliseconds.parse().unwrap_or(0);
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
            Ok(())
        }
        Some((what, at)) if at.parse() == Ok(count) => match what {
            "fail" => Err(io::Error::other(format!("fault {count}, as SHEDDER_FAULT asks"))),
            // SAFETY: no memory is involved, and nothing of this process goes on.
            "die" => unsafe { libc::_exit(137) },
            "stop" => Ok(nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP)?),
            _ => loop {
                std::thread::park();
            },
        },
        _ => Ok(()),
    }
}

/// A change that is about to be made.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(super) fn point() -> io::Result<()> {
    Ok(())
}
