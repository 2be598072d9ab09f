//! Decisions: what the loop makes of what it observed. Pure: time and measurements come in, decisions go out.
//!
//! Times are [`Duration`](std::time::Duration)s since an epoch of the caller's, by a clock that does not go backwards.
//!
//! # How the parts join
//! One turn of one service, every `control.interval`:
//! 1. whoever observes pushes each [`Outcome`](signal::Outcome) into the service's [`Window`](signal::Window), and
//!    keeps the times at which the observations still in flight began. At least `control.min_samples` of them must
//!    fit in flight at once, or a service that hangs looks like a signal that died;
//! 2. [`Window::reading`](signal::Window::reading) makes of both a [`Reading`](signal::Reading): one quantile;
//! 3. [`Distribution::update`](distribution::Distribution::update) takes in the counters of what was offered;
//! 4. [`ServiceLoop::turn`](service::ServiceLoop::turn) judges whether the reading is a signal, lets the
//!    [`Pid`](pid::Pid) find the ratio, and the distribution the cutoff for it.
//!
//! The caller writes the cutoff. Where the state is [`Fallen`](service::State::Fallen) and the posture `closed`, it is
//! the caller that closes.
//!
//! # Why the loop is as it is
//! A FIFO queue near saturation is an integrator with a dead time: its latency grows by (offered work admitted /
//! capacity - 1) seconds a second, and shows only in answers, which come that much later. What follows from it:
//! - Observations in flight count as late as they already are. At a tenfold overload the queue is ten targets long
//!   when the first late answer arrives.
//! - The output is effort, the logarithm of the admitted share, so that the loop's gain is the same at every overload.
//! - Gains scale with the target and the window, which are the dead time.
//! - The load is fed forward. The tenfold overload is known from the counters in some turns, and takes the integral
//!   some seconds to find from the latency. The latency still decides *whether* to shed: load alone sheds nothing.
//! - Unless the load has risen the derivative takes no part in beginning to shed, so that one slow answer is no alarm.
//! - While the latency is below half its target the integral is let go in proportion to itself, for what was shed too
//!   much while the backlog drained is goodput.
//! - The aim is somewhat below the target, since the highest of some samples ripples about the aim.
//!
//! # The defaults
//! Found by sweeping the simulation (the module `simulate`, in tests only) from half the capacity to 1.2, 2, 5 and
//! 10 times the capacity and back: 300 sources in one class, a probe every 20 ms, targets of 10 ms to 1 s. In
//! multiples of the target and of the capacity, the worst of two seeds, service times fixed, with 0.98 as the most that
//! is shed:
//!
//! | target / service time / servers | overload | settled within 1.25 targets | p99 from then on | goodput, the onset included | ripple of the ratio |
//! | --- | --- | --- | --- | --- | --- |
//! | 10 ms / 1 ms / 64 | 5, 10 | 1.0 s, 1.9 s | 0.98, 1.45 | 0.98, 0.89 | 0.01, 0.02 |
//! | 50 ms / 5 ms / 4 | 5, 10 | 0.2 s, 1.4 s | 1.46, 1.21 | 0.92, 0.93 | 0.14, 0.05 |
//! | 50 ms / 5 ms / 32 | 5, 10 | 0.2 s, 0.5 s | 0.93, 0.98 | 0.97, 0.98 | 0.04, 0.02 |
//! | 200 ms / 20 ms / 32 | 5, 10 | 0.6 s, 1.1 s | 1.03, 0.96 | 0.95, 0.96 | 0.06, 0.03 |
//! | 1 s / 20 ms / 32 | 5, 10 | 2 s or more | 1.93, 1.94 | 0.97, 0.97 | 0.25, 0.14 |
//!
//! Back at half the capacity, nothing is shed within 0.3 s (1.5 s at a target of 1 s). What the signal cannot reach:
//! - Before it is seen, an overload of `k` times the capacity leaves a backlog of `k - 1` times the time that took,
//!   and with two hundredths admitted it drains no faster than `1 - k / 50`. At ten times and a target of 50 ms,
//!   40 ms to see it is 0.5 s to be over it; the age of a probe must be a good part of the target before it tells
//!   anything, so that targets above 100 ms take longer, about in proportion.
//! - Four servers, or service times that vary as an exponential does, serve so few requests within the target that
//!   chance alone moves their p99 by half of it: 1.2 to 1.9 targets, at a goodput of 0.88 and more.
//! - Clients that ask again after 1 s and 3 s triple what is offered and shed; p99 then is 1.2 to 2.7 targets.
//! - With a probe every 100 ms, all of it takes five times as long.

pub mod distribution;
pub mod pid;
pub mod service;
pub mod signal;
#[cfg(test)]
mod simulate;
#[cfg(test)]
mod tests;
