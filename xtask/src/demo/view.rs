//! The live view: a picture that is drawn over itself on a terminal, a line a second elsewhere.

use super::daemon::Ran;
use super::metrics::Sample;
use super::scene::{CLASSES, TARGET};
use super::timeline::Window;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stdout};
use std::time::Duration;

/// What is to be seen at one moment.
pub(super) struct Moment<'a> {
    /// After the demo's start.
    pub(super) at: Duration,
    /// What goes on.
    pub(super) note: &'a str,
    /// Requests of each stream of load that have left.
    pub(super) left: Vec<u64>,
    /// Requests that ended within the last [`View::SPAN`].
    pub(super) ended: Window,
    /// What the daemon says; none: there is none.
    pub(super) sample: Option<Sample>,
}

/// The view.
pub(super) struct View {
    terminal: bool,
    title: String,
    /// When requests had left, and how many of each stream: one entry for each moment of the last [`View::SPAN`].
    left: VecDeque<(Duration, Vec<u64>)>,
    /// When the last line was written, or the act began.
    written: Option<Duration>,
    /// Lines of the picture on the terminal, which the next one is drawn over.
    drawn: usize,
}

impl View {
    /// What rates and quantiles are of.
    pub(super) const SPAN: Duration = Duration::from_secs(1);

    pub(super) fn new() -> View {
        View {
            terminal: stdout().is_terminal(),
            title: String::new(),
            left: VecDeque::new(),
            written: None,
            drawn: 0,
        }
    }

    /// An act begins.
    pub(super) fn begin(&mut self, title: &str) {
        self.title = title.into();
        self.left.clear();
        self.written = None;
        self.drawn = 0;
        if !self.terminal {
            write(&format!("{title}\n"));
        }
    }

    /// An act has ended: its last picture stays.
    pub(super) fn end(&mut self) {
        self.drawn = 0;
        write("\n");
    }

    /// Shows a command and what it wrote, and goes on below.
    pub(super) fn say(&mut self, ran: &Ran) {
        self.drawn = 0;
        let mut text = format!("\n$ {}\n", ran.line);
        for line in ran.output.lines() {
            let _ = writeln!(text, "{line}");
        }
        write(&format!("{text}\n"));
    }

    /// Shows a moment.
    pub(super) fn show(&mut self, moment: &Moment) {
        let rates = self.offered_rates(moment);
        if self.terminal {
            let picture = picture(&self.title, moment, &rates);
            // Up to the last picture's first line, and clear from there.
            let over = if self.drawn > 0 { format!("\x1b[{}A\x1b[J", self.drawn) } else { String::new() };
            write(&format!("{over}{picture}"));
            self.drawn = picture.lines().count();
        } else if moment.at >= *self.written.get_or_insert(moment.at) + Self::SPAN {
            self.written = Some(moment.at);
            write(&line(moment, &rates));
        }
    }

    /// Requests a second that left, by class.
    fn offered_rates(&mut self, moment: &Moment) -> [f64; CLASSES.len()] {
        while self.left.front().is_some_and(|(at, _)| *at + Self::SPAN < moment.at) {
            self.left.pop_front();
        }
        let mut rates = [0.0; CLASSES.len()];
        if let Some((at, left)) = self.left.front() {
            let seconds = (moment.at - *at).as_secs_f64();
            for (rate, (now, then)) in rates.iter_mut().zip(moment.left.iter().zip(left)) {
                *rate = (now - then) as f64 / seconds;
            }
        }
        self.left.push_back((moment.at, moment.left.clone()));
        rates
    }
}

/// Output that nobody reads any more does not end the demo.
pub(super) fn write(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

fn picture(title: &str, moment: &Moment, rates: &[f64]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "\x1b[1m{title}\x1b[0m  {:.1} s  \x1b[7m {} \x1b[0m",
        moment.at.as_secs_f64(),
        moment.note
    );
    let _ = writeln!(
        text,
        "  {:<12}{:>10}{:>10}{:>10}{:>12}",
        "requests/s", "offered", "admitted", "answered", "not let in"
    );
    for ((class, rate), ended) in CLASSES.iter().zip(rates).zip(&moment.ended.classes) {
        let outside = ended.offered - ended.admitted;
        let _ = writeln!(
            text,
            "  {class:<12}{rate:>10.0}{:>10}{:>10}{outside:>12}",
            ended.admitted, ended.answered
        );
    }
    let target = TARGET.as_secs_f64() * 1e3;
    let late = moment.ended.p99.is_some_and(|p99| p99 > 1.25 * target);
    let colour = if late { 31 } else { 32 };
    let _ = writeln!(
        text,
        "  {:<12}{:>7} p50  \x1b[{colour}m{:>7} p99\x1b[0m  target {target:.0} ms",
        "latency",
        milliseconds(moment.ended.p50),
        milliseconds(moment.ended.p99),
    );
    let _ = match moment.sample {
        None => writeln!(text, "  {:<12}not running", "shedder"),
        Some(sample) => writeln!(
            text,
            "  {:<12}shed ratio {:.3} [{}]  cutoff {:.0} of 768  kill {}",
            "shedder",
            sample.shed_ratio,
            bar(sample.shed_ratio, 20),
            sample.cutoff,
            if sample.killed { "\x1b[41m IN FORCE \x1b[0m" } else { "no" }
        ),
    };
    text
}

fn line(moment: &Moment, rates: &[f64]) -> String {
    let mut text = format!("{:5.1} s  {:<18}", moment.at.as_secs_f64(), moment.note);
    for ((class, rate), ended) in CLASSES.iter().zip(rates).zip(&moment.ended.classes) {
        let _ = write!(text, "  {class} {:.0} of {rate:.0}/s", ended.answered);
    }
    let (p50, p99) = (milliseconds(moment.ended.p50), milliseconds(moment.ended.p99));
    let _ = write!(text, "  p50 {p50} p99 {p99} of {:.0} ms", TARGET.as_secs_f64() * 1e3);
    if let Some(sample) = moment.sample {
        let kill = if sample.killed { "  KILL" } else { "" };
        let _ = write!(text, "  shed {:.3} cutoff {:.0}{kill}", sample.shed_ratio, sample.cutoff);
    }
    text.push('\n');
    text
}

/// `-` for nothing.
fn milliseconds(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:.0} ms"))
}

/// A ratio of 0 to 1 as so many characters.
fn bar(ratio: f64, width: usize) -> String {
    let full = (ratio.clamp(0.0, 1.0) * width as f64).round() as usize;
    format!("{}{}", "#".repeat(full), ".".repeat(width - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_they_say() {
        assert_eq!(bar(0.0, 4), "....");
        assert_eq!(bar(0.5, 4), "##..");
        assert_eq!(bar(2.0, 4), "####");
    }

    #[test]
    fn rates_are_of_the_last_second() {
        let mut view = View::new();
        let moment = |at, left| Moment {
            at: Duration::from_millis(at),
            note: "",
            left,
            ended: Window::default(),
            sample: None,
        };
        assert_eq!(view.offered_rates(&moment(0, vec![0, 0, 0])), [0.0; 3]);
        assert_eq!(view.offered_rates(&moment(500, vec![50, 10, 0])), [100.0, 20.0, 0.0]);
        assert_eq!(view.offered_rates(&moment(1500, vec![150, 10, 2000])), [100.0, 0.0, 2000.0]);
    }
}
