//! `shedder-bench`: shedder beside what one would use in its place, measured in one run.
//!
//! All of it happens in network namespaces that are made for it and removed after it, on links that no packet leaves.

mod counters;
mod live;
mod peers;
mod programs;
mod shape;
mod shed;
mod spread;

fn main() -> anyhow::Result<()> {
    let mut peers = peers::all()?;
    let effort = live::Effort { rounds: 1, time: std::time::Duration::from_millis(300) };
    for flood in live::floods(&mut peers, &live::cases(), effort)? {
        println!("{:16} {:36} {:?} passed {:?} lost {:?} {:?}", flood.case, flood.peer, flood.rates, flood.passed, flood.lost, flood.error);
    }
    Ok(())
}
