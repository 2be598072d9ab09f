//! The grammar of pushed lines: `<service> <latency> [count]` or `<service> fail [count]`.

use super::inbox::CAPACITY;
use crate::control::Outcome;
use std::str::FromStr;
use std::time::Duration;

/// The longest latency that can be pushed.
const MAX_LATENCY: Duration = Duration::from_secs(3600);

/// One pushed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The service's name, known or not.
    pub(super) service: &'a str,
    /// What was observed of it.
    pub(super) outcome: Outcome,
    /// How often: 1 to [`CAPACITY`].
    pub(super) count: usize,
}

/// Why something that was pushed is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The datagram is longer than 8 KiB.
    Oversized,
    /// The line is not UTF-8.
    NotUtf8,
    /// The line does not follow the grammar.
    Malformed,
    /// The latency is not a number from 0 s to 1 h, or the count none from 1 to 4,096.
    OutOfRange,
    /// No service of this name has a signal of kind `push`.
    UnknownService,
}

impl Refusal {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Refusal; 5] = [
        Refusal::Oversized,
        Refusal::NotUtf8,
        Refusal::Malformed,
        Refusal::OutOfRange,
        Refusal::UnknownService,
    ];

    /// Its name in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Oversized => "oversized",
            Refusal::NotUtf8 => "not_utf8",
            Refusal::Malformed => "malformed",
            Refusal::OutOfRange => "out_of_range",
            Refusal::UnknownService => "unknown_service",
        }
    }
}

/// Reads one line, without its line feed. None: it is blank.
pub(super) fn parse(line: &[u8]) -> Result<Option<Line<'_>>, Refusal> {
    let line = str::from_utf8(line).map_err(|_| Refusal::NotUtf8)?;
    let mut fields = line.split_ascii_whitespace();
    let Some(service) = fields.next() else { return Ok(None) };
    let outcome = match fields.next().ok_or(Refusal::Malformed)? {
        "fail" => Outcome::Failed(Duration::ZERO),
        latency => Outcome::Answered(parse_latency(latency)?),
    };
    let count = fields.next().map_or(Ok(1), parse_count)?;
    if fields.next().is_some() {
        return Err(Refusal::Malformed);
    }
    Ok(Some(Line { service, outcome, count }))
}

/// The service that a line names, whatever else is wrong with it.
pub(super) fn service_of(line: &[u8]) -> Option<&str> {
    str::from_utf8(line).ok()?.split_ascii_whitespace().next()
}

fn parse_latency(field: &str) -> Result<Duration, Refusal> {
    // `s` is the end of the other units as well.
    const UNITS: [(&str, f64); 4] = [("ns", 1e9), ("us", 1e6), ("ms", 1e3), ("s", 1.0)];
    let (number, per_second) = UNITS
        .iter()
        .find_map(|&(unit, per_second)| Some((field.strip_suffix(unit)?, per_second)))
        .unwrap_or((field, 1.0));
    let number = f64::from_str(number).map_err(|_| Refusal::Malformed)?;
    Duration::try_from_secs_f64(number / per_second)
        .ok()
        .filter(|&latency| latency <= MAX_LATENCY)
        .ok_or(Refusal::OutOfRange)
}

