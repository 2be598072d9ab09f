//! Kinds of values that are flags, words and numbers.

use super::kind::{Scalar, quoted};
use super::suggest::nearest;
use std::fmt;
use std::ops::Bound;
use toml::de::DeValue;

/// `true` or `false`.
pub(super) struct Flag;

impl Scalar for Flag {
    type Value = bool;

    fn convert(&self, value: &DeValue<'_>) -> Result<bool, String> {
        value.as_bool().ok_or_else(|| match value.as_str() {
            Some("true" | "false") => self.wrong(value) + "; write it without the quotes",
            _ => self.wrong(value),
        })
    }

    fn write(&self, value: &bool) -> String {
        value.to_string()
    }

    fn describe(&self) -> String {
        "true or false".into()
    }
}

/// One of some words.
pub(super) struct Word<T: 'static> {
    pub(super) words: &'static [(&'static str, T)],
    /// Words that this build does not know and another may.
    pub(super) foreign: &'static [&'static str],
}

impl<T: Copy + PartialEq + Sync> Word<T> {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.words.iter().map(|(name, _)| *name)
    }
}

impl<T: Copy + PartialEq + Sync> Scalar for Word<T> {
    type Value = T;

    fn convert(&self, value: &DeValue<'_>) -> Result<T, String> {
        let Some(text) = value.as_str() else { return Err(self.wrong(value)) };
        if let Some((_, word)) = self.words.iter().find(|(name, _)| *name == text) {
            return Ok(*word);
        }
        if self.foreign.contains(&text) {
            return Err(format!("\"{text}\" is not in this build: must be {}", self.describe()));
        }
        Err(match nearest(text, self.names()) {
            Some(name) => format!("{}; did you mean \"{name}\"?", self.wrong(value)),
            None => self.wrong(value),
        })
    }

    fn write(&self, value: &T) -> String {
        self.words.iter().find(|(_, word)| word == value).map_or_else(String::new, |(name, _)| quoted(name))
    }

    fn describe(&self) -> String {
        let names: Vec<String> = self.names().map(quoted).collect();
        format!("one of {}", names.join(", "))
    }
}

/// A whole number between two limits, which are allowed.
pub(super) struct Integer<T> {
    pub(super) min: T,
    pub(super) max: T,
    /// What 0 means, where it is allowed besides.
    pub(super) zero: Option<&'static str>,
}

impl<T> Scalar for Integer<T>
where
    T: Copy + Sync + 'static + fmt::Display + Into<i128> + TryFrom<i128>,
{
    type Value = T;

    fn convert(&self, value: &DeValue<'_>) -> Result<T, String> {
        let number = match value {
            DeValue::Integer(digits) => i128::from_str_radix(digits.as_str(), digits.radix()).ok(),
            _ => None,
        };
        number
            .filter(|&number| {
                (self.min.into()..=self.max.into()).contains(&number) || (number == 0 && self.zero.is_some())
            })
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.wrong(value))
    }

    fn write(&self, value: &T) -> String {
        grouped(value)
    }

    fn describe(&self) -> String {
        let range = format!("from {} to {}", grouped(&self.min), grouped(&self.max));
        match self.zero {
            None => format!("a whole number {range}"),
            Some(meaning) => format!("a whole number {range}, or 0 ({meaning})"),
        }
    }
}

/// A power of two between two others, which are allowed.
pub(super) struct PowerOfTwo {
    pub(super) min: u32,
    pub(super) max: u32,
}

impl Scalar for PowerOfTwo {
    type Value = u32;

    fn convert(&self, value: &DeValue<'_>) -> Result<u32, String> {
        let range = Integer { min: self.min, max: self.max, zero: None };
        match range.convert(value) {
            Ok(number) if number.is_power_of_two() => Ok(number),
            Ok(number) => {
                let above = number.next_power_of_two();
                let (above, below) = (grouped(&above), grouped(&(above / 2)));
                Err(format!("{}; {below} and {above} are the nearest", self.wrong(value)))
            }
            Err(_) => Err(self.wrong(value)),
        }
    }

    fn write(&self, value: &u32) -> String {
        grouped(value)
    }

    fn describe(&self) -> String {
        format!("a power of two from {} to {}", grouped(&self.min), grouped(&self.max))
    }
}

/// A number between two limits.
pub(super) struct Real {
    pub(super) min: Bound<f64>,
    pub(super) max: Bound<f64>,
}

impl Scalar for Real {
    type Value = f64;

