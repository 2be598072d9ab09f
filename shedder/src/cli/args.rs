//! The one definition of the command line: help, manual pages, completions and the reference come from it.

use crate::config::duration;
use crate::datapath::Pins;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueHint};
use std::path::PathBuf;
use std::time::Duration;

const AFTER_HELP: &str = "\
In the middle of the night:
  shedder status                          what is attached, in force, passed and dropped
  shedder kill --for 10m                  drop everything but lifelines for ten minutes
  shedder kill --service api              drop one service's traffic until it is resumed
  shedder resume                          lift every kill
  shedder shed 30 --for 15m               shed 30 % of the offered work, whatever the loop says
  shedder auto                            hand back to the loop

Exit codes:
  0  done and verified
  1  failed; what was in force stays in force
  2  the arguments or the configuration are wrong; nothing was done
  3  nothing is attached
  4  written, but not obeyed: the report says why";

/// A load shedder and kill switch for this host, in the kernel.
#[derive(Debug, Parser)]
#[command(
    name = "shedder",
    version,
    about = "A load shedder and kill switch for this host, in the kernel",
    after_help = AFTER_HELP,
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
    /// Print one JSON object in place of text; `run` and `attach` log JSON as well
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
    #[command(
        after_help = "SIGHUP reads the configuration again. SIGTERM and SIGINT end it, and detach unless a kill is in \
                      force or the configuration says `persist = true`."
    )]
    Run(Attachment),
    /// Enforce without a daemon: limits and rules hold, kills and overrides work, nothing adapts
    Attach(Attachment),
    /// Remove all that this host's shedder put in the kernel
    #[command(after_help = "A kill goes with it: what is detached passes.")]
    Detach {
        /// Only from these interfaces
        #[arg(long, value_name = "IF", num_args = 1..)]
        interface: Vec<String>,
    },
    /// Drop everything but lifelines, now, in both directions; reports what was seen afterwards
    #[command(
        after_help = "Needs no daemon. A kill outlives the daemon, its restart, a reload and an upgrade; it ends at its \
                      deadline or by `shedder resume`."
    )]
    Kill {
        /// What to kill.
        #[command(flatten)]
        scope: Scope,
        /// End by itself after this long (90s, 10m, 1h 30m; at most 365 days), by the kernel's clock, whether or not a
        /// daemon lives
        #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
        lasting: Option<Duration>,
        /// Drop lifelines as well: this also cuts your own SSH
        #[arg(long)]
        total: bool,
    },
    /// Lift kills: every one, or only those of what is named; reports what was lifted and what still holds
    Resume {
        /// What to resume.
        #[command(flatten)]
        scope: Scope,
    },
    /// Shed this much of the offered work, in place of the loop's decision
    #[command(
        after_help = "Needs no daemon. An override of everything comes before one of a service, and that before the loop."
    )]
    Shed {
        /// Percent of the offered work, 0 to 100: 0 sheds nothing, whatever the loop says
        #[arg(value_name = "PERCENT", value_parser = percent, allow_negative_numbers = true)]
        percent: f64,
        /// End by itself after this long (90s, 10m, 1h 30m; at most 365 days)
        #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
        lasting: Option<Duration>,
        /// Only of this service; otherwise of all, and of the traffic of no service
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
    },
    /// Hand back to the loop: end every override, or only that of one service
    Auto {
        /// Only of this service
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
    },
    /// Find the loop's gains by a bounded experiment on live traffic, and print them as a configuration fragment
    #[command(
        after_help = "Sheds at the one and the other end of the range in turns until the latency swings steadily about the \
                      service's target. It needs a daemon, and load that misses the target at the lower end and meets it at \
                      the upper. The override that it works by ends when it does, however it ends."
    )]
    Tune(Tune),
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
        /// Which shell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Print the manual page; with a directory, write one for every command into it
    Man {
        /// Where to write, made if it is not there
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        directory: Option<PathBuf>,
    },
}

/// What to attach to, and how.
#[derive(Args, Debug)]
#[group(skip)]
#[command(group = ArgGroup::new("source").args(["config", "interface"]).required(true).multiple(true))]
pub struct Attachment {
    /// The configuration
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Interfaces, in place of the configuration's
    #[arg(long, value_name = "IF", num_args = 1..)]
    pub interface: Vec<String>,
    /// Judge and count, but drop nothing, whatever the configuration says
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

/// An experiment.
#[derive(Args, Debug)]
pub struct Tune {
    /// On this service
    #[arg(long, value_name = "NAME")]
    pub service: String,
    /// Percent of the offered work that may be shed, the least and the most: `20-90`
    #[arg(long, value_name = "LOW-HIGH", value_parser = range)]
    pub range: (f64, f64),
    /// End without a result after this long (1s to 10m)
    #[arg(long = "for", value_name = "TIME", value_parser = bounded, default_value = "60s")]
    pub longest: Duration,
    /// End at once where the latency passes this; unless given, four targets, or four times what it is before
    #[arg(long, value_name = "TIME", value_parser = lasting)]
    pub worst: Option<Duration>,
    /// The configuration that the daemon runs with, where its `control.window` is not the default: it counts in the gains
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Write the fragment to this new file as well
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}

const MAX_LASTING: Duration = Duration::from_secs(365 * 24 * 3600);

fn lasting(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        None => Err("not a length of time: say for example 90s, 10m or 1h".into()),
        Some(Duration::ZERO) => {
            Err("no time at all: say for example 90s, 10m or 1h, or leave --for away for no end".into())
        }
        Some(long) if long > MAX_LASTING => Err("longer than 365 days: leave --for away for no end".into()),
        Some(duration) => Ok(duration),
    }
}

/// How long an experiment may take.
fn bounded(text: &str) -> Result<Duration, String> {
    let duration = lasting(text)?;
    if (Duration::from_secs(1)..=Duration::from_secs(600)).contains(&duration) {
        Ok(duration)
    } else {
        Err("an experiment takes from 1s to 10m".into())
    }
}

/// The two ends of a range of percentages.
fn range(text: &str) -> Result<(f64, f64), String> {
    let ends = text.split_once('-').map(|(low, high)| (percent(low.trim()), percent(high.trim())));
    match ends {
        Some((Ok(low), Ok(high))) if low < high && high < 100.0 => Ok((low, high)),
        _ => Err("two percentages are wanted, the lower first, the higher below 100: 20-90".into()),
    }
}

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
        for bad in ["101", "-1", "NaN", "inf", "", "%", "half"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_range_has_two_ends() {
        assert_eq!(range("20-90"), Ok((20.0, 90.0)));
        assert_eq!(range("0% - 12.5%"), Ok((0.0, 12.5)));
        for bad in ["", "20", "90-20", "20-20", "20-100", "-5-20", "a-b", "20-90-95"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_deadline_is_some_time_ahead() {
        assert_eq!(lasting("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(lasting("365days"), Ok(MAX_LASTING));
        for bad in ["0", "0s", "-5s", "ten", "", "366days", "1000000000y", "18446744073709551615s 1000ms"] {
            assert!(lasting(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn run_wants_something_to_attach_to() {
        for nothing in [&["shedder", "run"][..], &["shedder", "run", "--dry-run"]] {
            let error = Cli::try_parse_from(nothing).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument);
        }
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
