//! A report as OpenMetrics text.

use super::metrics::{METRICS, Metric, Samples};
use crate::daemon::report::{Histogram, Report};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelValue, LabelValueEncoder, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::registry::Registry;
use std::fmt::{self, Write};
use std::sync::Arc;

/// What [`encode`] makes.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of the report, closed by `# EOF`.
///
/// # Errors
///
/// Where the encoder refuses a sample, which no report is known to cause.
pub(super) fn encode(report: &Arc<Report>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition(report.clone())));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Exposition(Arc<Report>);

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS {
            let encoder =
                encoder.encode_descriptor(metric.stem(), metric.help, metric.unit.as_ref(), metric.kind())?;
            encode_samples(metric, &self.0, encoder)?;
        }
        Ok(())
    }
}

fn encode_samples(metric: &Metric, report: &Report, mut encoder: MetricEncoder<'_>) -> fmt::Result {
    let mut outcome = Ok(());
    let mut attempt = |values: &[&str], write: &dyn Fn(&mut MetricEncoder<'_>) -> fmt::Result| {
        if outcome.is_err() {
            return;
        }
        outcome = if values.is_empty() {
            write(&mut encoder)
        } else {
            encoder.encode_family(&labels(metric, values)).and_then(|mut encoder| write(&mut encoder))
        };
    };
    match metric.samples {
        Samples::Counter(draw) => draw(report, &mut |values, count| {
            attempt(values, &|encoder| encoder.encode_counter::<NoLabelSet, u64, f64>(&count, None));
        }),
        Samples::Gauge(draw) => draw(report, &mut |values, value| {
            if value.is_finite() {
                attempt(values, &|encoder| encoder.encode_gauge(&value));
            }
        }),
        Samples::Histogram(draw) => draw(report, &mut |values, histogram| {
            if histogram.sum().is_finite() {
                attempt(values, &|encoder| encode_histogram(encoder, histogram));
            }
        }),
        // An info's labels are its own, not its family's.
        Samples::Info(draw) => draw(report, &mut |values, ()| {
            attempt(&[], &|encoder| encoder.encode_info(&labels(metric, values)));
        }),
    }
    outcome
}

fn encode_histogram(encoder: &mut MetricEncoder<'_>, histogram: &Histogram) -> fmt::Result {
    let mut buckets: Vec<(f64, u64)> = histogram.buckets().collect();
    // A histogram without bounds has no bucket at all, but the format wants the infinite one.
    if buckets.is_empty() {
        buckets.push((f64::INFINITY, histogram.count()));
    }
    for (bound, _) in &mut buckets {
        // The encoder's word for infinity.
        *bound = bound.min(f64::MAX);
    }
    encoder.encode_histogram::<NoLabelSet>(histogram.sum(), histogram.count(), &buckets, None)
}

fn labels<'a>(metric: &Metric, values: &[&'a str]) -> Vec<(&'static str, Escaped<'a>)> {
    debug_assert_eq!(metric.labels.len(), values.len(), "labels of {}", metric.name);
    metric.labels.iter().copied().zip(values.iter().map(|value| Escaped(value))).collect()
}

/// A label's value as it stands between quotes; the encoder itself escapes nothing, and an interface's name may hold
/// any byte but `/` and white space.
struct Escaped<'a>(&'a str);

impl EncodeLabelValue for Escaped<'_> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => encoder.write_str("\\\\")?,
                '"' => encoder.write_str("\\\"")?,
                '\n' => encoder.write_str("\\n")?,
                other => encoder.write_char(other)?,
            }
        }
        Ok(())
    }
}
