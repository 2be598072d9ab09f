//! Durations as text: `"100ms"`, `"1h 30m"`.

use super::kind::{Scalar, quoted};
use std::time::Duration;
use toml::de::DeValue;

/// A duration between two limits, which are allowed.
pub(super) struct Span {
    pub(super) min: Duration,
    pub(super) max: Duration,
}

impl Scalar for Span {
    type Value = Duration;

    fn convert(&self, value: &DeValue<'_>) -> Result<Duration, String> {
        match value {
            DeValue::String(text) => match parse(text) {
                Some(duration) if (self.min..=self.max).contains(&duration) => Ok(duration),
                Some(_) => Err(self.wrong(value)),
                None => Err(self.wrong(value) + "; a duration is a whole number and a unit, as in \"100ms\""),
            },
            DeValue::Integer(number) => {
                let number = number.as_str();
                Err(format!("{}; it needs a unit, as in \"{number}ms\" or \"{number}s\"", self.wrong(value)))
            }
            _ => Err(self.wrong(value)),
        }
    }

    fn write(&self, value: &Duration) -> String {
        quoted(&format(*value))
    }

    fn describe(&self) -> String {
        format!("a duration from \"{}\" to \"{}\"", format(self.min), format(self.max))
    }
}

/// Text that [`parse`] turns into the same duration.
pub(super) fn format(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// The duration that the text says, if it says one.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    // humantime panics where the sum of its parts comes within a second of 2^64 seconds. Within these bounds it is
    // at most six parts of at most 10^10 years: a tenth of that.
    let longest_number = text
        .split(|c: char| !c.is_ascii_digit() && !c.is_whitespace())
        .map(|run| run.bytes().filter(u8::is_ascii_digit).count())
        .max()?;
    if text.len() > 64 || longest_number > 10 {
        return None;
    }
    humantime::parse_duration(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_that_is_a_duration_and_text_that_is_not() {
        assert_eq!(parse("200us"), Some(Duration::from_micros(200)));
        assert_eq!(parse("1h 30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(parse("0"), Some(Duration::ZERO));
        assert_eq!(parse("9999999999s 1000ms"), Some(Duration::from_secs(10_000_000_000)));
        for text in ["", " ", "2", "s", "-1s", "1e3s", "2 parsecs", "18446744073709551615s 1000ms"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse("1844674407 3709551615s 1000ms"), None);
    }

    proptest! {
        #[test]
        fn what_is_formatted_is_parsed_again(nanoseconds in 0..=30u64 * 86_400 * 1_000_000_000) {
            let duration = Duration::from_nanos(nanoseconds);
            prop_assert_eq!(parse(&format(duration)), Some(duration));
        }

        #[test]
        fn nothing_makes_it_panic(text in "[0-9]{0,20}(y|M|w|d|h|m|s|ms|us|ns|\\.| ){0,3}[0-9]{0,20}(s|ms)?") {
            parse(&text);
        }
    }
}
