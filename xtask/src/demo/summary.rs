//! The story of a run, and its table.

use super::TITLES;
use super::figures::{Direction, Overload, Switch, Traffic, bound_ms};
use super::metrics::Sample;
use super::scene::{CLASSES, CRITICAL, LOW, NORMAL};
use super::timeline::Window;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};

/// A whole run. As JSON it is the raw data; displayed, the summary. Times are in seconds after the demo's start,
/// latencies in milliseconds, unless a field says otherwise.
#[derive(Debug, Serialize)]
pub(super) struct Story {
    /// What it ran on.
    pub(super) machine: String,
    /// The server's, requests a second, measured.
    pub(super) capacity: f64,
    /// The service's latency is to be this.
    pub(super) target: f64,
    /// Clients give up after this.
    pub(super) patience: f64,
    /// When each act began and ended.
    pub(super) acts: [[f64; 2]; 3],
    /// When the overloads of the first two began and ended.
    pub(super) overloads: [[f64; 2]; 2],
    /// When the kill command began, and the resume command.
    pub(super) killed: [f64; 2],
    pub(super) without: Overload,
    pub(super) with: Overload,
    pub(super) switch: Switch,
    /// What the clients saw, by act.
    pub(super) windows: [Vec<Window>; 3],
    /// What the daemon said.
    pub(super) samples: Vec<Sample>,
}

impl Display for Story {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Story { without, with, switch, .. } = self;
        writeln!(f, "# shedder: one overload, without it and with it\n")?;
        writeln!(
            f,
            "Measured on {}. The server answers {:.0} requests a second; its latency is to be {:.0} ms; clients give up \
             after {:.0} ms.\n",
            self.machine, self.capacity, self.target, self.patience
        )?;
        let mut rows = vec![
            self.row("offered, requests/s", |traffic| {
                format!("{:.0} ({:.1} x capacity)", traffic.offered, traffic.offered / self.capacity)
            }),
            self.row("answered in time, requests/s", |traffic| {
                format!(
                    "{:.0} ({:.0} % of capacity)",
                    traffic.goodput,
                    100.0 * traffic.goodput / self.capacity
                )
            }),
        ];
        for class in [CRITICAL, NORMAL, LOW] {
            let label = format!("answered, {} class", CLASSES[class]);
            rows.push(self.row(&label, |traffic| percent(traffic.success[class])));
        }
        rows.push(self.row("latency p50 of what was admitted", |traffic| milliseconds(traffic.p50)));
        rows.push(self.row("latency p99 of what was admitted", |traffic| milliseconds(traffic.p99)));
        rows.push(self.row("not sent: the load generator's own limit", |traffic| traffic.unsent.to_string()));
        let header =
            ["during the overload", "without shedder", "with shedder", "with shedder, once recovered"];
        table(f, header, &rows)?;
        let pair = |label: &str, of: fn(&Overload) -> String| [label.into(), of(without), of(with)];
        table(
            f,
            ["", "without shedder", "with shedder"],
            &[
                pair(&format!("overload's start to p99 under {:.1} ms", bound_ms()), |overload| {
                    overload.recovered_after.map_or("never".into(), seconds)
                }),
                pair("critical and normal answered after the overload", |overload| {
                    percent(overload.success_after)
                }),
                pair("highest shed ratio", |overload| {
                    overload.highest_shed_ratio.map_or("-".into(), |ratio| format!("{ratio:.3}"))
                }),
                pair("overload's end to nothing shed", |overload| match overload {
                    Overload { highest_shed_ratio: None, .. } => "-".into(),
                    Overload { zero_shed_after, .. } => zero_shed_after.map_or("not seen".into(), seconds),
                }),
                pair("most belated request left late by", |overload| milliseconds(Some(overload.lateness))),
            ],
        )?;
        let both = |label: &str, of: &dyn Fn(&Direction) -> String| {
            [label.into(), of(&switch.inbound), of(&switch.outbound)]
        };
        table(
            f,
            [&format!("kill and resume, under {} packets/s each way", switch.rate), "inbound", "outbound"],
            &[
                both("`shedder kill` begins to the last packet that passed", &|way| precise(way.last_packet)),
                both("packets that passed while killed", &|way| way.passed_while_killed.to_string()),
                both("`shedder resume` begins to the first packet that passed", &|way| {
                    precise(way.first_packet)
                }),
            ],
        )?;
        let commands = [
            ("kill", switch.kill_took, &switch.kill_output),
            ("resume", switch.resume_took, &switch.resume_output),
        ];
        for (name, took, output) in commands {
            writeln!(f, "```console\n$ shedder {name}        # {took:.1} ms\n{output}\n```\n")?;
        }
        Ok(())
    }
}

impl Story {
    /// A row on the overloads.
    fn row(&self, label: &str, of: impl Fn(&Traffic) -> String) -> [String; 4] {
        let recovered = self.with.recovered.as_ref().map_or("-".into(), &of);
        [label.into(), of(&self.without.during), of(&self.with.during), recovered]
    }