fn parse_count(field: &str) -> Result<usize, Refusal> {
    if !field.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::Malformed);
    }
    // What is left to go wrong is that there are too many digits.
    field.parse().ok().filter(|count| (1..=CAPACITY).contains(count)).ok_or(Refusal::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answered(service: &str, nanos: u64, count: usize) -> Result<Option<Line<'_>>, Refusal> {
        Ok(Some(Line { service, outcome: Outcome::Answered(Duration::from_nanos(nanos)), count }))
    }

    #[test]
    fn latencies_have_units_and_are_seconds_without() {
        assert_eq!(parse(b"api 0.0123"), answered("api", 12_300_000, 1));
        assert_eq!(parse(b"api 12.5ms"), answered("api", 12_500_000, 1));
        assert_eq!(parse(b"api 300us"), answered("api", 300_000, 1));
        assert_eq!(parse(b"api 7ns"), answered("api", 7, 1));
        assert_eq!(parse(b"api 2s"), answered("api", 2_000_000_000, 1));
        assert_eq!(parse(b"api 1e-3"), answered("api", 1_000_000, 1));
        assert_eq!(parse(b"api 3600"), answered("api", 3_600_000_000_000, 1));
        assert_eq!(parse(b"api 0"), answered("api", 0, 1));
    }

    #[test]
    fn fields_are_set_apart_by_any_white_space() {
        assert_eq!(parse(b" \tapi \t 1ms  3 \r"), answered("api", 1_000_000, 3));
        assert_eq!(parse(b""), Ok(None));
        assert_eq!(parse(b" \t\r"), Ok(None));
    }

    #[test]
    fn failures_say_how_often_but_not_how_long() {
        let outcome = Outcome::Failed(Duration::ZERO);
        assert_eq!(parse(b"api fail"), Ok(Some(Line { service: "api", outcome, count: 1 })));
        assert_eq!(parse(b"api fail 9"), Ok(Some(Line { service: "api", outcome, count: 9 })));
    }

    #[test]
    fn counts_are_from_one_to_what_an_inbox_holds() {
        assert_eq!(parse(b"api 1s 4096"), answered("api", 1_000_000_000, 4096));
        for count in ["0", "4097", "99999999999999999999999999"] {
            assert_eq!(parse(format!("api 1s {count}").as_bytes()), Err(Refusal::OutOfRange), "{count}");
        }
        for count in ["-1", "+1", "1.0", "x"] {
            assert_eq!(parse(format!("api 1s {count}").as_bytes()), Err(Refusal::Malformed), "{count}");
        }
    }

    #[test]
    fn garbage_is_refused_by_kind() {
        for latency in
            ["nan", "NaNms", "inf", "-inf", "infinity", "-1ms", "-1e-9", "3600.001", "1e300", "1e999"]
        {
            assert_eq!(parse(format!("api {latency}").as_bytes()), Err(Refusal::OutOfRange), "{latency}");
        }
        for line in
            ["api", "api ms", "api s", "api 1m", "api 1 ms", "api 1ms 1 1", "api 0x1", "api Fail", "api 1,5"]
        {
            assert_eq!(parse(line.as_bytes()), Err(Refusal::Malformed), "{line}");
        }
        assert_eq!(parse(b"api \xff1ms"), Err(Refusal::NotUtf8));
    }

    #[test]
    fn every_kind_is_listed_at_its_place() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&line);
        }

        #[test]
        fn no_text_near_the_grammar_makes_it_panic(line in "[a-z]{0,3}[ \t]?[-+0-9.einfaNs]{0,30}[mun]?s?[ ]?[0-9]{0,30}") {
            if let Ok(Some(Line { outcome, count, .. })) = parse(line.as_bytes()) {
                prop_assert!((1..=CAPACITY).contains(&count));
                let (Outcome::Answered(latency) | Outcome::Failed(latency)) = outcome;
                prop_assert!(latency <= MAX_LATENCY);
            }
        }

        #[test]
        fn what_is_written_is_read(
            service in "[a-zA-Z0-9_.-]{1,31}",
            nanos in 0..=3_600_000_000_000u64,
            count in 1..=CAPACITY,
        ) {
            let seconds = format!("{service} {}.{:09} {count}", nanos / 1_000_000_000, nanos % 1_000_000_000);
            let millis = format!("{service} {}.{:06}ms {count}", nanos / 1_000_000, nanos % 1_000_000);
            let micros = format!("{service} {}.{:03}us {count}", nanos / 1_000, nanos % 1_000);
            let whole = format!("{service} {nanos}ns {count}");
            for line in [seconds, millis, micros, whole] {
                prop_assert_eq!(parse(line.as_bytes()), answered(&service, nanos, count), "{}", line);
            }
        }
    }
}
