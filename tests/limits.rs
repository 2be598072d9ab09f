//! The limits of a source, on real packets: a veth pair between two namespaces, the programs on the server's end.
//!
//! A source gets its limit and what its bucket held, within 2 %, however it sends; nobody pays for another; and where
//! there is no room to remember a source, it gets no more than one that is remembered.
//!
//! Figures are printed: `cargo test -p shedder-tests --test limits -- --nocapture`. A measurement that the machine
//! spoiled (the senders stood still, or frames were lost before they were judged) says so and is made again.

use anyhow::{Result, ensure};
use shedder_common::abi::Event;
use shedder_common::reason::Reason::{Admitted, SourceRate};
use shedder_tests::flood::{Plan, Receiver};
use shedder_tests::frame::{self, Ethernet};
use shedder_tests::kernel::{self, Attached};
use shedder_tests::measured::{Measured, repeat};
use shedder_tests::netns::{Link, Network, Options};
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Where the receiver listens, and where nobody does.
const HEARD: u16 = 9999;
const UNHEARD: u16 = 9998;

/// The share by which what is admitted may miss what should be.
const TOLERANCE: f64 = 0.02;

/// A network with shedder on its server.
struct Lab<'a> {
    network: &'a Network,
    shedder: Shedder<'a>,
}

