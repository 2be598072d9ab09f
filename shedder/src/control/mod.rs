//! Decisions: what the loop makes of what it observed. Pure: time and measurements come in, decisions go out.
//!
//! Times are [`Duration`](std::time::Duration)s since an epoch of the caller's, by a clock that does not go backwards.
//!
//! # How the parts join
//! One turn of one service, every `control.interval`:
//! 1. of a passive signal, [`InFlight`] takes in what waits, and
//!    [`PassiveWindow::turn`] makes of it and of the kernel's counts a
//!    [`Reading`]: one quantile, and what a request that arrives now will take. Of any other signal,
//!    whoever observes pushes each [`Outcome`] into the service's [`Window`], and keeps
//!    the times at which the observations still in flight began. At least `control.min_samples` of them must fit in
//!    flight at once, or a service that hangs looks like a signal that died;
//! 2. [`Distribution::update`] takes in the counters of what was offered;
//! 3. [`ServiceLoop::turn`] judges whether the reading is a signal, lets the
//!    PID controller (`pid`) find the ratio, undoes what did harm, and finds the cutoff by the distribution;
//! 4. of a passive signal, [`ServiceLoop::reflex`] says when the kernel sheds by itself
//!    until the next turn, and [`Sampling`] which share of the flows it measures.
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
//! - A passive signal has no dead time but some turns, since what is in flight over what the service can do a second is
//!   what a request that arrives now will take (`capacity`). Its gains are those of that dead time. The quantile corrects
//!   the prediction slowly, so that what is controlled in the long run is the quantile.
//! - A capacity counts once all requests were seen to wait, and from then on says how much to shed: the integral is led to
//!   the logarithm of what is offered in capacities, and arrivals in excess of it are the slope of the queue.
//! - A service that stalled, and then answers as fast as ever, can do what it could before (`stall`): a capacity that had to
//!   be learned anew from what little is let in would make a stall outlast itself.
//! - How long the oldest requests in flight have waited counts as far as answers are missing: where they come as fast as they
//!   can, it is the end of a queue that drains.
//! - Of the cohort at the cutoff some flows are let in, so that what is admitted has no steps: one source may ask for more
//!   than the capacity.
//! - How empty a queue is, is judged above the latency that the service has without one (`baseline`), where that is below
//!   0.7 of the aim.
//! - The aim is somewhat below the target, since the highest of some samples ripples about the aim.
//!
//! # What a passive signal reaches
//! In the simulation, from half the capacity to so many times it for 3 s and back, with a fixed service time at a target of
//! 50 ms; the worst of what the tests in `passive_tests` run. Latencies are in targets, goodput in capacities:
//!
//! | service, load | interval | p99 within 1.25 targets for good after | p99 from 0.5 s on | goodput, onset included | nothing shed after |
//! | --- | --- | --- | --- | --- | --- |
//! | 32 servers, 5 ms: 5 times | 5 ms | 0.15 s | 0.87 | 1.00 | 0.16 s |
//! | the same | 20 ms | 0.20 s | 0.88 | 1.00 | 0.14 s |
//! | 10 times | 20 ms | 0.45 s | 0.88 | 1.00 | 0.16 s |
//! | 4 servers, 8 ms: 5 times | 5 ms | 0.45 s | 1.15 | 1.00 | 0.17 s |
//! | the same | 20 ms | 0.25 s | 1.09 | 0.99 | 0.14 s |
//! | 10 times | 20 ms | by chance late in pieces of 50 ms | 1.23 | 0.99 | 0.18 s |
//! | 32 servers: ramp to 5 times in 3 s | 20 ms | at once | 0.92 | 0.96 | 0.16 s |
//! | twice as slow at 0.8 of the capacity | 20 ms | 0.20 s | 0.94 | 1.0 of what is left | 0.10 s |
//! | clients that give up after 4 targets and ask again, 3 times | 20 ms | 0.10 s | 1.06 | 1.00 | |
//! | 50 ms from a flow to its request, 5 times | 20 ms | 0.70 s | 1.25 | 0.99 | 0.14 s |
//! | 8 servers, 8 ms: a stall of 2 s at 0.6 of the capacity | 20 ms | | | | 0.4 s |
//!
//! Without chance (`fluid`), at service times of 100 us to 1 s, capacities of 10 to 100,000 a second, targets of 1 ms to 5 s
//! that two service times and 20 requests fit into, 1.3 to 10 times the capacity, and decisions in force one or two turns
//! late, the ratio swings by a tenth at most in each of 2,735 runs; where fewer than 100 requests fit into the target each is a
//! step of it, and it swings by ten such steps at most.
//!
//! With chance and four servers it ripples by 0.5 to 0.7 at 1.4 to 2 times the capacity: so much do ten answers a turn vary.
//!
//! # The defaults
//! Found, with probes, by sweeping the simulation (`tests::sweep`) from half the capacity to 1.2, 2, 5 and 10 times the capacity, for
//! 8 s, and back: 300 sources in one class, a probe every 20 ms, at most 0.98 shed. These are the worst of three seeds,
//! with a fixed service time, at 5 and at 10 times the capacity. Latencies are in targets, goodput in capacities:
//!
//! | target, service time, servers | within 1.25 targets for good after | p99 from 2 s on | goodput, onset included | ripple of the ratio from 4 s on |
//! | --- | --- | --- | --- | --- |
//! | 10 ms, 1 ms, 64 | 1.0 s, never | 1.1, 1.5 | 0.87, 0.89 | 0.01, 0.02 |
//! | 50 ms, 5 ms, 4 | never, never | 1.5, 1.2 | 0.92, 0.93 | 0.14, 0.05 |
//! | 50 ms, 5 ms, 32 | 0.2 s, 0.5 s | 0.9, 1.0 | 0.97, 0.98 | 0.04, 0.02 |
//! | 200 ms, 20 ms, 32 | 0.6 s, 1.4 s | 1.1, 1.0 | 0.95, 0.96 | 0.06, 0.03 |
//! | 1 s, 20 ms, 32 | 3.1 s, 3.0 s | 1.9, 1.9 | 0.97, 0.97 | 0.25, 0.15 |
//!
//! Back at half the capacity, nothing is shed after 0.3 s; after 1.5 s at a target of 1 s. At 1.2 and 2 times the
//! capacity the latencies and the goodput are as good or better, but the ratio ripples more, by 0.1 to 0.5: where little
//! is shed, the same step of effort is a greater step of the ratio.
//!
//! What the signal cannot reach:
//! - Before it is seen, an overload of `k` times the capacity leaves a backlog of `k - 1` times the time that took,
//!   which drains by no more than `1 - k / 50` of that a second with a fiftieth admitted. Ten times the capacity must
//!   be seen within 40 ms to be over in 0.5 s. The age of a probe tells something only once it is a good part of the
//!   target, so that targets of 100 ms and more take longer, about in proportion.
//! - A target of 10 ms is half the time between two probes, and a tenth of the window.
//! - Where fewer than about a hundred requests are served within the target (four servers above), or where service
//!   times vary as an exponential does, chance alone moves the p99: it is 1.1 to 1.8 targets.
//! - Clients that ask again after 1 s and 3 s triple what is offered: p99 is 1.2 to 1.4 targets with 32 servers at a
//!   target of 50 ms, 1.8 to 2.8 in the first two lines of the table. They keep coming for 3 s after the overload.
//! - With four servers and exponential service times, back at half the capacity, up to 0.3 is shed for some turns in
//!   250, since the p99 itself comes up to the target; with 32 servers nothing is.
//! - With a turn and a probe every 100 ms only, and a window of 500 ms, the third line reads 1.0 to 1.9 targets at a
//!   goodput of 0.91.

mod baseline;
mod capacity;
mod distribution;
mod essential;
#[cfg(test)]
mod fluid;
mod in_flight;
mod passive;
#[cfg(test)]
mod passive_tests;
mod pid;
mod relay;
mod sampling;
mod service;
mod signal;
#[cfg(test)]
mod simulate;
mod stall;
mod survival;
#[cfg(test)]
mod tests;
mod verify;
mod why;

pub use distribution::{Counters, Distribution};
pub use in_flight::InFlight;
pub use passive::{Applied, PassiveWindow};
pub use pid::Terms;
pub use relay::{Bounds, Failure, Relay, Step, Swing};
pub use sampling::Sampling;
pub use service::{Decision, Sensor, ServiceLoop, State, gains};
pub use signal::{Outcome, Queue, Reading, Window};
pub use survival::quantile_of;
pub use why::Why;