    fn convert(&self, value: &DeValue<'_>) -> Result<f64, String> {
        let number: Option<f64> = match value {
            DeValue::Float(digits) => digits.as_str().parse().ok(),
            DeValue::Integer(digits) if digits.radix() == 10 => digits.as_str().parse().ok(),
            _ => None,
        };
        number
            .filter(|number| std::ops::RangeBounds::contains(&(self.min, self.max), number))
            .ok_or_else(|| self.wrong(value))
    }

    fn write(&self, value: &f64) -> String {
        format!("{value:?}")
    }

    fn describe(&self) -> String {
        let shown = |bound: f64| if bound.fract() == 0.0 { grouped(&bound) } else { bound.to_string() };
        let min = match self.min {
            Bound::Included(min) => format!(" from {}", shown(min)),
            Bound::Excluded(min) => format!(" above {}", shown(min)),
            Bound::Unbounded => String::new(),
        };
        let max = match (self.min, self.max) {
            (Bound::Included(_), Bound::Included(max)) => format!(" to {}", shown(max)),
            (_, Bound::Included(max)) => format!(" and at most {}", shown(max)),
            (_, Bound::Excluded(max)) => format!(" and below {}", shown(max)),
            (_, Bound::Unbounded) => String::new(),
        };
        format!("a number{min}{max}")
    }
}

/// A number with its digits in groups of three.
fn grouped(number: &impl fmt::Display) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('_');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert<S: Scalar>(kind: &S, text: &str) -> Result<S::Value, String> {
        kind.convert(DeValue::parse(text).expect("the test's value is TOML").get_ref())
    }

    #[test]
    fn integers_keep_to_their_range() {
        let port = Integer { min: 1u16, max: 65535, zero: None };
        assert_eq!(convert(&port, "8_080"), Ok(8080));
        assert_eq!(convert(&port, "0x50"), Ok(80));
        let refusal = "must be a whole number from 1 to 65_535, not 65536".to_owned();
        assert_eq!(convert(&port, "65_536"), Err(refusal));
        for text in ["0", "-1", "1.0", "\"80\"", "99999999999999999999999999999999999999999999"] {
            assert!(convert(&port, text).is_err(), "{text}");
        }
        let rate = Integer { min: 1500u64, max: 10, zero: Some("no limit") };
        assert_eq!(convert(&rate, "0"), Ok(0));
    }

    #[test]
    fn numbers_keep_to_their_bounds() {
        let quantile = Real { min: Bound::Excluded(0.0), max: Bound::Excluded(1.0) };
        assert_eq!(convert(&quantile, "0.99"), Ok(0.99));
        for text in ["0", "1", "0.0", "1.0", "-0.5", "nan", "inf", "-inf", "\"0.5\""] {
            assert!(convert(&quantile, text).is_err(), "{text}");
        }
        let gain = Real { min: Bound::Included(0.0), max: Bound::Included(5.0) };
        assert_eq!(convert(&gain, "5"), Ok(5.0));
        assert_eq!(convert(&gain, "1e-7"), Ok(1e-7));
    }

    #[test]
    fn a_power_of_two_names_its_neighbours() {
        let size = PowerOfTwo { min: 1024, max: 1 << 26 };
        assert_eq!(convert(&size, "2048"), Ok(2048));
        let refusal = convert(&size, "3_000").unwrap_err();
        assert!(refusal.ends_with("2_048 and 4_096 are the nearest"), "{refusal}");
        assert!(convert(&size, "512").is_err());
        assert!(convert(&size, "134_217_728").is_err());
    }

    #[test]
    fn a_word_is_guessed() {
        let words = Word { words: &[("auto", 0), ("native", 1)], foreign: &["offload"] };
        assert_eq!(convert(&words, "'native'"), Ok(1));
        assert!(convert(&words, "'natvie'").unwrap_err().ends_with("did you mean \"native\"?"));
        assert!(convert(&words, "'offload'").unwrap_err().contains("not in this build"));
        assert!(convert(&words, "1").is_err());
    }

    #[test]
    fn messages_stay_short_and_on_one_line() {
        let refusal = convert(&Flag, &format!("\"a\\nb{}\"", "x".repeat(100_000))).unwrap_err();
        assert!(refusal.len() < 200 && !refusal.contains('\n'), "{refusal}");
    }

    #[test]
    fn digits_in_groups() {
        let groups: Vec<String> = [0u64, 999, 1000, 65_535, 1_000_000].iter().map(grouped).collect();
        assert_eq!(groups, ["0", "999", "1_000", "65_535", "1_000_000"]);
    }
}
