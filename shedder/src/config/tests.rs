//! The file as a whole: what it accepts, what it refuses, that it comes back as it went in, and its reference.

use super::any::any_text;
use super::arbitrary::config;
use super::keys::catalogue;
use super::*;
use proptest::prelude::*;
use shedder_common::class::Class;
use std::fmt::Write;
use std::time::Duration;

const EXAMPLE: &str = include_str!("../../../docs/example.toml");

/// The example that the design promises to work as it stands.
const DESIGN: &str = r#"
interfaces = ["eth0"]
mode = "auto"                       # auto | native | generic
dry_run = false
posture = "open"                    # open | hold | closed
lease = "2s"

[source]                            # every source's buckets; absent or 0: no limit
packets_per_second = 10_000
bytes_per_second = 50_000_000
new_flows_per_second = 200
burst = "100ms"                     # how much of each rate may come at once
ipv6_prefix = 64

[newcomers]                         # all sources not proven, together
packets_per_second = 50_000
proven_for = "1h"

[[lifeline]]
peers = ["192.0.2.0/24", "2001:db8::/32"]
ports = [22]                        # absent: every port

[[rule]]                            # the longest prefix wins
sources = ["203.0.113.0/24"]
class = "critical"                  # critical | high | normal | low | background | sheddable
packets_per_second = 100_000        # in place of [source]'s

[[rule]]
sources = ["198.51.100.0/24"]
deny = true

[[service]]
name = "api"
protocol = "tcp"                    # tcp | udp
port = 8080
class = "normal"                    # of a source that no rule names
target = "50ms"
quantile = 0.99
shed = "new-flows"                  # new-flows | packets
signal = { kind = "probe", url = "http://127.0.0.1:8080/" }   # passive | probe | prometheus | push

[control]
interval = "20ms"
kp = 0.4                            # gains: the defaults are the ones that the lab found best
admission_floor = 0.02

[endpoint]
listen = "127.0.0.1:9477"
"#;

