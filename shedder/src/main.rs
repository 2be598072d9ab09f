//! x
use shedder::{config::Config, datapath::*};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let pins = Pins::new(&args[1]);
    let d = Datapath::claim(&pins).unwrap();
    let mut c = Config { interfaces: args[2..].to_vec(), ..Default::default() };
    c.source.rates.packets_per_second = 10000;
    if std::env::var("FULL").is_ok() {
    c.source.rates.bytes_per_second = 50000000;
    c.source.rates.new_flows_per_second = 200;
    c.newcomers.packets_per_second = 50000;
    }
    match d.install(&c) { Ok(s) => println!("{:?}", s.interfaces()), Err(e) => println!("ERR {e:#}") }
}
