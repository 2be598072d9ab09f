//! What the daemon's endpoint says.

use anyhow::{Context, Result, bail};
use serde::Serialize;
use shedder_tests::netns::Namespace;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(100);

/// How long one look may take.
const TIMEOUT: Duration = Duration::from_millis(500);

/// More than this of an answer is not read.
const LONGEST: u64 = 4 << 20;

/// Where the daemon is told to listen, on its own host.
pub(super) fn listen() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 9477).into()
}

/// The demo's metrics at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Sample {
    /// Seconds after the demo's start.
    pub(super) at: f64,
    /// The fraction of offered work that is to be shed, 0 to 1.
    pub(super) shed_ratio: f64,
    /// The first priority that is shed, 0 to 768.
    pub(super) cutoff: f64,
    /// What the loop last saw, seconds.
    pub(super) observed: Option<f64>,
    /// Whether a kill of the host holds.
    pub(super) killed: bool,
    /// Packets that were dropped at their arrival, for any reason.
    pub(super) dropped: f64,
}

impl Sample {
    /// Reads a `/metrics` answer.
    fn parse(at: f64, text: &str) -> Sample {
        let mut sample = Sample { at, ..Sample::default() };
        for (name, labels, value) in text.lines().filter_map(split) {
            let has = |pair: &str| labels.split(',').any(|label| label == pair);
            match name {
                "shedder_shed_ratio" => sample.shed_ratio = value,
                "shedder_cutoff" => sample.cutoff = value,
                "shedder_observed_latency_seconds" => sample.observed = Some(value),
                "shedder_kill_active" if has(r#"scope="host""#) => sample.killed = value != 0.0,
                "shedder_packets_total" if has(r#"direction="ingress""#) && has(r#"verdict="drop""#) => {
                    sample.dropped += value;
                }
                _ => {}
            }
        }
        sample
    }
}

/// A line of the exposition: a metric's name, its labels, its value. None for comments.
fn split(line: &str) -> Option<(&str, &str, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    Some((name, labels.strip_suffix('}')?, value.parse().ok()?))
}

/// Looks at the endpoint all the time, until it is dropped.
pub(super) struct Scraper {
    stop: Arc<AtomicBool>,
    samples: Arc<Mutex<Vec<Sample>>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Scraper {
    /// Starts on `host`. A look that fails is left out.
    pub(super) fn start(host: &Namespace, epoch: Instant) -> Result<Scraper> {
        let (stop, samples) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let thread = host.thread("scraper", {
            let (stop, samples) = (stop.clone(), samples.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(answer) = get("/metrics") {
                        let sample = Sample::parse(epoch.elapsed().as_secs_f64(), &answer.body);
                        samples.lock().expect("nothing panics holding it").push(sample);
                    }
                    std::thread::sleep(EVERY);
                }
                Ok(())
            }
        })?;
        Ok(Scraper { stop, samples, thread: Some(thread) })
    }

    /// What was seen last.
    pub(super) fn last(&self) -> Option<Sample> {
        self.samples.lock().expect("nothing panics holding it").last().copied()
    }

    /// All that was seen.
    pub(super) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().expect("nothing panics holding it").clone()
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The endpoint's answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Asks the endpoint on the calling thread's host.
pub(super) fn get(path: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&listen(), TIMEOUT).context("connecting to the endpoint")?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", listen())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).context("reading the endpoint's answer")?;
    parse(&String::from_utf8_lossy(&answer))
}

fn parse(answer: &str) -> Result<Answer> {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("the endpoint's answer has no end") };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Answer { status: status.context("the endpoint's answer has no status")?, body: body.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_exposition() {
        let text = r#"# TYPE shedder_packets counter
shedder_packets_total{interface="veth0",direction="ingress",verdict="pass",reason="admitted"} 7
shedder_packets_total{interface="veth0",direction="ingress",verdict="drop",reason="shed"} 30
shedder_packets_total{interface="veth0",direction="ingress",verdict="drop",reason="kill"} 2
shedder_packets_total{interface="veth0",direction="egress",verdict="drop",reason="kill"} 100
shedder_kill_active{scope="host",name=""} 1
shedder_kill_active{scope="service",name="web"} 0
shedder_shed_ratio{service="web"} 0.875
shedder_cutoff{service="web"} 401
shedder_observed_latency_seconds{service="web",quantile="0.99"} 0.051
shedder_alive 1
# EOF
"#;
        let sample = Sample {
            at: 2.5,
            shed_ratio: 0.875,
            cutoff: 401.0,
            observed: Some(0.051),
            killed: true,
            dropped: 32.0,
        };
        assert_eq!(Sample::parse(2.5, text), sample);
    }

    #[test]
    fn reads_an_answer() {
        let answer = parse("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n[]").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "[]"));
        assert!(parse("HTTP/1.1 200 OK\r\n").is_err());
    }
}
