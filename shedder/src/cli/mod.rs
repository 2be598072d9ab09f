//! The command line: from arguments to one outcome and an exit code.

mod args;
mod attach;
mod kill;
mod override_;
mod paper;
#[cfg(test)]
mod reference;
mod render;
mod resume;
mod scope;
mod status;
mod tune;
mod watch;

pub use args::Cli;

use crate::config::{Config, LoadError};
use crate::datapath::{NotAttached, Pins};
use anyhow::{Context, Result};
use args::{Attachment, Command};
use clap::Parser;
use serde_json::json;
use std::fmt;
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

/// Arguments or a configuration that cannot be meant: a sentence.
#[derive(Debug)]
struct Misuse(String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { Exit::Done as u8 });
        }
    };
    let exit = match execute(&cli) {
        Ok(exit) => exit,
        Err(error) => {
            let exit = exit_of(&error);
            if cli.common.json {
                print_json(&failure(&error, exit));
            }
            complain(&error);
            exit
        }
    };
    ExitCode::from(exit as u8)
}

fn exit_of(error: &anyhow::Error) -> Exit {
    if error.is::<NotAttached>() {
        Exit::NotAttached
    } else if error.is::<LoadError>() || error.is::<Misuse>() {
        Exit::Usage
    } else {
        Exit::Failed
    }
}

/// A failure as JSON.
fn failure(error: &anyhow::Error, exit: Exit) -> serde_json::Value {
    let mistakes = match error.downcast_ref::<LoadError>() {
        Some(LoadError::Mistaken { mistakes, .. }) => mistakes.as_slice(),
        _ => &[],
    };
    let mistakes: Vec<_> = mistakes
        .iter()
        .map(|mistake| {
            json!({
                "line": mistake.line, "column": mistake.column, "key": mistake.path, "message": mistake.message,
            })
        })
        .collect();
    json!({ "error": format!("{error:#}"), "exit_code": exit as u8, "mistakes": mistakes })
}

/// A failure on standard error. Somebody who has stopped reading is no reason to panic.
fn complain(error: &anyhow::Error) {
    let mut err = io::stderr().lock();
    let _ = match error.downcast_ref::<LoadError>() {
        // As compilers do it, so that editors find the lines.
        Some(LoadError::Mistaken { path, mistakes }) => {
            let (count, path) = (mistakes.len(), path.display());
            let things = if count == 1 { "mistake" } else { "mistakes" };
            writeln!(err, "{error}\nshedder: {count} {things} in {path}: nothing was done")
        }
        _ => writeln!(err, "shedder: {error:#}"),
    };
}

fn execute(cli: &Cli) -> Result<Exit> {
    let root = std::path::absolute(&cli.common.bpffs).context("--bpffs names no directory")?;
    let pins = Pins::new(root);
    let json = cli.common.json;
    match &cli.command {
        // The switch comes first, and does nothing before its word is written.
        Command::Kill { scope, lasting, total } => kill::kill(&pins, scope, *lasting, *total, json),
        Command::Resume { scope } => resume::resume(&pins, scope, json),
        Command::Shed { percent, lasting, service } => {
            override_::shed(&pins, *percent, *lasting, service.as_deref(), json)
        }
        Command::Auto { service } => override_::auto(&pins, service.as_deref(), json),
        Command::Tune(arguments) => tune::tune(&pins, arguments, json),
        Command::Status => status::status(&pins, json),
        Command::Run(attachment) => {
            log_to_stderr(cli.common.verbose, json);
            crate::daemon::give_up_privileges()?;
            let (config, source) = configuration(attachment)?;
            crate::daemon::run(pins, config, source).map(|()| Exit::Done)
        }
        Command::Attach(attachment) => {
            log_to_stderr(cli.common.verbose, json);
            attach::attach(&pins, &configuration(attachment)?.0, json)
        }
        Command::Detach { interface } => attach::detach(&pins, interface, json),
        Command::Check { file } => check(file, json),
        Command::Completions { shell } => paper::completions(*shell),
        Command::Man { directory } => paper::manual(directory.as_deref()),
    }
}

/// The configuration that the arguments give, and where a daemon reads it from again at a reload.
fn configuration(attachment: &Attachment) -> Result<(Config, crate::daemon::ConfigSource)> {
    let source = crate::daemon::ConfigSource {
        file: attachment.config.clone(),
        interfaces: attachment.interface.clone(),
        dry_run: attachment.dry_run,
    };
    let config = source.load()?;
    if config.interfaces.is_empty() {
        let file = source.file.as_deref().unwrap_or(Path::new("the configuration"));
        let file = file.display();
        return Err(Misuse(format!(
            "{file} names no interface: give `interfaces = [\"eth0\"]` in it, or --interface eth0 here"
        ))
        .into());
    }
    Ok((config, source))
}

fn check(file: &Path, json: bool) -> Result<Exit> {
    let config = crate::config::load(file)?;
    if json {
        print_json(&json!({ "valid": true, "effective": config.to_toml() }));
    } else {
        print(&format!("# {} is valid. With every default:\n{}", file.display(), config.to_toml()));
    }
    Ok(Exit::Done)
}

fn log_to_stderr(verbose: u8, json: bool) {
    let level = match verbose {
        // Of a younger kernel's netlink the library warns with each answer.
        0 => "info,netlink_packet_route=error",
        // Of shedder and its programs: what aya says of each relocation helps nobody.
        1 => "info,netlink_packet_route=error,shedder=debug,shedder_ebpf=debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("SHEDDER_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        // Else a log that nobody reads any more would be complained about on the same closed pipe, with a panic.
        .log_internal_errors(false);
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

fn print_json<T: serde::Serialize>(value: &T) {
    // Nothing that is printed has a key that is not text, which alone could fail.
    let text = serde_json::to_string(value)
        .unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string());
    print(&format!("{text}\n"));
}
