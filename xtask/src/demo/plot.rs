//! The picture of a run.

use super::scene::CLASSES;
use super::summary::Story;
use super::timeline::{Counts, WINDOW, Window};
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, Y>>;

const SIZE: (u32, u32) = (1200, 900);
const FONT: &str = "sans-serif";

const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(228, 228, 228);
const OVERLOAD: RGBColor = RGBColor(255, 243, 224);
const KILLED: RGBColor = RGBColor(253, 224, 224);
const TARGET: RGBColor = RGBColor(120, 120, 120);
const P50: RGBColor = RGBColor(120, 170, 220);
const P99: RGBColor = RGBColor(20, 80, 160);
const RATIO: RGBColor = RGBColor(150, 40, 150);
/// Of the classes.
const COLOURS: [RGBColor; CLASSES.len()] =
    [RGBColor(200, 40, 40), RGBColor(30, 130, 60), RGBColor(230, 150, 20)];

/// A line of a chart, with gaps between its pieces.
struct Curve {
    label: String,
    colour: RGBColor,
    width: u32,
    pieces: Vec<Vec<(f64, f64)>>,
}

/// Draws the latency, the requests by class, and the shed ratio over time, one below the other, as SVG.
pub(super) fn draw(story: &Story) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let drawn = draw_all(&root, story).and_then(|()| Ok(root.present()?));
        drawn.map_err(|error| anyhow!("drawing the plot: {error}"))?;
    }
    Ok(svg)
}

type Drawn<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn draw_all(root: &Area, story: &Story) -> Drawn {
    root.fill(&WHITE)?;
    let (titles, charts) = root.split_vertically(40);
    let (latency, charts) = charts.split_vertically(300);
    let (requests, ratio) = charts.split_vertically(300);
    draw_latency(&latency, story)?;
    draw_requests(&requests, story)?;
    draw_ratio(&ratio, story)?;
    draw_titles(&titles, story)
}

/// Pixels left of every chart, for a margin and its axis, and right of it, for the names of its curves.
const MARGIN: u32 = 16;
const AXIS: u32 = 90;
const LEGEND: u32 = 160;

/// Each act's title over its part of the charts.
fn draw_titles(area: &Area, story: &Story) -> Drawn {
    let [start, end] = span(story);
    let left = f64::from(MARGIN + AXIS);
    let width = f64::from(SIZE.0 - MARGIN - AXIS - LEGEND);
    let style = (FONT, 19).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Center));
    for (title, [from, until]) in story.titles() {
        let middle = left + width * ((from + until) / 2.0 - start) / (end - start);
        area.draw(&Text::new(title, (middle as i32, 24), style.clone()))?;
    }
    Ok(())
}

/// The time axis.
fn span(story: &Story) -> [f64; 2] {
    [story.acts[0][0], story.acts[2][1]]
}

fn draw_latency(area: &Area, story: &Story) -> Drawn {
    let (area, names) = area.split_horizontally(SIZE.0 - LEGEND);
    let (low, high) = (1.0, 2.0 * story.patience);
    let mut chart = chart(&area, story, (low..high).log_scale())?;
    background(&mut chart, story, [low, high])?;
    let format =
        |value: &f64| if *value < 1000.0 { format!("{value} ms") } else { format!("{} s", value / 1e3) };
    axes(&mut chart, "latency of what was admitted", 6, &format)?;
    let quantile = |of: fn(&Window) -> Option<f64>| {
        curve(story, |window| of(window).map(|value| value.clamp(low, high)))
    };
    let target = vec![span(story).map(|at| (at, story.target)).to_vec()];
    let label = format!("target {:.0} ms", story.target);
    let curves = [
        Curve { label: "p99".into(), colour: P99, width: 2, pieces: quantile(|window| window.p99) },
        Curve { label: "p50".into(), colour: P50, width: 2, pieces: quantile(|window| window.p50) },
        Curve { label, colour: TARGET, width: 1, pieces: target },
    ];
    lines(&mut chart, &curves)?;
    legend(&names, &curves)
}

fn draw_requests(area: &Area, story: &Story) -> Drawn {
    let (area, names) = area.split_horizontally(SIZE.0 - LEGEND);
    let (low, high) = (10.0, 20.0 * story.capacity);
    let mut chart = chart(&area, story, (low..high).log_scale())?;
    background(&mut chart, story, [low, high])?;
    let format = |value: &f64| if *value > low { format!("{value}") } else { format!("{value} or less") };
    axes(&mut chart, "requests a second", 6, &format)?;
    let rate = |class: usize, of: fn(&Counts) -> u64| {
        curve(story, |window| {
            let counts = &window.classes[class];
            let rate = of(counts) as f64 / WINDOW.as_secs_f64();
            // A logarithmic scale has no zero.
            (counts.offered > 0).then(|| rate.clamp(low, high))
        })
    };
    let capacity = vec![span(story).map(|at| (at, story.capacity)).to_vec()];
    let mut curves = vec![Curve { label: "capacity".into(), colour: TARGET, width: 1, pieces: capacity }];
    for (class, (name, colour)) in CLASSES.into_iter().zip(COLOURS).enumerate() {
        let offered = rate(class, |counts| counts.offered);
        let answered = rate(class, |counts| counts.answered);
        curves.push(Curve {
            label: format!("{name}: offered"),
            colour: pale(colour),
            width: 1,
            pieces: offered,
        });
        curves.push(Curve { label: format!("{name}: answered"), colour, width: 2, pieces: answered });
    }
    lines(&mut chart, &curves)?;
    legend(&names, &curves)
}