#[track_caller]
fn valid(text: &str) -> Config {
    parse(text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
}

#[track_caller]
fn mistakes(text: &str) -> Vec<Mistake> {
    parse(text).expect_err("it should be refused")
}

/// That `text` has exactly one mistake: at the path, with these words in its message.
#[track_caller]
fn assert_mistake(text: &str, path: &str, words: &str) -> Mistake {
    let mut mistakes = mistakes(text);
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    let mistake = mistakes.remove(0);
    assert_eq!(mistake.path, path, "{mistake}");
    assert!(mistake.message.contains(words), "{mistake}");
    mistake
}

/// A service whose other keys are right.
fn service(rest: &str) -> String {
    format!("[[service]]\nname = \"api\"\nprotocol = \"tcp\"\nport = 80\n{rest}\n")
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(valid(""), Config::default());
    assert_eq!(valid("\n# nothing\n[source]\n[newcomers]\n[control]\n[endpoint]\n"), Config::default());
}

#[test]
fn the_example_of_the_design_says_what_it_seems_to_say() {
    let expected = Config {
        interfaces: vec!["eth0".into()],
        source: Source {
            rates: Rates {
                packets_per_second: 10_000,
                bytes_per_second: 50_000_000,
                new_flows_per_second: 200,
            },
            ..Config::default().source
        },
        newcomers: Newcomers { packets_per_second: 50_000, proven_for: Duration::from_secs(3600) },
        lifelines: vec![Lifeline {
            peers: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            ports: vec![22],
        }],
        rules: vec![
            Rule {
                sources: vec!["203.0.113.0/24".parse().unwrap()],
                class: Some(Class::Critical),
                packets_per_second: Some(100_000),
                ..Rule::default()
            },
            Rule { sources: vec!["198.51.100.0/24".parse().unwrap()], deny: true, ..Rule::default() },
        ],
        services: vec![Service {
            signal: Signal::Probe {
                target: ProbeTarget::Http {
                    address: "127.0.0.1:8080".parse().unwrap(),
                    host: "127.0.0.1:8080".into(),
                    path: "/".into(),
                },
                every: Duration::from_millis(20),
                timeout: Duration::from_secs(1),
            },
            ..Service::new("api", Protocol::Tcp, 8080)
        }],
        control: Control { kp: 0.4, ..Control::default() },
        ..Config::default()
    };
    assert_eq!(valid(DESIGN), expected);
}

#[test]
fn the_example_in_the_documentation_is_valid() {
    let config = valid(EXAMPLE);
    assert_eq!(config.services.len(), 3);
    assert_eq!(valid(&config.to_toml()), config);
}

#[test]
fn a_probe_waits_ten_targets_within_a_second_and_a_minute() {
    let timeout = |target: &str| {
        let signal = "signal = { kind = \"probe\", url = \"tcp://127.0.0.1:1\" }";
        match valid(&service(&format!("target = \"{target}\"\n{signal}"))).services.remove(0).signal {
            Signal::Probe { timeout, .. } => timeout,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(timeout("100us"), Duration::from_secs(1));
    assert_eq!(timeout("250ms"), Duration::from_millis(2500));
    assert_eq!(timeout("30s"), Duration::from_secs(60));
}

#[test]
fn the_signal_may_be_a_table_of_its_own() {
    let inline = valid(&service("signal = { kind = \"push\" }"));
    let table = valid(&service("[service.signal]\nkind = \"push\""));
    let dotted = valid(&service("signal.kind = \"push\""));
    assert_eq!(inline.services[0].signal, Signal::Push);
    assert_eq!(inline, table);
    assert_eq!(inline, dotted);
    assert_eq!(valid(&service("")).services[0].signal, Signal::Passive { since: Since::FirstByte });
}

#[test]
fn a_mistake_is_located_in_characters() {
    let mistake =
        assert_mistake("\n interfaces = [\"é\", \"a/b\"]", "interfaces[1]", "the name of an interface");
    assert_eq!((mistake.line, mistake.column), (2, 21));
    assert_eq!(mistake.to_string(), format!("2:21: interfaces[1]: {}", mistake.message));
}

#[test]
fn keys_that_are_wrong_by_themselves() {
    for (text, path, words) in [
        ("mode = \"natvie\"", "mode", "did you mean \"native\"?"),
        ("lease = 2", "lease", "\"2s\""),
        ("lease = \"99ms\"", "lease", "from \"100ms\" to \"1m\", not \"99ms\""),
        ("dry_run = \"true\"", "dry_run", "without the quotes"),
        ("cohort_rotation = \"59s\"", "cohort_rotation", "from \"1m\" to \"1day\""),
        ("interfaces = \"eth0\"", "interfaces", "must be a list"),
        ("interfaces = [\"a\", \"b\", \"a\"]", "interfaces[2]", "interfaces[0]"),
        ("interfaces = [[\"a\"]]", "interfaces[0]", "not a list"),
        ("source = 5", "source", "write [source]"),
        ("[[source]]", "source", "write [source]"),
        ("[lifeline]\nports = [1]", "lifeline", "write [[lifeline]]"),
        ("rule = [1]", "rule[0]", "write [[rule]]"),
        ("[source]\npackets_per_second = 1_000_000_001", "source.packets_per_second", "1_000_000_000, or 0"),
        ("[source]\nbytes_per_second = 1499", "source.bytes_per_second", "from 1_500 to 1_000_000_000_000"),
        ("[source]\nipv6_prefix = 15", "source.ipv6_prefix", "from 16 to 128"),
        ("[source]\ntable = 1_000_000", "source.table", "524_288 and 1_048_576"),
        ("[newcomers]\nproven_for = \"31days\"", "newcomers.proven_for", "\"30days\""),
        ("[control]\nkp = -0.1", "control.kp", "from 0 to 1_000_000"),
        ("[control]\nki = nan", "control.ki", "not nan"),
        ("[control]\nslew_up = 0", "control.slew_up", "above 0"),
        ("[control]\nadmission_floor = 0.0", "control.admission_floor", "from 0.001 to 1"),
        ("[endpoint]\nlisten = 9477", "endpoint.listen", "an IP address and a port"),
        ("[[lifeline]]\npeers = []", "lifeline[0].peers", "is empty"),
        ("[[lifeline]]\npeers = [\"10.0.0.0/8\"]\nports = []", "lifeline[0].ports", "is empty"),
        ("[[lifeline]]\npeers = [\"10.0.0.0/8\"]\nports = [22, 22]", "lifeline[0].ports[1]", "the same as"),
        ("[[lifeline]]\nports = [22]", "lifeline[0].peers", "is missing"),
        ("[[rule]]\nsources = [\"10.0.0.1/8\"]\ndeny = true", "rule[0].sources[0]", "\"10.0.0.0/8\""),
        ("[[rule]]\ndeny = true", "rule[0].sources", "is missing"),
        ("[[rule]]\nsources = [\"::/0\"]", "rule[0]", "says nothing"),
    ] {
        assert_mistake(text, path, words);
    }
    for (rest, path, words) in [
        ("quantile = 1", "service[0].quantile", "above 0 and below 1"),
        ("target = \"99us\"", "service[0].target", "\"100us\""),
        ("class = \"urgent\"", "service[0].class", "\"critical\", \"high\""),
        ("signal = \"push\"", "service[0].signal", "signal = { kind"),
        ("signal = {}", "service[0].signal.kind", "is missing"),
        ("signal.url = \"tcp://127.0.0.1:1\"", "service[0].signal.kind", "is missing"),
        (
            "signal = { kind = \"prometheus\" }",
            "service[0].signal.kind",
            "one of \"passive\", \"probe\", \"push\"",
        ),
        ("signal = { kind = \"prometheus\" }", "service[0].signal.kind", "not in this build"),
        ("signal = { kind = \"probe\" }", "service[0].signal.url", "is missing"),
        ("signal = { kind = \"push\", every = \"1s\" }", "service[0].signal.every", "\"probe\" only"),
        ("signal = { kind = \"probe\", url = \"https://127.0.0.1/\" }", "service[0].signal.url", "tcp://"),
        ("signal = { kind = \"probe\", url = \"http://api/\" }", "service[0].signal.url", "resolver"),
    ] {
        let mistake = assert_mistake(&service(rest), path, words);
        assert!(mistake.line >= 4 || words == "is missing", "{mistake}");
    }
}

#[test]
fn keys_that_nobody_knows() {
    for (text, path, words) in [
        ("interface = []", "interface", "did you mean \"interfaces\"?"),
        ("[sources]", "sources", "did you mean \"source\"?"),
        ("colour = 1", "colour", "known are interfaces, mode"),
        ("kp = 1", "kp", "it belongs to [control]"),
        ("\"a b\" = 1", "\"a b\"", "no key"),
        ("[control]\nburst = \"1s\"", "control.burst", "it belongs to [source]"),
        ("[control.pid]\nkp = 1", "control.pid", "no key"),
    ] {
        assert_mistake(text, path, words);
    }
    let url_outside = service("url = \"tcp://127.0.0.1:1\"");
    assert_mistake(&url_outside, "service[0].url", "a service's `signal`");
    assert_mistake(&service("breaker = { failures = 3 }"), "service[0].breaker", "no key");
}

#[test]
fn text_that_is_not_toml() {
    for (text, line) in
        [("lease = \"2s", 1), ("\nmode = auto", 2), ("a b", 1), ("lease = \"2s\"\nlease = \"3s\"", 2)]
    {
        let found = mistakes(text);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!((found[0].line, found[0].path.as_str()), (line, ""));
        assert!(found[0].message.starts_with("is not TOML: "), "{}", found[0]);
    }
}

#[test]
fn a_broken_line_hides_no_other() {
    let found = mistakes("mode = 1\nlease =\n[control]\nkp = true\n[[service]]\nname = \"\"");
    let shown: Vec<_> = found.iter().map(|mistake| (mistake.line, mistake.path.as_str())).collect();
    assert_eq!(shown, [(1, "mode"), (2, ""), (4, "control.kp"), (6, "service[0].name")]);
}

#[test]
fn times_that_contradict_each_other() {
    assert_mistake("lease = \"100ms\"\n[control]\ninterval = \"21ms\"", "lease", "\"105ms\" is enough");
    assert_mistake("[control]\ninterval = \"500ms\"\nwindow = \"1s\"", "control.interval", "the lease is 2s");
    let narrow = "[control]\ninterval = \"201ms\"\nwindow = \"200ms\"";
    assert_mistake(narrow, "control.window", "the window is 200ms");
    assert_eq!(valid("[control]\ninterval = \"201ms\"").control.window, Duration::from_millis(201));
    valid("lease = \"100ms\"\n[control]\ninterval = \"20ms\"\nwindow = \"20ms\"");

    let probe = |rest: &str| {
        service(&format!(
            "target = \"1s\"\nsignal = {{ kind = \"probe\", url = \"tcp://127.0.0.1:1\", {rest} }}"
        ))
    };
    assert_mistake(
        &probe("timeout = \"999ms\""),
        "service[0].signal.timeout",
        "at least the service's target",
    );
    valid(&probe("timeout = \"1s\""));
    let with_window = |rest: &str| format!("{}[control]\nwindow = \"200ms\"\n", probe(rest));
    assert_mistake(&with_window("every = \"67ms\""), "service[0].signal.every", "never be a signal");
    valid(&with_window("every = \"66ms\""));
    let many = format!("{}min_samples = 11", with_window(""));
    assert_mistake(&many, "control.window", "never be a signal");
    // Where the window is left out it fits.
    assert_eq!(valid(&probe("every = \"1s\"")).control.window, Duration::from_secs(4));
}

#[test]
fn services_that_are_one() {
    let two = |second: &str| format!("{}{second}", service(""));
    let udp = "[[service]]\nname = \"b\"\nprotocol = \"udp\"\nport = 80\n";
    valid(&two(udp));
    assert_mistake(&two(&udp.replace("udp", "tcp")), "service[1].port", "service[0]");
    assert_mistake(&two(&udp.replace("\"b\"", "\"api\"")), "service[1].name", "service[0]");
}

#[test]
fn more_than_there_is_room_for() {
    let interfaces = |count| {
        let names: Vec<String> = (0..count).map(|i| format!("\"eth{i}\"")).collect();
        format!("interfaces = [{}]", names.join(", "))
    };
    valid(&interfaces(64));
    assert_mistake(&interfaces(65), "interfaces", "at most 64");

    let services = |count| {
        (1..=count).fold(String::new(), |mut text, i| {
            write!(text, "[[service]]\nname = \"s{i}\"\nprotocol = \"tcp\"\nport = {i}\n").unwrap();
            text
        })
    };
    assert_eq!(valid(&services(256)).services.len(), 256);
    assert_mistake(&services(257), "service[256]", "room for 256");

    let lengths = |count| {
        let sources: Vec<String> = (0..count).map(|length| format!("\"::/{length}\"")).collect();
        let peers = "[[lifeline]]\npeers = [\"2001:db8::/127\", \"192.0.2.0/24\"]\n";
        format!("{peers}[[rule]]\nsources = [{}]\nclass = \"low\"", sources.join(", "))
    };
    valid(&lengths(32));
    assert_mistake(&lengths(34), "rule[0].sources[32]", "one prefix length too many");
}

#[test]
fn lifelines_that_overlap() {
    let lifeline = |peer: &str, first: u16, count: u16| {
        let ports: Vec<String> = (first..first + count).map(|port| port.to_string()).collect();
        format!("[[lifeline]]\npeers = [\"{peer}\"]\nports = [{}]\n", ports.join(", "))
    };
    let apart = lifeline("192.0.2.0/25", 1, 16) + &lifeline("192.0.2.128/25", 101, 16);
    valid(&apart);
    let same_ports = lifeline("192.0.2.0/24", 1, 16) + &lifeline("192.0.2.1", 1, 16);
    valid(&same_ports);
    let nested = lifeline("192.0.2.0/24", 1, 16) + &lifeline("192.0.2.1", 17, 1);
    assert_mistake(&nested, "lifeline[1].peers[0]", "192.0.2.1/32 has 17 ports");
    valid(&(nested + "[[lifeline]]\npeers = [\"192.0.0.0/16\"]"));
    let twice = lifeline("192.0.2.0/24", 1, 16) + &lifeline("192.0.2.0/24", 17, 1);
    assert_mistake(&twice, "lifeline[0].peers[0]", "17 ports");
    assert_mistake(&lifeline("192.0.2.0/24", 1, 17), "lifeline[0].ports", "1 to 16 ports");
}

#[test]
fn lifelines_for_everybody() {
    assert_mistake("[[lifeline]]\npeers = [\"0.0.0.0/0\"]", "lifeline[0].peers[0]", "no kill could stop");
    assert_mistake("[[lifeline]]\npeers = [\"10.0.0.1\", \"::/0\"]", "lifeline[0].peers[1]", "everybody");
    let ssh = "[[lifeline]]\npeers = [\"0.0.0.0/0\"]\nports = [22]\n".to_owned();
    valid(&(ssh.clone() + &service("")));
    let of_service = ssh.replace("22", "22, 80") + &service("");
    assert_mistake(&of_service, "lifeline[0].peers[0]", "service[0]");
}

#[test]
fn ports_that_are_wrong_are_not_every_port() {
    let denied =
        "[[rule]]\nsources = [\"10.0.0.1\"]\ndeny = true\n[[lifeline]]\npeers = [\"0.0.0.0/0\"]\n".to_owned();
    for (ports, path) in [
        ("ports = [0]", "lifeline[0].ports[0]"),
        ("ports = []", "lifeline[0].ports"),
        ("ports = 22", "lifeline[0].ports"),
        ("ports =", ""),
        ("ports [22]", ""),
    ] {
        assert_mistake(&(denied.clone() + ports), path, "");
    }
}

#[test]
fn rules_that_contradict_something() {
    let rule = |source: &str| format!("[[rule]]\nsources = [\"{source}\"]\ndeny = true\n");
    let twice = rule("10.0.0.0/8") + &rule("10.0.0.0/8").replace("deny = true", "class = \"low\"");
    assert_mistake(&twice, "rule[1].sources[0]", "rule[0]");
    valid(&(rule("10.0.0.0/8") + &rule("10.0.0.0/9")));
    valid("[[rule]]\nsources = [\"10.0.0.0/8\"]\ndeny = false");

    let lifeline = "[[lifeline]]\npeers = [\"192.0.2.0/24\"]\n".to_owned();
    assert_mistake(&(lifeline.clone() + &rule("192.0.2.0/24")), "rule[0].sources[0]", "lifelines win");
    assert_mistake(&(lifeline.clone() + &rule("192.0.2.7")), "rule[0].sources[0]", "192.0.2.0/24");
    valid(&(lifeline.clone() + &rule("0.0.0.0/0")));
    valid(&(lifeline.clone() + "ports = [22]\n" + &rule("192.0.2.7")));
    valid(&(lifeline + &rule("192.0.2.7").replace("deny = true", "class = \"low\"")));
}

/// A line of a file that is right, and one in its place that is wrong.
const LINES: &[(&str, &str)] = &[
    ("interfaces = [\"eth0\"]", "interfaces = [\"eth0\", \"eth0\"]"),
    ("mode = \"auto\"", "mode = \"fast\""),
    ("dry_run = false", "dry-run = false"),
    ("lease = \"2s\"", "lease = \"2h\""),
    ("# no comment", "no [comment]"),
    ("[source]", "[source]"),
    ("packets_per_second = 10", "packets_per_second = 10.5"),
    ("burst = \"1s\"", "burst = 1s"),
    ("table = 1024", "table = 1025"),
    ("[newcomers]", "[newcomers]"),
    ("proven_for = \"1h\"", "proven_for = \"1 fortnight\""),
    ("[[lifeline]]", "[[lifeline]]"),
    ("peers = [\"192.0.2.0/24\"]", "peers = [\"192.0.2.1/24\"]"),
    ("ports = [22]", "ports = [0]"),
    ("[[rule]]", "[[rule]]"),
    ("sources = [\"198.51.100.0/24\"]", "sources = \"198.51.100.0/24\""),
    ("class = \"low\"", "class = \"lowest\""),
    ("bytes_per_second = 0", "bytes_per_second = 1"),
    ("[[service]]", "[[service]]"),
    ("name = \"api\"", "name = \"\""),
    ("protocol = \"tcp\"", "protocol = \"sctp\""),
    ("port = 80", "port = 80000"),
    ("quantile = 0.5", "quantile = 50"),
    ("signal = { kind = \"push\" }", "signal = { kind = \"push\", timeout = \"1s\" }"),
    ("[control]", "[control]"),
    ("kd = 0.1", "kd = \"0.1\""),
    ("hold = \"1s\"", "hold ="),
    ("[endpoint]", "[endpoint]"),
    ("listen = \"none\"", "listen = \"\""),
];

/// The rows of the reference's table for the section with that header.
fn rows(header: &str) -> Vec<Vec<String>> {
    let plain = |text: &str| text.replace('`', "").to_lowercase();
    let reference = reference();
    let section = reference
        .split("\n## ")
        .find(|section| plain(section.lines().next().unwrap_or_default()) == plain(header))
        .unwrap_or_else(|| panic!("{header} is not in the reference"));
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches(['|', ' ']).split(" | ").map(str::to_owned).collect()).collect()
}

/// What the reference says of each key of the section that has a default, as TOML.
fn defaults(header: &str) -> String {
    rows(header).into_iter().fold(String::new(), |mut text, row| {
        if let Some(default) = row[2].strip_prefix('`').and_then(|default| default.strip_suffix('`')) {
            writeln!(text, "{} = {default}", row[0].trim_matches('`')).unwrap();
        }
        text
    })
}

#[test]
fn documented_defaults_are_the_defaults() {
    let mut whole = defaults("the top of the file");
    for header in ["[source]", "[newcomers]", "[control]", "[endpoint]"] {
        write!(whole, "{header}\n{}", defaults(header)).unwrap();
    }
    assert_eq!(whole.lines().count(), 7 + 1 + 6 + 1 + 2 + 1 + 12 + 1 + 2);
    assert_eq!(valid(&whole), Config::default());

    assert_eq!(defaults("[[lifeline]]"), "");
    assert_eq!(defaults("[[rule]]"), "deny = false\n");
    assert!(!Rule::default().deny);

    let of_service = defaults("[[service]]");
    assert_eq!(of_service.lines().count(), 4);
    assert_eq!(valid(&service(&of_service)).services, [Service::new("api", Protocol::Tcp, 80)]);

    // Each default goes with one kind.
    let of_signal = defaults("a service's `signal`");
    let [since, every] = of_signal.lines().collect::<Vec<_>>()[..] else { panic!("{of_signal}") };
    let probe = "kind = \"probe\"\nurl = \"tcp://127.0.0.1:1\"";
    for (signal, default) in [("kind = \"passive\"", since), (probe, every)] {
        let signal = service(&format!("[service.signal]\n{signal}\n"));
        assert_eq!(valid(&format!("{signal}{default}\n")), valid(&signal));
    }
}

#[test]
fn every_known_key_is_documented() {
    for (header, names) in catalogue() {
        let rows = rows(header);
        for name in names {
            let has_row = rows.iter().any(|row| row.len() == 4 && row[0] == format!("`{name}`"));
            let has_section = catalogue().iter().any(|(header, _)| header.contains(name));
            assert!(has_row || has_section, "{header}: {name}");
        }
    }
}

#[test]
fn config_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    if std::env::var_os("SHEDDER_BLESS").is_some() {
        std::fs::write(path, reference()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/configuration.md is not what the keys say: SHEDDER_BLESS=1 cargo test -p shedder config_reference"
    );
}

/// One change to a text, at places that need not be between characters.
#[derive(Clone, Debug)]
enum Mutation {
    Insert(usize, String),
    Delete(usize, usize),
    DoubleLine(usize),
    DeleteLine(usize),
    SwapLines(usize, usize),
}

impl Mutation {
    fn apply(&self, text: &mut String) {
        let boundary = |text: &str, at: usize| text.floor_char_boundary(at % (text.len() + 1));
        let mut lines: Vec<&str> = text.split('\n').collect();
        let count = lines.len();
        match self {
            Mutation::Insert(at, inserted) => {
                let at = boundary(text, *at);
                text.insert_str(at, inserted);
                return;
            }
            Mutation::Delete(at, length) => {
                let start = boundary(text, *at);
                let end = text.floor_char_boundary((start + length).min(text.len()));
                text.replace_range(start..end.max(start), "");
                return;
            }
            Mutation::DoubleLine(line) => lines.insert(line % count, lines[line % count]),
            Mutation::DeleteLine(line) => {
                lines.remove(line % count);
            }
            Mutation::SwapLines(one, other) => lines.swap(one % count, other % count),
        }
        *text = lines.join("\n");
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = 0..100_000usize;
    prop_oneof![
        (at.clone(), "[\\[\\]{}=.,\"'#\n0-9a-f_-]{1,4}").prop_map(|(at, text)| Mutation::Insert(at, text)),
        (at.clone(), any::<String>()).prop_map(|(at, text)| Mutation::Insert(at, text)),
        (at.clone(), 1..20usize).prop_map(|(at, length)| Mutation::Delete(at, length)),
        at.clone().prop_map(Mutation::DoubleLine),
        at.clone().prop_map(Mutation::DeleteLine),
        (at.clone(), at).prop_map(|(one, other)| Mutation::SwapLines(one, other)),
    ]
}

#[test]
fn every_text_that_the_fuzzer_kept_is_judged() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/config");
    let texts = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let texts: Vec<String> = texts.filter_map(|bytes| String::from_utf8(bytes).ok()).collect();
    assert!(texts.len() > 20, "the corpus is there");
    texts.iter().for_each(|text| any_text(text));
}

proptest! {
    #[test]
    fn what_is_printed_is_the_same_configuration(config in config()) {
        let text = config.to_toml();
        let again = parse(&text);
        prop_assert_eq!(again.as_ref(), Ok(&config), "{}", text);
    }

    #[test]
    fn any_text_is_judged(text in any::<String>()) {
        any_text(&text);
    }

    #[test]
    fn any_text_of_tokens_is_judged(text in "([\\[\\]{}=.,\"'#\n ]|rule|service|signal|kp|1|true|\"1s\"){0,40}") {
        any_text(&text);
    }

    #[test]
    fn a_file_with_changes_is_judged(config in config(), mutations in proptest::collection::vec(mutation(), 1..6)) {
        let mut text = config.to_toml();
        for mutation in mutations {
            mutation.apply(&mut text);
        }
        any_text(&text);
    }

    #[test]
    fn every_wrong_line_is_named(wrong in any::<u32>()) {
        let is_wrong = |index: usize| wrong >> index & 1 == 1 && LINES[index].0 != LINES[index].1;
        let lines: Vec<&str> = LINES
            .iter()
            .enumerate()
            .map(|(index, (right, wrong))| if is_wrong(index) { *wrong } else { *right })
            .collect();
        let expected: Vec<usize> = (0..LINES.len()).filter(|&index| is_wrong(index)).map(|index| index + 1).collect();
        let found: Vec<usize> =
            parse(&lines.join("\n")).err().unwrap_or_default().iter().map(|mistake| mistake.line).collect();
        prop_assert_eq!(found, expected, "{}", lines.join("\n"));
    }
}