impl<'a> Lab<'a> {
    fn new(network: &'a Network) -> Lab<'a> {
        Lab { network, shedder: Shedder::new(network) }
    }

    /// Puts this into force: the limits of `[source]`, and what follows.
    fn limit(&self, limits: &str) -> Attached {
        kernel::attach(&self.shedder, &format!("interfaces = [\"$IF\"]\n[source]\n{limits}"))
    }

    fn link(&self) -> &Link {
        self.network.link()
    }

    /// A source that no other attempt uses.
    fn source(&self, attempt: u8) -> IpAddr {
        self.link().source_v4(9, attempt).into()
    }

    fn ethernet(&self) -> Ethernet {
        Ethernet { source: self.link().client_mac(), destination: self.link().server_mac() }
    }

    fn server(&self, source: IpAddr, port: u16) -> SocketAddr {
        match source {
            IpAddr::V4(_) => (self.link().server_v4(), port).into(),
            IpAddr::V6(_) => (self.link().server_v6(), port).into(),
        }
    }

    /// A datagram of `length` bytes as a frame.
    fn udp(&self, source: IpAddr, from: u16, length: usize) -> Vec<u8> {
        self.udp_to(HEARD, source, from, length)
    }

    fn udp_to(&self, port: u16, source: IpAddr, from: u16, length: usize) -> Vec<u8> {
        let headers = if source.is_ipv4() { 42 } else { 62 };
        let payload = vec![0; length - headers];
        frame::udp(self.ethernet(), (source, from).into(), self.server(source, port), &payload)
    }

    fn syn(&self, source: IpAddr, from: u16) -> Vec<u8> {
        frame::tcp_syn(self.ethernet(), (source, from).into(), self.server(source, UNHEARD), 1)
    }

    fn plan(&self, frames: Vec<Vec<u8>>, rate: u64, duration: Duration) -> Plan {
        Plan { interface: self.link().interface.clone(), frames, rate, duration, cpu: None }
    }

    fn receiver(&self) -> Receiver {
        Receiver::start(&self.network.server, self.server(self.source(0), HEARD)).unwrap()
    }
}

const SHORT: usize = 64;

/// Waits until the receiver has all that was let in.
fn heard(receiver: &Receiver, admitted: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while receiver.total() < admitted {
        assert!(Instant::now() < deadline, "{} of {admitted} datagrams were delivered", receiver.total());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(receiver.total(), admitted, "what is delivered is what was admitted");
}

/// Holds what was admitted against what should have been; `grain` is the most that one packet brings.
fn near(what: &str, admitted: u64, ideal: f64, grain: u64) {
    let miss = admitted as f64 / ideal - 1.0;
    println!("{what}: admitted {admitted} of {ideal:.0} ({:+.2} %)", miss * 100.0);
    assert!(
        (admitted as f64 - ideal).abs() <= TOLERANCE * ideal + grain as f64,
        "{what}: {admitted} were admitted, and should have been {ideal:.0}"
    );
}

/// One source at five times its limit for five seconds, sent from as many CPUs at once.
fn at_five_times_its_limit(label: &str, cpus: u8) {
    const FACTOR: u64 = 5;
    const TIME: Duration = Duration::from_secs(5);
    const BURST: Duration = Duration::from_millis(200);
    let options = Options { queues: cpus.into(), ..Options::default() };
    let network = Network::with(label, &options).unwrap();
    let lab = Lab::new(&network);
    repeat(|attempt| -> Result<()> {
        // What a busy machine cannot send five times of says nothing; a lower limit may.
        let limit = 10_000 >> attempt;
        let attached = lab.limit(&format!("packets_per_second = {limit}\nburst = \"200ms\""));
        let receiver = lab.receiver();
        let source = lab.source(attempt);
        // Different flows, so that a sender's frames go through every queue.
        let frames: Vec<_> = (1..=64).map(|port| lab.udp(source, port, SHORT)).collect();
        let rate = FACTOR * limit / u64::from(cpus);
        let plans =
            (0..cpus).map(|cpu| Plan { cpu: Some(cpu.into()), ..lab.plan(frames.clone(), rate, TIME) });
        let measured = Measured::floods(&network, &attached, plans.collect())?;

        let seconds = measured.time().as_secs_f64();
        let factor = measured.arrived() as f64 / seconds / limit as f64;
        println!(
            "limit {limit}/s, {cpus} CPUs: {} packets in {seconds:.3} s arrived, {factor:.2} times the limit; by CPU {:?}",
            measured.arrived(),
            measured.by_cpu
        );
        ensure!(
            factor > 0.9 * FACTOR as f64,
            "the machine could not send {FACTOR} times {limit} packets a second"
        );
        let gap = measured.sent.iter().map(|sent| sent.longest_gap).max().unwrap_or_default();
        ensure!(gap < BURST, "the senders stood still for {gap:?}");
        let judges = measured.by_cpu.iter().filter(|&&count| count > measured.arrived() / 10).count();
        ensure!(judges == usize::from(cpus), "not {cpus} but {judges} CPUs judged packets");

        let admitted = measured.met(Admitted).packets;
        assert_eq!(admitted + measured.met(SourceRate).packets, measured.arrived());
        heard(&receiver, admitted);
        near(&format!("{cpus} CPUs"), admitted, measured.ideal(limit, BURST), 1);
        Ok(())
    });
}

#[test]
fn a_source_at_five_times_its_limit_gets_its_limit_from_one_cpu() {
    if !privileged::require() {
        return;
    }
    at_five_times_its_limit("five-times-one-cpu", 1);
}

#[test]
fn a_source_at_five_times_its_limit_gets_its_limit_from_two_cpus() {
    if !privileged::require() {
        return;
    }
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
        println!("this machine has one CPU: two cannot be tried");
        return;
    }
    at_five_times_its_limit("five-times-two-cpus", 2);
}

/// Two CPUs that judge nothing else, and so meet in the bucket all the time: it holds half of what they ask of it.
#[test]
fn two_cpus_at_once_in_one_bucket_take_no_more_than_it_holds() {
    if !privileged::require() {
        return;
    }
    const LIMIT: u64 = 50_000;
    const BURST: Duration = Duration::from_secs(60);
    const ROUNDS: u32 = 30;
    const RUNS: u32 = 100_000;
    let network = Network::new("one-bucket").unwrap();
    let lab = Lab::new(&network);
    let attached = lab.limit(&format!("packets_per_second = {LIMIT}\nburst = \"60s\""));
    let frame = lab.udp_to(UNHEARD, lab.source(0), 1, SHORT);
    let start = Instant::now();
    let hammer = || {
        for _ in 0..ROUNDS {
            kernel::run(attached.ingress(), &frame, RUNS);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(hammer);
        scope.spawn(hammer);
    });
    let time = start.elapsed();
    let counted = attached.counters().ingress;
    let (admitted, refused) = (counted[Admitted as usize].packets, counted[SourceRate as usize].packets);
    println!("{admitted} admitted and {refused} refused in {time:.3?}");
    assert_eq!(admitted + refused, u64::from(2 * ROUNDS * RUNS), "each is counted once");
    near("two CPUs in one bucket", admitted, LIMIT as f64 * (time + BURST).as_secs_f64(), 1);
}

#[test]
fn bytes_are_limited_whatever_the_sizes_they_come_in() {
    if !privileged::require() {
        return;
    }
    const LIMIT: u64 = 2_000_000;
    const BURST: Duration = Duration::from_millis(200);
    const LARGEST: usize = 1514;
    let network = Network::new("bytes").unwrap();
    let lab = Lab::new(&network);
    let attached = lab.limit(&format!("bytes_per_second = {LIMIT}\nburst = \"200ms\""));
    repeat(|attempt| {
        let source = lab.source(attempt);
        let sizes = [SHORT, 200, LARGEST, 99, 590];
        let frames = sizes.map(|size| lab.udp_to(UNHEARD, source, 1, size)).to_vec();
        let measured =
            Measured::floods(&network, &attached, vec![lab.plan(frames, 15_000, Duration::from_secs(2))])?;
        measured.sound(BURST)?;
        near("bytes", measured.met(Admitted).bytes, measured.ideal(LIMIT, BURST), LARGEST as u64);
        Ok(())
    });
}

#[test]
fn new_flows_are_limited_and_known_flows_are_not() {
    if !privileged::require() {
        return;
    }
    const LIMIT: u64 = 500;
    const BURST: Duration = Duration::from_millis(200);
    const TIME: Duration = Duration::from_secs(2);
    let network = Network::new("new-flows").unwrap();
    let lab = Lab::new(&network);
    let attached = lab.limit(&format!("new_flows_per_second = {LIMIT}\nburst = \"200ms\""));
    repeat(|attempt| {
        let syns = (1..=8_000).map(|port| lab.syn(lab.source(attempt), port)).collect();
        let measured = Measured::floods(&network, &attached, vec![lab.plan(syns, 2_500, TIME)])?;
        measured.sound(BURST)?;
        near("TCP SYNs", measured.met(Admitted).packets, measured.ideal(LIMIT, BURST), 1);
        Ok(())
    });
    repeat(|attempt| {
        // More of them than are sent: each is the first of its flow.
        let source = lab.source(100 + attempt);
        let datagrams = (1..=8_000).map(|port| lab.udp_to(UNHEARD, source, port, SHORT)).collect();
        let measured = Measured::floods(&network, &attached, vec![lab.plan(datagrams, 2_500, TIME)])?;
        measured.sound(BURST)?;
        near("UDP flows", measured.met(Admitted).packets, measured.ideal(LIMIT, BURST), 1);
        Ok(())
    });
    repeat(|attempt| {
        let datagram = lab.udp_to(UNHEARD, lab.source(200 + attempt), 1, SHORT);
        let measured = Measured::floods(&network, &attached, vec![lab.plan(vec![datagram], 5_000, TIME)])?;
        measured.sound(BURST)?;
        assert_eq!(measured.met(Admitted).packets, measured.frames(), "one flow is one flow");
        Ok(())
    });
}

#[test]
fn of_limits_together_the_tightest_holds() {
    if !privileged::require() {
        return;
    }
    const BURST: Duration = Duration::from_millis(300);
    const SIZE: usize = 100;
    let network = Network::new("together").unwrap();
    let lab = Lab::new(&network);
    // Each as packets a second, of which every one is a flow's first, and as the file says it.
    let limits = [
        (3_000, "packets_per_second = 3_000".to_owned()),
        (2_000, format!("bytes_per_second = {}", 2_000 * SIZE)),
        (1_000, "new_flows_per_second = 1_000".to_owned()),
    ];
    for combination in 1..8u8 {
        let in_force: Vec<_> = limits
            .iter()
            .enumerate()
            .filter(|(i, _)| combination & 1 << i != 0)
            .map(|(_, limit)| limit)
            .collect();
        let lines: Vec<&str> = in_force.iter().map(|(_, line)| line.as_str()).collect();
        let attached = lab.limit(&format!("{}\nburst = \"300ms\"", lines.join("\n")));
        let tightest = in_force.iter().map(|(limit, _)| *limit).min().unwrap_or_default();
        repeat(|attempt| {
            let source = lab.source(combination * 10 + attempt);
            let frames = (1..=12_000).map(|port| lab.udp_to(UNHEARD, source, port, SIZE)).collect();
            let plan = lab.plan(frames, 8_000, Duration::from_secs(1));
            let measured = Measured::floods(&network, &attached, vec![plan])?;
            measured.sound(BURST)?;
            let admitted = measured.met(Admitted).packets;
            near(&lines.join(", "), admitted, measured.ideal(tightest, BURST), 1);
            assert_eq!(admitted + measured.met(SourceRate).packets, measured.arrived());
            Ok(())
        });
    }
}

#[test]
fn a_rule_gives_its_sources_limits_of_their_own_or_none() {
    if !privileged::require() {
        return;
    }
    const BURST: Duration = Duration::from_millis(200);
    const TIME: Duration = Duration::from_secs(1);
    let network = Network::new("rules").unwrap();
    let lab = Lab::new(&network);
    let link = lab.link();
    let attached = lab.limit(&format!(
        "packets_per_second = 200\nburst = \"200ms\"\n\
         [[rule]]\nsources = [\"{}/24\"]\npackets_per_second = 0\n\
         [[rule]]\nsources = [\"{}/24\"]\npackets_per_second = 1_000\n",
        link.source_v4(10, 0),
        link.source_v4(11, 0)
    ));
    for (what, third, limit) in
        [("lifted", 10, None), ("raised", 11, Some(1_000)), ("everybody's", 12, Some(200))]
    {
        repeat(|attempt| {
            let datagram = lab.udp_to(UNHEARD, link.source_v4(third, attempt).into(), 1, SHORT);
            let measured =
                Measured::floods(&network, &attached, vec![lab.plan(vec![datagram], 5_000, TIME)])?;
            measured.sound(BURST)?;
            let admitted = measured.met(Admitted).packets;
            match limit {
                Some(limit) => near(what, admitted, measured.ideal(limit, BURST), 1),
                None => assert_eq!(admitted, measured.frames(), "the rule lifts the limit"),
            }
            Ok(())
        });
    }
}

#[test]
fn addresses_of_one_ipv6_prefix_share_a_bucket_and_those_of_two_do_not() {
    if !privileged::require() {
        return;
    }
    const LIMIT: u64 = 1_000;
    const BURST: Duration = Duration::from_millis(200);
    let network = Network::new("ipv6").unwrap();
    let lab = Lab::new(&network);
    let attached = lab.limit(&format!("packets_per_second = {LIMIT}\nburst = \"200ms\""));
    for (what, prefixes) in [("one /64", 1), ("two /64s", 2)] {
        repeat(|attempt| {
            let first = 100 * prefixes + 2 * u32::from(attempt);
            let sources = [lab.link().source_v6(first, 7), lab.link().source_v6(first + prefixes - 1, 8)];
            let frames = sources.map(|source| lab.udp_to(UNHEARD, source.into(), 1, SHORT)).to_vec();
            let plan = lab.plan(frames, 8_000, Duration::from_secs(1));
            let measured = Measured::floods(&network, &attached, vec![plan])?;
            measured.sound(BURST)?;
            let ideal = measured.ideal(LIMIT * u64::from(prefixes), BURST);
            near(what, measured.met(Admitted).packets, ideal, prefixes.into());
            Ok(())
        });
    }
}

#[test]
fn tagged_frames_and_fragments_are_charged_to_their_source_like_any_other() {
    if !privileged::require() {
        return;
    }
    const LIMIT: u64 = 1_000;
    const BURST: Duration = Duration::from_millis(200);
    let network = Network::new("charged").unwrap();
    let lab = Lab::new(&network);
    // One flow may be opened: what is behind a fragment's header must not be taken for another.
    let attached =
        lab.limit(&format!("packets_per_second = {LIMIT}\nnew_flows_per_second = 1\nburst = \"200ms\""));
    repeat(|attempt| {
        let source = lab.source(attempt);
        let datagram = lab.udp_to(UNHEARD, source, 1, SHORT);
        let fragments = (1..=3).map(|port| frame::later_fragment(lab.udp_to(UNHEARD, source, port, SHORT)));
        let tagged = frame::tagged(datagram.clone());
        let frames = [datagram, tagged.clone(), frame::tagged(tagged)]
            .into_iter()
            .chain(fragments)
            .collect::<Vec<_>>();
        let plan = lab.plan(frames, 5_000, Duration::from_secs(2));
        let measured = Measured::floods(&network, &attached, vec![plan])?;
        measured.sound(BURST)?;
        near("mixed", measured.met(Admitted).packets, measured.ideal(LIMIT, BURST), 1);
        Ok(())
    });
    repeat(|attempt| {
        let source = lab.source(100 + attempt);
        let fragments = (1..=64).map(|port| frame::later_fragment(lab.udp_to(UNHEARD, source, port, SHORT)));
        let plan = lab.plan(fragments.collect(), LIMIT / 2, Duration::from_secs(1));
        let measured = Measured::floods(&network, &attached, vec![plan])?;
        measured.sound(BURST)?;
        assert_eq!(
            measured.met(Admitted).packets,
            measured.frames(),
            "fragments under the limit open nothing"
        );
        Ok(())
    });
}

#[test]
fn ten_thousand_sources_under_their_limit_lose_nothing_to_one_that_is_over_its_own() {
    if !privileged::require() {
        return;
    }
    const LIMIT: u64 = 50;
    const BURST: Duration = Duration::from_millis(500);
    const TIME: Duration = Duration::from_secs(3);
    let network = Network::new("many").unwrap();
    let lab = Lab::new(&network);
    // So small that the abuser shares its set with several of them.
    let attached = lab.limit(&format!("packets_per_second = {LIMIT}\nburst = \"500ms\"\ntable = 16_384"));
    repeat(|attempt| {
        let receiver = lab.receiver();
        let sources = (20..60).flat_map(|third| (0..250).map(move |fourth| (third, fourth)));
        let crowd: Vec<_> = sources
            .map(|(third, fourth)| lab.udp(lab.link().source_v4(third, fourth).into(), 1, SHORT))
            .collect();
        assert_eq!(crowd.len(), 10_000);
        let abuser = lab.source(attempt);
        let plans =
            vec![lab.plan(crowd, 10_000, TIME), lab.plan(vec![lab.udp(abuser, 1, SHORT)], 20 * LIMIT, TIME)];
        let measured = Measured::floods(&network, &attached, plans)?;
        measured.sound(BURST)?;
        let admitted = measured.met(Admitted).packets;
        heard(&receiver, admitted);
        let arrivals = receiver.finish()?;
        ensure!(arrivals.overflowed == 0, "the receiver could not keep up");
        let of_abuser = arrivals.by_source[&abuser];
        assert_eq!(admitted - of_abuser, measured.sent[0].frames, "what the crowd sent arrived");
        assert_eq!(arrivals.by_source.len(), 10_001);
        near("the abuser", of_abuser, measured.ideal(LIMIT, BURST), 1);
        Ok(())
    });
}

#[test]
fn sources_without_a_place_in_a_full_table_are_counted_and_bounded_together() {
    if !privileged::require() {
        return;
    }
    const TABLE: u64 = 1_024;
    const SOURCES: usize = 50_000;
    let network = Network::new("full").unwrap();
    let lab = Lab::new(&network);
    // A packet keeps its source's place for a second.
    let attached = lab.limit(&format!("packets_per_second = 1\nburst = \"1s\"\ntable = {TABLE}"));
    let sources = (10..210).flat_map(|third| (0..250).map(move |fourth| (third, fourth)));
    let frames: Vec<_> = sources
        .map(|(third, fourth)| lab.udp_to(UNHEARD, lab.link().source_v4(third, fourth).into(), 1, SHORT))
        .collect();
    assert_eq!(frames.len(), SOURCES);
    let plan = lab.plan(frames, 25_000, Duration::from_millis(2_500));
    let measured = Measured::floods(&network, &attached, vec![plan]).unwrap();
    let admitted = measured.met(Admitted).packets;
    let refused = measured.met(SourceRate).packets;
    let without_place = measured.counted.events[Event::NoPlace as usize];
    let seconds = measured.time().as_secs() + 1;
    println!("{admitted} admitted, {refused} refused, {without_place} without a place, {seconds} s begun");
    assert!(measured.arrived() > SOURCES as u64 / 2, "the machine sent {} packets", measured.arrived());
    assert_eq!(admitted + refused, measured.arrived());
    assert!(admitted >= TABLE, "the table has {TABLE} places, and {admitted} packets were admitted");
    // Each place lets one packet in a second, and so does the bucket of all that have none.
    assert!(admitted <= (TABLE + 1) * seconds, "{admitted} were admitted in {seconds} s begun");
    assert!(without_place > refused * 9 / 10, "{without_place} of {refused} were counted as without a place");
}
