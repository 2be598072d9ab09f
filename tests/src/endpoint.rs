//! A daemon's endpoint, asked from inside its namespace.

use crate::netns::Namespace;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Where the endpoint of a daemon listens unless configured.
pub const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9477);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: String,
}

/// Asks the endpoint of `namespace` for `path`.
pub fn get(namespace: &Namespace, path: &str) -> Result<Answer> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let text = namespace.run(|| -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&ADDRESS, PATIENCE).context("connecting")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: shedder\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).context("reading the answer")?;
        Ok(text)
    })??;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without an end of its head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    ensure!(!head.to_ascii_lowercase().contains("transfer-encoding"), "an answer in chunks: {head}");
    Ok(Answer { status: status.with_context(|| format!("no status in {head}"))?, body: body.to_owned() })
}

/// Whether a daemon is there and ready.
pub fn is_ready(namespace: &Namespace) -> bool {
    get(namespace, "/readyz").is_ok_and(|answer| answer.status == 200)
}

/// The one sample of `/metrics` with this name and these labels; an error where nobody answers.
///
/// # Panics
/// As [`Metrics::value`].
pub fn metric(namespace: &Namespace, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
    Ok(Metrics::scrape(namespace)?.value(name, labels))
}

/// The metrics of one scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Metrics {
    /// Scrapes the endpoint of `namespace`.
    pub fn scrape(namespace: &Namespace) -> Result<Metrics> {
        let answer = get(namespace, "/metrics")?;
        ensure!(answer.status == 200, "{answer:?}");
        Metrics::parse(&answer.body)
    }

    /// Reads OpenMetrics text in which no value of a label holds a brace, a comma or a quotation mark.
    pub fn parse(text: &str) -> Result<Metrics> {
        let body = text.strip_suffix("# EOF\n").context("the text does not end with # EOF")?;
        let mut samples = BTreeMap::new();
        for line in body.lines().filter(|line| !line.starts_with("# ")) {
            let (series, value) = line.rsplit_once(' ').with_context(|| format!("no value: {line}"))?;
            let value: f64 = value.parse().with_context(|| format!("no number: {line}"))?;
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').context("an open brace")?),
                None => (series, ""),
            };
            let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
                let (name, value) = label.split_once("=\"").with_context(|| format!("no label: {line}"))?;
                let value = value.strip_suffix('"').with_context(|| format!("no end: {line}"))?;
                Ok((name.to_owned(), value.to_owned()))
            });
            let key = (name.to_owned(), labels.collect::<Result<_>>()?);
            ensure!(samples.insert(key, value).is_none(), "twice: {line}");
        }
        Ok(Metrics { samples })
    }

    /// The sum of the samples of this name that have these labels; zero where there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |held: &BTreeMap<String, String>| {
            labels.iter().all(|(name, value)| held.get(*name).is_some_and(|held| held == value))
        };
        let found = self.samples.iter().filter(|((held, of), _)| held == name && has(of));
        found.map(|(_, value)| value).sum()
    }

    /// The one sample of this name that has these labels.
    ///
    /// # Panics
    /// Where there is none, or more than one.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |held: &BTreeMap<String, String>| {
            labels.iter().all(|(name, value)| held.get(*name).is_some_and(|held| held == value))
        };
        let mut found = self.samples.iter().filter(|((held, of), _)| held == name && has(of));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => *value,
            (None, _) => panic!("no sample of {name} has {labels:?}"),
            (Some(_), Some(_)) => panic!("more than one sample of {name} has {labels:?}"),
        }
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

/// Scrapes until `condition` holds, and returns that scrape.
///
/// # Panics
/// Where it does not hold within 30 s, with what was last scraped.
pub fn until(namespace: &Namespace, what: &str, condition: impl Fn(&Metrics) -> bool) -> Metrics {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let metrics = Metrics::scrape(namespace).expect("the endpoint answers");
        if condition(&metrics) {
            return metrics;
        }
        assert!(Instant::now() < deadline, "not within 30 s: {what}: {metrics:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let text = "# TYPE a counter\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"3\"} 4\nb 5\n# EOF\n";
        let metrics = Metrics::parse(text).unwrap();
        assert_eq!(metrics.len(), 3);
        assert_eq!(metrics.sum("a_total", &[("x", "1")]), 7.0);
        assert_eq!(metrics.value("a_total", &[("y", "3")]), 4.0);
        assert_eq!(metrics.value("b", &[]), 5.0);
        assert_eq!(metrics.sum("c", &[]), 0.0);
        for wrong in ["b 5\n", "b\n# EOF\n", "b x\n# EOF\n", "b 1\nb 2\n# EOF\n", "b{x} 1\n# EOF\n"] {
            assert!(Metrics::parse(wrong).is_err(), "{wrong}");
        }
    }
}
