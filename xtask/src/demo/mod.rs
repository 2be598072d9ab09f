//! `cargo xtask demo`: a web server that is asked for several times what it can do, without shedder and with it, and a
//! kill.
//!
//! All of it happens in network namespaces that are made for it and removed after it, on links that no packet leaves.
//! Every figure is measured in the run that shows it.

mod daemon;
mod figures;
mod metrics;
mod plot;
mod scene;
mod stage;
mod summary;
mod timeline;
mod view;

use anyhow::{Context, Result, bail};
use daemon::Daemon;
use figures::{Overload, Switch};
use metrics::Scraper;
use scene::Scene;
use shedder_tests::interrupt;
use shedder_tests::privileged;
use stage::{Act, Kill, Stage, Times};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use summary::Story;
use timeline::Timeline;
use view::View;

/// What the demo needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The `shedder` that is shown.
    pub(crate) shedder: PathBuf,
    /// The directory that `summary.md`, `demo.svg` and `demo.json` are written to; made where it is not there.
    pub(crate) output: PathBuf,
    /// What the overload asks for, in capacities of the server: 1 to 10.
    pub(crate) overload: f64,
}

/// Reads the overload's factor from the command line.
pub(crate) fn factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if (1.0..=10.0).contains(&factor) => Ok(factor),
        _ => Err("a number from 1 to 10 is wanted: two cores can make no more load than that".into()),
    }
}

/// What the acts are called.
const TITLES: [&str; 3] = ["Act 1: without shedder", "Act 2: with shedder", "Act 3: kill and resume"];

/// Long enough to collapse, and to see that the end of the overload is not the end of the trouble.
const WITHOUT: Times =
    Times { before: Duration::from_secs(3), overload: Duration::from_secs(8), after: Duration::from_secs(4) };

/// Long enough to recover under load, to stay recovered, and to stop shedding after it.
const WITH: Times = Times {
    before: Duration::from_secs(3),
    overload: Duration::from_secs(15),
    after: Duration::from_secs(6),
};

/// Plays the demo: needs root, takes about a minute. Ctrl-C and SIGTERM end it early, with an error.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(missing) = privileged::missing() {
        bail!("the demo cannot run: {missing}");
    }
    interrupt::catch()?;
    view::write("Measuring what the server can do ...\n");
    let scene = Scene::set(options.overload)?;
    let capacity = scene.capacity;
    view::write(&format!(
        "It answers {capacity:.0} requests a second. The overload is {} times as many.\n\n",
        options.overload
    ));
    let mut stage = Stage { scene: &scene, view: View::new(), timeline: Timeline::default() };
    let server = scene.start_server()?;
    let first = stage.overload(TITLES[0], &WITHOUT, None)?;
    // What waits in its queue would keep it busy for seconds: the second act begins with none.
    drop(server);
    let _server = scene.start_server()?;
    view::write(&format!("$ shedder run --config demo.toml\n{}\n", daemon::configuration(&scene.network)));
    let daemon = Daemon::start(&options.shedder, &scene)?;
    let scraper = Scraper::start(&scene.network.server, scene.epoch)?;
    let second = stage.overload(TITLES[1], &WITH, Some(&scraper))?;
    let kill = stage.kill(TITLES[2], &daemon, &scraper)?;
    let samples = scraper.samples();
    drop(scraper);
    daemon.stop()?;
    let story = tell(&scene, &stage.timeline, [&first, &second], &kill, samples);
    write(&story, &options.output)
}

/// Turns what was recorded into what is told.
fn tell(
    scene: &Scene,
    timeline: &Timeline,
    [first, second]: [&Act; 2],
    kill: &Kill,
    samples: Vec<metrics::Sample>,
) -> Story {
    let seconds = |range: &std::ops::Range<Duration>| [range.start.as_secs_f64(), range.end.as_secs_f64()];
    Story {
        machine: shedder_tests::machine::describe(),
        capacity: scene.capacity,
        target: scene::TARGET.as_secs_f64() * 1e3,
        patience: scene::PATIENCE.as_secs_f64() * 1e3,
        acts: [&first.when, &second.when, &kill.when].map(seconds),
        overloads: [&first.overload, &second.overload].map(seconds),
        killed: seconds(&kill.killed),
        without: Overload::of(timeline, first, &[]),
        with: Overload::of(timeline, second, &samples),
        switch: Switch::of(kill),
        windows: [&first.when, &second.when, &kill.when].map(|when| timeline.windows(when)),
        samples,
    }
}

/// Writes the files, and prints the table.
fn write(story: &Story, output: &Path) -> Result<()> {
    fs::create_dir_all(output).with_context(|| format!("creating {}", output.display()))?;
    let table = story.to_string();
    let plot = plot::draw(story)?;
    let data = serde_json::to_string(story).context("encoding the raw data")?;
    for (name, content) in [("summary.md", &table), ("demo.svg", &plot), ("demo.json", &data)] {
        let path = output.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    view::write(&format!("{table}Written to {}: summary.md, demo.svg, demo.json\n", output.display()));
    Ok(())
}