fn draw_ratio(area: &Area, story: &Story) -> Drawn {
    let (area, names) = area.split_horizontally(SIZE.0 - LEGEND);
    let (low, high) = (0.0, 1.05);
    let mut chart = chart(&area, story, low..high)?;
    background(&mut chart, story, [low, high])?;
    axes(&mut chart, "shed ratio", 5, &|value| format!("{value:.1}"))?;
    let ratio = story.samples.iter().map(|sample| (sample.at, sample.shed_ratio)).collect();
    let cutoff = story.samples.iter().map(|sample| (sample.at, sample.cutoff / 768.0)).collect();
    let curves = [
        Curve { label: "shed ratio".into(), colour: RATIO, width: 2, pieces: vec![ratio] },
        Curve { label: "cutoff / 768".into(), colour: TARGET, width: 1, pieces: vec![cutoff] },
    ];
    lines(&mut chart, &curves)?;
    legend(&names, &curves)
}

fn chart<'a, 'b, R>(area: &'a Area<'b>, story: &Story, y: R) -> Drawn<Chart<'a, 'b, R::CoordDescType>>
where
    R: AsRangedCoord<Value = f64>,
{
    let [start, end] = span(story);
    let mut builder = ChartBuilder::on(area);
    builder.x_label_area_size(30).y_label_area_size(AXIS).margin_left(MARGIN);
    Ok(builder.build_cartesian_2d(start..end, y)?)
}

/// Overloads and the kill, behind everything else.
fn background<Y>(chart: &mut Chart<Y>, story: &Story, [low, high]: [f64; 2]) -> Drawn
where
    Y: Ranged<ValueType = f64>,
{
    let bands = story.overloads.map(|when| (when, OVERLOAD)).into_iter().chain([(story.killed, KILLED)]);
    chart.draw_series(
        bands.map(|([from, until], colour)| Rectangle::new([(from, low), (until, high)], colour.filled())),
    )?;
    let starts = story.acts.map(|[start, _]| start);
    chart.draw_series(starts.map(|at| PathElement::new([(at, low), (at, high)], INK.mix(0.5))))?;
    Ok(())
}

fn axes<Y>(chart: &mut Chart<Y>, name: &str, labels: usize, format: &dyn Fn(&f64) -> String) -> Drawn
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(WHITE.mix(0.0))
        .axis_style(INK)
        .label_style((FONT, 14).into_font().color(&INK))
        .axis_desc_style((FONT, 15).into_font().color(&INK))
        .x_labels(12)
        .x_label_formatter(&|at| format!("{at:.0} s"))
        .y_desc(name)
        .y_labels(labels)
        .y_label_formatter(format)
        .draw()?;
    Ok(())
}

/// The windows of each act as a piece; a window without a value makes a gap.
fn curve(story: &Story, of: impl Fn(&Window) -> Option<f64>) -> Vec<Vec<(f64, f64)>> {
    let middle = WINDOW.as_secs_f64() / 2.0;
    let mut pieces = Vec::new();
    for act in &story.windows {
        let points: Vec<_> =
            act.iter().map(|window| of(window).map(|value| (window.at + middle, value))).collect();
        pieces.extend(
            points.split(|point| point.is_none()).map(|piece| piece.iter().flatten().copied().collect()),
        );
    }
    pieces.retain(|piece: &Vec<_>| !piece.is_empty());
    pieces
}

fn lines<Y>(chart: &mut Chart<Y>, curves: &[Curve]) -> Drawn
where
    Y: Ranged<ValueType = f64>,
{
    for curve in curves {
        let style = curve.colour.stroke_width(curve.width);
        for piece in &curve.pieces {
            chart.draw_series(LineSeries::new(piece.iter().copied(), style))?;
        }
    }
    Ok(())
}

/// Names the curves, right of their chart.
fn legend(area: &Area, curves: &[Curve]) -> Drawn {
    let style = (FONT, 14).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
    for (curve, y) in curves.iter().zip((24..).step_by(22)) {
        area.draw(&PathElement::new([(8, y), (32, y)], curve.colour.stroke_width(curve.width)))?;
        area.draw(&Text::new(curve.label.as_str(), (40, y), style.clone()))?;
    }
    Ok(())
}

/// The same colour, half as strong.
fn pale(RGBColor(red, green, blue): RGBColor) -> RGBColor {
    let half = |part: u8| 255 - (255 - part) / 2;
    RGBColor(half(red), half(green), half(blue))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::summary::tests::story;

    #[test]
    fn every_name_is_in_the_picture() {
        let svg = draw(&story()).unwrap();
        let names = [
            "Act 1: without shedder",
            "Act 2: with shedder",
            "Act 3: kill and resume",
            "target 50 ms",
            "p99",
        ];
        for name in names.into_iter().chain(CLASSES).chain(["shed ratio", "latency of what was admitted"]) {
            assert!(svg.contains(name), "{name}");
        }
        assert!(svg.contains(r#"font-family="sans-serif""#));
    }

    #[test]
    fn a_window_without_a_value_makes_a_gap() {
        let mut story = story();
        let window = |at, p99| Window { at, p99, ..Window::default() };
        story.windows[0] = vec![window(1.0, Some(5.0)), window(1.25, None), window(1.5, Some(6.0))];
        story.windows[1].clear();
        story.windows[2].clear();
        assert_eq!(curve(&story, |window| window.p99), [[(1.125, 5.0)], [(1.625, 6.0)]]);
    }
}
