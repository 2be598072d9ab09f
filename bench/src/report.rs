//! Writes down what was measured.

mod plot;
mod table;

use crate::results::Results;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Writes the document, and the plots and raw data into a folder beside it of the same name.
pub(crate) fn write(results: &Results, document: &Path) -> Result<()> {
    let folder = document.with_extension("");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let put = |path: &Path, text: String| {
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    };
    put(document, table::document(results, &name))?;
    put(&folder.join("raw.json"), serde_json::to_string(results).context("encoding the raw data")?)?;
    let plots = [
        ("floods.svg", plot::floods(results)?),
        ("decisions.svg", plot::decisions(results)?),
        ("kills.svg", plot::kills(results)?),
    ];
    plots.into_iter().try_for_each(|(name, plot)| plot.map_or(Ok(()), |plot| put(&folder.join(name), plot)))
}
