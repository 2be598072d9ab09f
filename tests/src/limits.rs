//! Limits of this process.

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the number of open files that this process may have to the most it is allowed, and returns that number.
pub fn raise_open_files() -> Result<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("reading the limit of open files")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")?;
    }
    Ok(usize::try_from(hard).unwrap_or(usize::MAX))
}
