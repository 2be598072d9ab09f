//! Sends frames at a rate.

use super::now;
use crate::netns::Namespace;
use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is sent.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The interface that it leaves through.
    pub interface: String,
    /// Whole Ethernet frames, sent in turn: at least one.
    pub frames: Vec<Vec<u8>>,
    /// Frames a second, evenly spaced as far as the timers allow: at least 1.
    pub rate: u64,
    /// For how long: the first frame goes at once, and none after this.
    pub duration: Duration,
    /// The CPU that sends, and that therefore receives at a veth's other end; none: any.
    pub cpu: Option<usize>,
}

/// A flood under way. Dropped, it ends.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What became of a flood.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Frames that the kernel took.
    pub frames: u64,
    /// When the first were given to the kernel, as [`now`] tells it.
    pub first: Duration,
    /// When the kernel had taken the last.
    pub last: Duration,
    /// The longest time that nothing was sent for in between: the machine was busy with something else.
    pub longest_gap: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
    refused: AtomicU64,
    spell: Mutex<Option<Spell>>,
}

/// When frames were sent.
#[derive(Clone, Copy, Debug)]
struct Spell {
    first: Duration,
    last: Duration,
    longest_gap: Duration,
}

impl Spell {
    /// Takes in that frames were given to the kernel from `begin` to `end`.
    fn extend(spell: &mut Option<Spell>, begin: Duration, end: Duration) {
        let Spell { first, last, longest_gap } =
            spell.unwrap_or(Spell { first: begin, last: begin, longest_gap: Duration::ZERO });
        *spell = Some(Spell { first, last: end, longest_gap: longest_gap.max(end.saturating_sub(last)) });
    }
}

/// Frames given to the kernel at once.
const BATCH: usize = 64;

impl Sender {
    /// Starts the plan on a thread of its own inside `namespace`.
    pub fn start(namespace: &Namespace, plan: Plan) -> Result<Sender> {
        ensure!(!plan.frames.is_empty(), "a flood has no frames");
        ensure!(plan.rate > 0, "a flood has no rate");
        let shared = Arc::new(Shared::default());
        let thread = namespace.thread("flood", {
            let shared = shared.clone();
            move || send(&plan, &shared)
        })?;
        Ok(Sender { shared, thread: Some(thread) })
    }

    /// Frames that the kernel took so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Frames that the kernel refused so far: no memory, an interface that is down, or a program that drops.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Frames that were given to the kernel so far.
    pub fn offered(&self) -> u64 {
        self.sent() + self.refused()
    }

    /// Waits for the plan's end, and returns how many frames the kernel took.
    ///
    /// # Errors
    /// Also where it took none: nothing was flooded.
    pub fn finish(mut self) -> Result<u64> {
        self.join()?;
        let (sent, refused) = (self.sent(), self.refused());
        ensure!(sent > 0, "the flood sent nothing: the kernel refused all of its {refused} frames");
        Ok(sent)
    }

    /// As [`Sender::finish`], and tells when it was sent.
    pub fn finish_timed(self) -> Result<Sent> {
        let shared = self.shared.clone();
        let frames = self.finish()?;
        let spell = *shared.spell.lock().expect("nothing panics holding it");
        let Spell { first, last, longest_gap } = spell.context("the flood sent nothing")?;
        Ok(Sent { frames, first, last, longest_gap })
    }

    /// Ends it now, and returns how many frames the kernel took.
    pub fn stop(mut self) -> Result<u64> {
        self.end()?;
        Ok(self.sent())
    }

    /// Ends it now; what was sent can be asked for still.
    pub fn end(&mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result.context("sending a flood"),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn send(plan: &Plan, shared: &Shared) -> Result<()> {
    if let Some(cpu) = plan.cpu {
        let mut set = CpuSet::new();
        set.set(cpu).with_context(|| format!("there is no CPU {cpu}"))?;
        sched_setaffinity(Pid::from_raw(0), &set)
            .with_context(|| format!("moving the flood to CPU {cpu}"))?;
    }
    fine_timers();
    let socket = packet_socket(&plan.interface)?;
    let mut frames = plan.frames.iter().cycle();
    let start = Instant::now();
    let mut given = 0;
    loop {
        let elapsed = start.elapsed();
        // The first goes whatever the time: on a machine that is busy with something else, a short flood would be over
        // before its thread ran again, and have sent nothing.
        let is_over = elapsed >= plan.duration && given > 0;
        if is_over || shared.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let due = 1 + (elapsed.as_secs_f64() * plan.rate as f64) as u64;
        let batch = BATCH.min((due - given) as usize);
        if batch == 0 {
            let next = Duration::from_secs_f64(given as f64 / plan.rate as f64);
            std::thread::sleep(next.saturating_sub(elapsed));
            continue;
        }
        given += batch as u64;
        let batch: Vec<&[u8]> = frames.by_ref().take(batch).map(Vec::as_slice).collect();
        let begin = now();
        give(socket.as_raw_fd(), &batch, shared)?;
        Spell::extend(&mut shared.spell.lock().expect("nothing panics holding it"), begin, now());
    }
}

/// Lets sleeps of the calling thread end when they should, not up to 50 us later.
fn fine_timers() {
    // Refused, timers are coarser and batches larger: nothing else.
    let _ = nix::sys::prctl::set_timerslack(1);
}

/// A socket that sends whole frames through `interface`.
fn packet_socket(interface: &str) -> Result<OwnedFd> {
    let index = if_nametoindex(interface).with_context(|| format!("finding the interface {interface}"))?;
    // Protocol 0: it only sends.
    // SAFETY: takes no pointers.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    ensure!(socket >= 0, "a packet socket is refused: {}", io::Error::last_os_error());
    // SAFETY: the call made this descriptor, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes, all of them in `address`.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    ensure!(result == 0, "binding a packet socket to {interface}: {}", io::Error::last_os_error());
    Ok(socket)
}

/// Gives frames to the kernel, and counts those that it refuses instead of trying them again.
fn give(socket: RawFd, mut frames: &[&[u8]], shared: &Shared) -> Result<()> {
    while !frames.is_empty() {
        match send_all(socket, frames) {
            Ok(sent) => {
                shared.sent.fetch_add(sent as u64, Ordering::Relaxed);
                frames = &frames[sent..];
            }
            Err(Errno::EINTR) => {}
            Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::ENOMEM | Errno::ENETDOWN) => {
                shared.refused.fetch_add(1, Ordering::Relaxed);
                frames = &frames[1..];
            }
            Err(error) => return Err(error).context("sending frames"),
        }
    }
    Ok(())
}

/// One sendmmsg(2). How many it took, from the first on.
fn send_all(socket: RawFd, frames: &[&[u8]]) -> nix::Result<usize> {
    let mut parts: Vec<libc::iovec> = frames
        .iter()
        .map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() })
        .collect();
    let mut headers: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|part| {
            // SAFETY: zero is a value of each of its fields.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header
        })
        .collect();
    // SAFETY: each header points to a part, and each part to a frame, all of which outlive the call; the kernel
    // writes only the headers' lengths.
    let sent = unsafe { libc::sendmmsg(socket, headers.as_mut_ptr(), headers.len() as u32, 0) };
    Errno::result(sent).map(|sent| sent as usize)
}
