//! The picture of a scenario: every contender over the same time.

use super::{Entry, Report};
use crate::contender::NAMES;
use crate::run::{WINDOW, Window};
use crate::scenario::{PATIENCE, TARGET, capacity};
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

const SIZE: (u32, u32) = (1100, 900);
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(228, 228, 228);
const OVERLOAD: RGBColor = RGBColor(255, 243, 224);

/// Of the contenders, in the order of [`NAMES`].
const COLOURS: [RGBColor; NAMES.len()] = [
    RGBColor(150, 150, 150),
    RGBColor(120, 90, 60),
    RGBColor(30, 130, 60),
    RGBColor(230, 150, 20),
    RGBColor(150, 60, 170),
    RGBColor(20, 80, 180),
];

/// One of the charts below each other.
struct Chart {
    name: &'static str,
    low: f64,
    high: f64,
    /// A level to compare with.
    level: Option<f64>,
    value: fn(&Window) -> Option<f64>,
}

/// Draws the first service's latency, its goodput, and the share that was not let in, as SVG.
pub(super) fn draw(report: &Report) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let drawn = draw_all(&root, report).and_then(|()| Ok(root.present()?));
        drawn.map_err(|error| anyhow!("drawing the plot: {error}"))?;
    }
    Ok(svg)
}

fn draw_all(root: &Area<'_>, report: &Report) -> Drawn {
    root.fill(&WHITE)?;
    let (title, rest) = root.split_vertically(60);
    let centred = Pos::new(HPos::Left, VPos::Center);
    let style = (FONT, 18).into_font().color(&INK).pos(centred);
    title.draw(&Text::new(format!("{}: {}", report.scenario, report.about), (20, 18), style))?;
    for (index, entry) in report.entries.iter().enumerate() {
        let x = 90 + 150 * index as i32;
        let style = (FONT, 15).into_font().color(&INK).pos(centred);
        title.draw(&PathElement::new([(x, 46), (x + 24, 46)], colour(entry).stroke_width(width(entry))))?;
        title.draw(&Text::new(entry.contender.as_str(), (x + 30, 46), style))?;
    }
    let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let latency = Chart {
        name: "p99 of what was let in, ms",
        low: 5.0,
        high: 1.5 * milliseconds(PATIENCE),
        level: Some(milliseconds(TARGET)),
        value: |window| window.p99,
    };
    let goodput = Chart {
        name: "answered in time, requests/s",
        low: 0.0,
        high: 1.4 * capacity(),
        level: Some(capacity()),
        value: |window| Some(window.total().answered as f64 / WINDOW.as_secs_f64()),
    };
    let refused = Chart {
        name: "not let in, of what was offered",
        low: 0.0,
        high: 1.05,
        level: None,
        value: |window| {
            let total = window.total();
            (total.offered > 0).then(|| 1.0 - total.admitted as f64 / total.offered as f64)
        },
    };
    let areas = rest.split_evenly((3, 1));
    curves(&areas[0], report, &latency, (latency.low..latency.high).log_scale())?;
    curves(&areas[1], report, &goodput, goodput.low..goodput.high)?;
    curves(&areas[2], report, &refused, refused.low..refused.high)
}

fn curves<R>(area: &Area<'_>, report: &Report, chart: &Chart, y: R) -> Drawn
where
    R: AsRangedCoord<Value = f64>,
    R::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let [start, end, length] = report.times;
    let mut context = ChartBuilder::on(area)
        .x_label_area_size(30)
        .y_label_area_size(80)
        .margin_left(10)
        .margin_right(20)
        .build_cartesian_2d(0.0..length, y)?;
    let overload = Rectangle::new([(start, chart.low), (end, chart.high)], OVERLOAD.filled());
    context.draw_series([overload])?;
    context
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(WHITE.mix(0.0))
        .axis_style(INK)
        .label_style((FONT, 14).into_font().color(&INK))
        .axis_desc_style((FONT, 15).into_font().color(&INK))
        .x_label_formatter(&|at| format!("{at:.0} s"))
        .y_desc(chart.name)
        .y_labels(6)
        .draw()?;
    if let Some(level) = chart.level {
        context.draw_series(LineSeries::new([(0.0, level), (length, level)], INK.mix(0.6)))?;
    }
    let middle = WINDOW.as_secs_f64() / 2.0;
    for entry in &report.entries {
        let windows = entry.windows.first().map_or(&[][..], Vec::as_slice);
        let points: Vec<Option<(f64, f64)>> = windows
            .iter()
            .map(|window| Some((window.at + middle, (chart.value)(window)?.clamp(chart.low, chart.high))))
            .collect();
        // A window without a value makes a gap.
        for piece in points.split(Option::is_none) {
            let style = colour(entry).stroke_width(width(entry));
            context.draw_series(LineSeries::new(piece.iter().flatten().copied(), style))?;
        }
    }
    Ok(())
}

fn colour(entry: &Entry) -> RGBColor {
    let index = NAMES.iter().position(|name| *name == entry.contender);
    index.map_or(INK, |index| COLOURS[index])
}

fn width(entry: &Entry) -> u32 {
    if entry.contender == "shedder" { 3 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::tests::{entry, score};

    #[test]
    fn every_contender_is_in_the_picture() {
        let mut entries: Vec<Entry> = NAMES.iter().map(|name| entry(name, score())).collect();
        entries[0].windows[0] = vec![
            Window { at: 0.5, p99: Some(20.0), ..Window::default() },
            Window { at: 0.6, p99: None, ..Window::default() },
        ];
        let report = Report {
            scenario: "step",
            about: "a step",
            times: [1.0, 2.0, 3.0],
            limit: 950.0,
            entries,
            goals: vec![],
            fairness: None,
        };
        let svg = draw(&report).unwrap();
        for name in NAMES.into_iter().chain(["step: a step", "answered in time, requests/s"]) {
            assert!(svg.contains(name), "{name}");
        }
    }
}