    /// Each act's title with its times.
    pub(super) fn titles(&self) -> impl Iterator<Item = (&'static str, [f64; 2])> + '_ {
        TITLES.into_iter().zip(self.acts)
    }
}

/// A table in Markdown, its columns aligned.
fn table<const N: usize>(f: &mut Formatter<'_>, header: [&str; N], rows: &[[String; N]]) -> fmt::Result {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].len()).chain([header[column].len()]).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |f: &mut Formatter<'_>, cells: [&str; N]| {
        for (cell, width) in cells.iter().zip(widths) {
            write!(f, "| {cell:<width$} ")?;
        }
        writeln!(f, "|")
    };
    line(f, header)?;
    let dashes = widths.map(|width| "-".repeat(width));
    line(f, dashes.each_ref().map(String::as_str))?;
    for row in rows {
        line(f, row.each_ref().map(String::as_str))?;
    }
    writeln!(f)
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.1} %", 100.0 * share))
}

fn milliseconds(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:.0} ms"))
}

fn precise(value: Option<f64>) -> String {
    value.map_or("none passed".into(), |value| format!("{value:.1} ms"))
}

fn seconds(value: f64) -> String {
    format!("{value:.2} s")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::demo::timeline::Counts;

    /// A made-up run.
    pub(in crate::demo) fn story() -> Story {
        let traffic = Traffic {
            offered: 10_500.0,
            goodput: 950.0,
            success: [Some(1.0), Some(0.995), Some(0.04)],
            p50: Some(31.0),
            p99: Some(48.0),
            unsent: 7,
        };
        let collapsed = Overload {
            during: Traffic { goodput: 0.0, success: [Some(0.0); 3], p99: Some(1000.0), ..traffic.clone() },
            recovered_after: None,
            recovered: None,
            success_after: Some(0.0),
            highest_shed_ratio: None,
            zero_shed_after: None,
            lateness: 2.0,
        };
        let held = Overload {
            during: traffic.clone(),
            recovered_after: Some(0.5),
            recovered: Some(traffic),
            success_after: Some(1.0),
            highest_shed_ratio: Some(0.93),
            zero_shed_after: None,
            lateness: 2.0,
        };
        let way = Direction { last_packet: Some(3.25), passed_while_killed: 0, first_packet: None };
        let counts = Counts { offered: 100, admitted: 90, answered: 80, unsent: 0 };
        let window = |at| Window { at, classes: [counts; CLASSES.len()], p50: Some(5.0), p99: Some(1000.0) };
        Story {
            machine: "2 CPUs".into(),
            capacity: 1000.0,
            target: 50.0,
            patience: 1000.0,
            acts: [[1.0, 10.0], [12.0, 30.0], [31.0, 40.0]],
            overloads: [[3.0, 8.0], [14.0, 25.0]],
            killed: [33.0, 36.0],
            without: collapsed,
            with: held,
            switch: Switch {
                inbound: way.clone(),
                outbound: way,
                rate: 10_000,
                kill_took: 110.0,
                resume_took: 5.0,
                kill_output: "killed".into(),
                resume_output: "resumed".into(),
            },
            windows: [vec![window(1.0), window(1.25)], vec![window(12.0), window(12.25)], vec![window(31.0)]],
            samples: vec![Sample { at: 15.0, shed_ratio: 0.9, cutoff: 400.0, ..Sample::default() }],
        }
    }

    #[test]
    fn tables_say_what_was_measured_and_what_was_not() {
        let text = story().to_string();
        let cells = |row: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.starts_with(&format!("| {row}"))).expect(row);
            line.split('|')
                .map(|cell| cell.trim().to_owned())
                .filter(|cell| !cell.is_empty())
                .skip(1)
                .collect()
        };
        assert_eq!(cells("answered, critical class"), ["0.0 %", "100.0 %", "100.0 %"]);
        assert_eq!(cells("overload's start to p99 under 62.5 ms"), ["never", "0.50 s"]);
        assert_eq!(cells("highest shed ratio"), ["-", "0.930"]);
        assert_eq!(cells("overload's end to nothing shed"), ["-", "not seen"]);
        assert_eq!(cells("`shedder kill` begins"), ["3.2 ms", "3.2 ms"]);
        assert_eq!(cells("`shedder resume` begins"), ["none passed", "none passed"]);
    }

    #[test]
    fn columns_are_aligned() {
        let text = story().to_string();
        let tables = text.split("\n\n").filter(|part| part.starts_with('|'));
        for table in tables {
            let widths: Vec<usize> = table.lines().map(str::len).collect();
            assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
        }
    }

    #[test]
    fn the_raw_data_is_json() {
        let value = serde_json::to_value(story()).unwrap();
        assert_eq!(value["windows"][0][0]["classes"][2]["answered"], 80);
        assert_eq!(value["samples"][0]["shed_ratio"], 0.9);
        assert_eq!(value["without"]["recovered_after"], serde_json::Value::Null);
    }
}
