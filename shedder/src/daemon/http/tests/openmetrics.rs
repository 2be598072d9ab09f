//! A strict reader of the part of OpenMetrics 1.0 text that the exposition uses.

use std::collections::{BTreeMap, HashSet};

/// Labels by name, without `le`.
pub(super) type Labels = BTreeMap<String, String>;

/// Every sample, by whole name (with suffix) and labels.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    pub(super) families: BTreeMap<String, Family>,
}

#[derive(Debug, Default)]
pub(super) struct Family {
    pub(super) kind: String,
    pub(super) unit: Option<String>,
    pub(super) help: String,
    pub(super) samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: Labels,
    pub(super) le: Option<f64>,
    pub(super) value: f64,
    /// As it stands in the text: a count may exceed what `value` holds exactly.
    pub(super) raw: String,
}

impl Exposition {
    /// Samples of that name whose labels include these.
    pub(super) fn find(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let samples = self.families.values().flat_map(|family| &family.samples);
        samples
            .filter(|sample| sample.name == name)
            .filter(|sample| {
                labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|held| held == value))
            })
            .collect()
    }

    /// The value of the one sample of that name whose labels include these.
    pub(super) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        match self.find(name, labels)[..] {
            [sample] => sample.value,
            ref found => panic!("{} samples of {name} with {labels:?}", found.len()),
        }
    }
}

/// Reads a whole exposition, or says in which line it is wrong and how.
pub(super) fn parse(text: &str) -> Result<Exposition, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("the text does not end with `# EOF` and a line feed")?;
    let mut exposition = Exposition::default();
    let mut current = String::new();
    let mut series = HashSet::new();
    for (number, line) in body.split_terminator('\n').enumerate() {
        let wrong = |what: &str| format!("line {}: {what}: {line}", number + 1);
        if let Some(metadata) = line.strip_prefix("# ") {
            let mut parts = metadata.splitn(3, ' ');
            let (Some(keyword), Some(name), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(wrong("metadata has no three parts"));
            };
            if !is_name(name) {
                return Err(wrong("not a name"));
            }
            if name != current {
                if exposition.families.contains_key(name) {
                    return Err(wrong("a family's lines do not stand together"));
                }
                current = name.to_owned();
            }
            let family = exposition.families.entry(current.clone()).or_default();
            if !family.samples.is_empty() {
                return Err(wrong("metadata after samples"));
            }
            match keyword {
                "TYPE" if family.kind.is_empty() => family.kind = rest.to_owned(),
                "HELP" if family.help.is_empty() => {
                    family.help = unescape(rest).ok_or(wrong("bad escape"))?
                }
                "UNIT" if family.unit.is_none() && name.ends_with(&format!("_{rest}")) => {
                    family.unit = Some(rest.to_owned());
                }
                _ => return Err(wrong("unknown, repeated or misplaced metadata")),
            }
        } else {
            let family = exposition.families.get_mut(&current).ok_or(wrong("a sample of no family"))?;
            let sample = sample(line).map_err(|what| wrong(&what))?;
            check_sample(&current, &family.kind, &sample).map_err(|what| wrong(&what))?;
            if !series.insert(format!("{} {:?} {:?}", sample.name, sample.labels, sample.le)) {
                return Err(wrong("a series for the second time"));
            }
            family.samples.push(sample);
        }
    }
    for (name, family) in &exposition.families {
        if family.kind == "histogram" {
            check_histograms(name, &family.samples)?;
        }
    }
    Ok(exposition)
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What stands between quotes, or in a help text; none where an escape or a bare quote is wrong.
fn unescape(text: &str) -> Option<String> {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '"' => return None,
            '\\' => match characters.next()? {
                'n' => '\n',
                other @ ('\\' | '"') => other,
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}

fn number(text: &str) -> Result<f64, String> {
    let value = match text {
        "+Inf" => f64::INFINITY,
        _ if text.starts_with(|first: char| first.is_ascii_digit() || first == '-') => {
            text.parse().map_err(|_| format!("not a number: {text}"))?
        }
        _ => return Err(format!("not a number: {text}")),
    };
    Ok(value)
}

fn sample(line: &str) -> Result<Sample, String> {
    let name_end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(name_end);
    if !is_name(name) {
        return Err("not a name".to_owned());
    }
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (key, after) = rest.split_once("=\"").ok_or("a label without a quoted value")?;
            let close = closing_quote(after).ok_or("an open quote")?;
            let value = unescape(&after[..close]).ok_or("a bad escape")?;
            if !is_name(key) || key.starts_with("__") {
                return Err(format!("not a label's name: {key}"));
            }
            if labels.insert(key.to_owned(), value).is_some() {
                return Err(format!("label {key} for the second time"));
            }
            rest = &after[close + 1..];
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            rest = rest.strip_prefix(',').ok_or("neither a comma nor a brace after a label")?;
        }
    }
    let raw = rest.strip_prefix(' ').ok_or("no space before the value")?.to_owned();
    let le = labels.remove("le").as_deref().map(number).transpose()?;
    Ok(Sample { name: name.to_owned(), labels, le, value: number(&raw)?, raw })
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at),
            _ => {}
        }
    }
    None
}

