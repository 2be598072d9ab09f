//! The pictures.

use crate::results::Results;
use crate::sources::SOURCES;
use crate::spread::Spread;
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

const SIZE: (u32, u32) = (1100, 620);
const LEGEND: u32 = 330;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(228, 228, 228);

/// A line of a chart: its name, and the spread at each place of the axis, where there is one.
struct Line {
    name: String,
    points: Vec<Option<Spread>>,
}

fn draw(content: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let drawn = root
            .fill(&WHITE)
            .map_err(Into::into)
            .and_then(|()| content(&root))
            .and_then(|()| Ok(root.present()?));
        drawn.map_err(|error| anyhow!("drawing a plot: {error}"))?;
    }
    Ok(svg)
}

fn colour(name: &str, index: usize) -> RGBColor {
    if name.starts_with("shedder") {
        return [
            RGBColor(20, 80, 180),
            RGBColor(60, 140, 220),
            RGBColor(0, 150, 160),
            RGBColor(110, 110, 220),
        ][index % 4];
    }
    const OTHERS: [RGBColor; 8] = [
        RGBColor(120, 120, 120),
        RGBColor(200, 60, 40),
        RGBColor(230, 150, 20),
        RGBColor(30, 130, 60),
        RGBColor(150, 60, 170),
        RGBColor(120, 90, 60),
        RGBColor(190, 30, 110),
        RGBColor(130, 150, 30),
    ];
    OTHERS[index % OTHERS.len()]
}

/// Draws lines over named places; none where there is nothing to draw.
fn show(title: &str, places: &[&str], lines: &[Line]) -> Result<Option<String>> {
    if lines.iter().all(|line| line.points.iter().all(Option::is_none)) {
        return Ok(None);
    }
    draw(|root| chart(root, title, places, lines)).map(Some)
}

/// Lines over named places, on a logarithmic scale.
fn chart(root: &Area<'_>, title: &str, places: &[&str], lines: &[Line]) -> Drawn {
    let (chart, legend) = root.split_horizontally(SIZE.0 - LEGEND);
    let all = || lines.iter().flat_map(|line| line.points.iter().flatten());
    let low = all().map(|it| it.min).fold(f64::MAX, f64::min).max(1e-3) / 1.3;
    let high = all().map(|it| it.max).fold(0.0, f64::max).max(2.0 * low) * 1.2;
    let mut context = ChartBuilder::on(&chart)
        .caption(title, (FONT, 18))
        .x_label_area_size(40)
        .y_label_area_size(60)
        .margin(10)
        .build_cartesian_2d(-0.3..places.len() as f64 - 0.7, (low..high).log_scale())?;
    context
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(WHITE.mix(0.0))
        .axis_style(INK)
        .label_style((FONT, 14).into_font().color(&INK))
        .x_labels(0)
        .draw()?;
    for (index, place) in places.iter().enumerate() {
        let (x, y) = context.backend_coord(&(index as f64, low));
        let style = (FONT, 14).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Top));
        root.draw(&Text::new(*place, (x, y + 8), style))?;
    }
    for (index, line) in lines.iter().enumerate() {
        let colour = colour(&line.name, index);
        let points = line.points.iter().enumerate().filter_map(|(at, point)| Some((at as f64, (*point)?)));
        let points: Vec<(f64, Spread)> = points.collect();
        let width = if line.name.starts_with("shedder") { 3 } else { 1 };
        context.draw_series(LineSeries::new(
            points.iter().map(|(x, it)| (*x, it.median)),
            colour.stroke_width(width),
        ))?;
        context.draw_series(
            points.iter().map(|(x, it)| PathElement::new([(*x, it.min), (*x, it.max)], colour)),
        )?;
        context.draw_series(points.iter().map(|(x, it)| Circle::new((*x, it.median), 3, colour.filled())))?;
        let y = 40 + 26 * index as i32;
        legend.draw(&PathElement::new([(10, y), (36, y)], colour.stroke_width(width)))?;
        let style = (FONT, 14).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        legend.draw(&Text::new(line.name.as_str(), (44, y), style))?;
    }
    Ok(())
}

/// The rate of every peer by the number of sources.
pub(super) fn floods(results: &Results) -> Result<Option<String>> {
    let places = ["1 source", "1k sources", "64k sources", "1M sources", "10M sources", "spoofed sources"];
    let mut peers: Vec<&str> = Vec::new();
    for flood in &results.floods {
        if !peers.contains(&flood.peer.as_str()) {
            peers.push(&flood.peer);
        }
    }
    let point = |peer: &str, case: &str| {
        let flood = results.floods.iter().find(|it| it.peer == peer && it.case == case)?;
        let spread = Spread::of(&flood.rates)?;
        Some(Spread { median: spread.median / 1e6, min: spread.min / 1e6, max: spread.max / 1e6 })
    };
    let lines: Vec<Line> = peers
        .iter()
        .map(|peer| Line {
            name: (*peer).into(),
            points: places.iter().map(|case| point(peer, case)).collect(),
        })
        .collect();
    show("Million frames a second on one CPU", &places, &lines)
}

/// What a decision takes by the number of sources.
pub(super) fn decisions(results: &Results) -> Result<Option<String>> {
    let places = SOURCES.map(|(name, _)| name);
    let mut lines: Vec<Line> = Vec::new();
    for decision in results.decisions.iter().filter(|it| it.cpus == 1) {
        let Some(at) = places.iter().position(|place| *place == decision.sources) else { continue };
        let index = lines.iter().position(|line| line.name == decision.subject).unwrap_or_else(|| {
            lines.push(Line { name: decision.subject.into(), points: vec![None; places.len()] });
            lines.len() - 1
        });
        lines[index].points[at] = Spread::of(&decision.nanoseconds);
    }
    show("Nanoseconds of a decision by the number of sources", &places, &lines)
}

/// Every kill as a dot.
pub(super) fn kills(results: &Results) -> Result<Option<String>> {
    let stops = &results.stops;
    let all = || stops.iter().flat_map(|stop| &stop.milliseconds).copied();
    if all().next().is_none() {
        return Ok(None);
    }
    let low = all().fold(f64::MAX, f64::min).clamp(0.1, 1.0);
    let high = all().fold(0.0, f64::max).max(20.0) * 1.2;
    draw(|root| {
        let mut context = ChartBuilder::on(root)
            .caption("Milliseconds from a command's start to the last packet", (FONT, 18))
            .x_label_area_size(40)
            .y_label_area_size(LEGEND)
            .margin(10)
            .build_cartesian_2d((low..high).log_scale(), -0.5..stops.len().max(1) as f64 - 0.5)?;
        context
            .configure_mesh()
            .disable_y_mesh()
            .bold_line_style(GRID)
            .light_line_style(WHITE.mix(0.0))
            .axis_style(INK)
            .label_style((FONT, 14).into_font().color(&INK))
            .y_labels(0)
            .draw()?;
        for (index, stop) in stops.iter().enumerate() {
            let y = (stops.len() - 1 - index) as f64;
            let colour = colour(stop.way, index).mix(0.5).filled();
            let dot = |at: &f64| Circle::new((at.max(low), y), 4, colour);
            context.draw_series(stop.milliseconds.iter().map(dot))?;
            let (x, y) = context.backend_coord(&(low, y));
            let style = (FONT, 14).into_font().color(&INK).pos(Pos::new(HPos::Right, VPos::Center));
            root.draw(&Text::new(stop.way, (x - 10, y), style))?;
        }
        Ok(())
    })
    .map(Some)
}
