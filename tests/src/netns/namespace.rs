//! One network namespace.

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// Where `ip netns` keeps its names.
pub(super) const NAMES: &str = "/run/netns";

/// A named network namespace. Clones are the same one; it lives as long as its [`super::Network`].
#[derive(Clone, Debug)]
pub struct Namespace {
    name: Arc<str>,
    file: Arc<File>,
}

impl Namespace {
    /// Makes one with this name.
    pub(super) fn create(name: &str) -> Result<Namespace> {
        let output = Command::new("ip")
            .args(["netns", "add", name])
            .output()
            .context("starting `ip`: install iproute2")?;
        ensure!(
            output.status.success(),
            "`ip netns add {name}` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let path = path(name);
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        Ok(Namespace { name: name.into(), file: Arc::new(file) })
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread into the namespace, for good: for threads that live for nothing else.
    pub fn enter(&self) -> Result<()> {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("entering the network namespace {}", self.name))
    }

    /// Runs `work` inside the namespace, on a thread of its own, and waits for it. A panic goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| work()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread that works inside the namespace.
    pub fn thread<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let namespace = self.clone();
        Builder::new()
            .name(name.into())
            .spawn(move || namespace.enter().and_then(|()| work()))
            .with_context(|| format!("starting the thread {name}"))
    }

    /// A command that will run inside the namespace, in a process group of its own, so that Ctrl-C at a terminal
    /// leaves its end to whoever started it. Unlike under `ip netns exec`, mounts are the machine's, and so is
    /// `/sys`: what `/sys/class/net` shows there is not this namespace.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.process_group(0);
        let file = self.file.clone();
        let prepare = move || {
            enter(&file)?;
            pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
            Ok(())
        };
        // SAFETY: between fork and exec only two system calls are made; nothing is allocated and no lock is taken.
        unsafe { command.pre_exec(prepare) };
        command
    }
}

/// [`Namespace::enter`] without what allocates.
fn enter(file: &File) -> std::io::Result<()> {
    // SAFETY: `file` is open for as long as it is borrowed.
    let file = unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) };
    Ok(setns(file, CloneFlags::CLONE_NEWNET)?)
}

/// The file that stands for the namespace of this name.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(NAMES).join(name)
}
