//! Completions and manual pages, from the one definition of the command line.

use super::{Cli, Exit, print};
use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::Path;

/// Prints completions.
pub(super) fn completions(shell: Shell) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "shedder", &mut script);
    print(&String::from_utf8(script).context("the completions are not text")?);
    Ok(Exit::Done)
}

/// Prints the manual page, or writes one for each command.
pub(super) fn manual(directory: Option<&Path>) -> Result<Exit> {
    match directory {
        Some(directory) => {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
            clap_mangen::generate_to(Cli::command(), directory)
                .with_context(|| format!("cannot write manual pages into {}", directory.display()))?;
            print(&format!("a page for every command was written into {}\n", directory.display()));
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            print(&String::from_utf8(page).context("the manual page is not text")?);
        }
    }
    Ok(Exit::Done)
}