fn check_sample(family: &str, kind: &str, sample: &Sample) -> Result<(), String> {
    let suffix = sample.name.strip_prefix(family).ok_or("a sample of another family")?;
    let counts = sample.raw.bytes().all(|byte| byte.is_ascii_digit());
    let fits = match (kind, suffix) {
        ("counter", "_total") | ("histogram", "_count") => counts && sample.le.is_none(),
        ("gauge", "") => sample.value.is_finite() && sample.le.is_none(),
        ("info", "_info") => sample.raw == "1" && sample.le.is_none(),
        ("histogram", "_bucket") => counts && sample.le.is_some_and(|bound| bound > 0.0),
        ("histogram", "_sum") => sample.value.is_finite() && sample.value >= 0.0 && sample.le.is_none(),
        _ => return Err(format!("a {kind} has no sample that ends in `{suffix}`")),
    };
    if fits { Ok(()) } else { Err(format!("a value that no {kind} has")) }
}

fn check_histograms(name: &str, samples: &[Sample]) -> Result<(), String> {
    let mut by_labels: BTreeMap<&Labels, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        by_labels.entry(&sample.labels).or_default().push(sample);
    }
    for (labels, samples) in by_labels {
        let of = |suffix: &'static str| {
            samples.iter().filter(move |sample| sample.name == format!("{name}{suffix}"))
        };
        let buckets: Vec<(f64, f64)> =
            of("_bucket").map(|sample| (sample.le.unwrap_or_default(), sample.value)).collect();
        let ascends = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        if !ascends {
            return Err(format!("the buckets of {name}{labels:?} do not ascend"));
        }
        let (Some(&last), Some(count), Some(_)) = (buckets.last(), of("_count").next(), of("_sum").next())
        else {
            return Err(format!("{name}{labels:?} lacks buckets, a count or a sum"));
        };
        if last != (f64::INFINITY, count.value) {
            return Err(format!("{name}{labels:?} has no infinite bucket that equals its count"));
        }
    }
    Ok(())
}

#[test]
fn the_reader_refuses_what_is_wrong() {
    let head = "# TYPE a counter\n# HELP a Help.\n";
    assert!(parse(&format!("{head}a_total{{x=\"\\\\\\\"\\n\"}} 1\n# EOF\n")).is_ok());
    let histogram =
        "# TYPE h histogram\nh_sum 1.0\nh_count 2\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\n";
    assert!(parse(&format!("{histogram}# EOF\n")).is_ok());
    let wrong = [
        "",
        "# EOF",
        "# EOF\n# EOF\n",
        "a_total 1\n# EOF\n",
        "# TYPE a counter\n# TYPE a counter\n# EOF\n",
        "# TYPE a gauge\n# UNIT a seconds\n# EOF\n",
        "# TYPE a counter\na 1\n# EOF\n",
        "# TYPE a counter\na_total -1\n# EOF\n",
        "# TYPE a counter\na_total 1\na_total 1\n# EOF\n",
        "# TYPE a counter\na_total{x=\"1\",x=\"1\"} 1\n# EOF\n",
        "# TYPE a counter\na_total{x=\"\"\"} 1\n# EOF\n",
        "# TYPE a counter\na_total{x=\"\\x\"} 1\n# EOF\n",
        "# TYPE a counter\na_total{} 1\n# EOF\n",
        "# TYPE a counter\n# TYPE b counter\n# HELP a Help.\n# EOF\n",
        "# TYPE a gauge\na NaN\n# EOF\n",
        "# TYPE a gauge\na +Inf\n# EOF\n",
        "# TYPE a info\na_info 2\n# EOF\n",
        "# TYPE h histogram\nh_sum 1.0\nh_count 2\nh_bucket{le=\"1.0\"} 2\n# EOF\n",
        "# TYPE h histogram\nh_sum 1.0\nh_count 3\nh_bucket{le=\"+Inf\"} 2\n# EOF\n",
        "# TYPE h histogram\nh_sum 1.0\nh_count 1\nh_bucket{le=\"1.0\"} 2\nh_bucket{le=\"+Inf\"} 1\n# EOF\n",
        "# TYPE h histogram\nh_count 0\nh_bucket{le=\"+Inf\"} 0\n# EOF\n",
    ];
    for text in wrong {
        assert!(parse(text).is_err(), "{text}");
    }
}
