//! The one definition of the command line: help, manual pages and completions come from it.

use crate::datapath::Pins;
use clap::{Args, Parser, Subcommand, ValueHint};
use std::path::PathBuf;
use std::time::Duration;

/// A load shedder and kill switch for this host, in the kernel.
#[derive(Debug, Parser)]
#[command(
    name = "shedder",
    version,
    about = "A load shedder and kill switch for this host, in the kernel",
    after_help = "Exit codes: 0 done and verified; 1 failed; 2 usage or configuration; 3 nothing is attached; \
                  4 written but not obeyed.",
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Directory of pins, on a BPF file system; two instances with two directories do not see each other
    #[arg(long, global = true, value_name = "DIR", default_value = Pins::DEFAULT, value_hint = ValueHint::DirPath)]
    pub bpffs: PathBuf,
    /// Print one JSON object in place of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more: -v debug, -vv trace
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach or adopt, and run the control loop and the endpoint in the foreground
    Run(Attachment),
    /// Enforce without a daemon: limits and rules hold, kills and overrides work, nothing adapts
    Attach(Attachment),
    /// Remove all that this host's shedder put in the kernel
    Detach {
        /// Only from these interfaces
        #[arg(long, value_name = "IF", num_args = 1..)]
        interface: Vec<String>,
    },
    /// Drop everything but lifelines, now, in both directions; reports what was seen afterwards
    Kill {
        /// What to kill.
        #[command(flatten)]
        scope: Scope,
        /// End by itself after this long, by the kernel's clock, whether or not a daemon lives
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        lasting: Option<Duration>,
        /// Drop lifelines as well: this also cuts your own SSH
        #[arg(long)]
        total: bool,
    },
    /// Lift kills: of the host, its interfaces and services, or only of those named
    Resume {
        /// What to resume.
        #[command(flatten)]
        scope: Scope,
    },
    /// Shed this much of the offered work, in place of the loop's decision
    Shed {
        /// Percent of the offered work, 0 to 100: 0 sheds nothing, whatever the loop says
        #[arg(value_name = "PERCENT", value_parser = percent, allow_negative_numbers = true)]
        percent: f64,
        /// End by itself after this long
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        lasting: Option<Duration>,
        /// Only of this service; otherwise of all, and of the traffic of no service
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
    },
    /// Hand back to the loop: end overrides
    Auto {
        /// Only of this service
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
    },
    /// Show what is attached, in force, passed and dropped
    Status,
    /// Validate a configuration, and print it with every default
    Check {
        /// The configuration
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Print completions for a shell
    Completions {
        /// Which
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Print the manual page; with a directory, write one for every command into it
    Man {
        /// Where
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        directory: Option<PathBuf>,
    },
}

/// What to attach to, and how.
#[derive(Args, Debug)]
#[group(required = true, multiple = true, id = "source")]
pub struct Attachment {
    /// The configuration
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, group = "source")]
    pub config: Option<PathBuf>,
    /// Interfaces, in place of the configuration's
    #[arg(long, value_name = "IF", num_args = 1.., group = "source")]
    pub interface: Vec<String>,
    /// Judge and count, but drop nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What a kill is about.
#[derive(Args, Debug, Default)]
pub struct Scope {
    /// Only these interfaces
    #[arg(long, value_name = "IF", num_args = 1.., conflicts_with = "service")]
    pub interface: Vec<String>,
    /// Only this service
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; say for example 90s, 10m or 1h"))?;
    match parsed {
        Duration::ZERO => {
            Err("no time at all: say for example 90s, 10m or 1h, or leave --for away for no end".into())
        }
        long if long > MAX_LASTING => Err("longer than 365 days: leave --for away for no end".into()),
        duration => Ok(duration),
    }
}

const MAX_LASTING: Duration = Duration::from_secs(365 * 24 * 3600);

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("a percentage from 0 (shed nothing) to 100 (shed all) is wanted".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn percentages_have_bounds() {
        for good in ["0", "100", "12.5", "50%"] {
            assert!(percent(good).is_ok(), "{good}");
        }
        for bad in ["101", "-1", "NaN", "inf", "", "half"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_deadline_is_some_time_ahead() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        for bad in ["0", "0s", "-5s", "ten", "400days"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn run_wants_something_to_attach_to() {
        let error = Cli::try_parse_from(["shedder", "run"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument);
        assert!(Cli::try_parse_from(["shedder", "run", "--interface", "a", "b"]).is_ok());
        assert!(Cli::try_parse_from(["shedder", "run", "--config", "f", "--interface", "a"]).is_ok());
    }

    #[test]
    fn a_kill_is_of_interfaces_or_of_a_service() {
        let error =
            Cli::try_parse_from(["shedder", "kill", "--interface", "a", "--service", "b"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
    }
}
