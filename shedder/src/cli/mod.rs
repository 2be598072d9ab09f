//! The command line: from arguments to one outcome and an exit code.

mod args;
mod attach;
mod kill;
mod override_;
mod paper;
mod scope;
mod status;

pub use args::Cli;

use crate::config::{Config, LoadError};
use crate::datapath::{NotAttached, Pins};
use anyhow::Result;
use args::{Attachment, Command};
use clap::Parser;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done and verified.
    Done = 0,
    /// Failed; what was in force stays in force.
    Failed = 1,
    /// The arguments or the configuration are wrong.
    Usage = 2,
    /// Nothing of shedder is attached.
    NotAttached = 3,
    /// Written, but the kernel does not act on it.
    NotObeyed = 4,
}

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { Exit::Done as u8 });
        }
    };
    match execute(&cli) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            let exit = if error.is::<NotAttached>() {
                Exit::NotAttached
            } else if error.is::<LoadError>() {
                Exit::Usage
            } else {
                Exit::Failed
            };
            if cli.common.json {
                print_json(&serde_json::json!({ "error": format!("{error:#}") }));
            }
            eprintln!("shedder: {error:#}");
            ExitCode::from(exit as u8)
        }
    }
}

fn execute(cli: &Cli) -> Result<Exit> {
    let pins = Pins::new(&cli.common.bpffs);
    let json = cli.common.json;
    match &cli.command {
        // The switch comes first, and does nothing before its word is written.
        Command::Kill { scope, lasting, total } => kill::kill(&pins, scope, *lasting, *total, json),
        Command::Resume { scope } => kill::resume(&pins, scope, json),
        Command::Shed { percent, lasting, service } => {
            override_::shed(&pins, *percent, *lasting, service.as_deref(), json)
        }
        Command::Auto { service } => override_::auto(&pins, service.as_deref(), json),
        Command::Status => status::status(&pins, json),
        Command::Run(attachment) => {
            log_to_stderr(cli.common.verbose, json);
            crate::daemon::run(pins, configuration(attachment)?, config_source(attachment))
                .map(|()| Exit::Done)
        }
        Command::Attach(attachment) => {
            log_to_stderr(cli.common.verbose, json);
            attach::attach(&pins, &configuration(attachment)?, json)
        }
        Command::Detach { interface } => attach::detach(&pins, interface, json),
        Command::Check { file } => check(file, json),
        Command::Completions { shell } => paper::completions(*shell),
        Command::Man { directory } => paper::manual(directory.as_deref()),
    }
}

/// The configuration that the arguments give: the file's, with their own on top.
fn configuration(attachment: &Attachment) -> Result<Config> {
    Ok(config_source(attachment).load()?)
}

/// Where a daemon's configuration comes from, to be read again at a reload.
fn config_source(attachment: &Attachment) -> crate::daemon::ConfigSource {
    crate::daemon::ConfigSource {
        file: attachment.config.clone(),
        interfaces: attachment.interface.clone(),
        dry_run: attachment.dry_run,
    }
}

fn check(file: &Path, json: bool) -> Result<Exit> {
    let config = crate::config::load(file)?;
    if json {
        print_json(&serde_json::json!({ "valid": true, "effective": config.to_toml() }));
    } else {
        print(&format!("# {} is valid. With every default:\n{}", file.display(), config.to_toml()));
    }
    Ok(Exit::Done)
}

fn log_to_stderr(verbose: u8, json: bool) {
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("SHEDDER_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    if json {
        builder.json().init();
    } else {
        builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init();
    }
}

/// Prints to standard output. Somebody who has stopped reading is no error.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn print_json(value: &serde_json::Value) {
    print(&format!("{value}\n"));
}
