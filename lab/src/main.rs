//! `shedder-lab`: what overloads do to a real server on a real kernel, with shedder, with other controllers, and with
//! nothing.

mod cohorts;
mod contender;
mod limit;
mod rival;
mod run;
mod sampler;
mod scenario;
mod score;
mod simulate;
mod stage;

use anyhow::Result;
fn main() -> Result<()> {
    shedder_tests::interrupt::catch()?;
    let stage = stage::Stage::set()?;
    let names: Vec<String> = std::env::args().skip(1).collect();
    for s in scenario::all().into_iter().filter(|s| names.iter().any(|n| n == s.name)) {
        for name in ["nothing", "static", "shedder"] {
            let t = std::time::Instant::now();
            let run = stage.play(&s, &contender::Contender::of(name, 950.0))?;
            let score = score::Score::of(&s, &run);
            println!("{name}: {:?} {score:?}", t.elapsed());
        }
    }
    Ok(())
}
