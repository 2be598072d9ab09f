//! Commands that run one after the other, each announced, the first that fails named.

use std::env;
use std::io::{BufRead, BufReader, IsTerminal, stderr};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A task's commands, of which it is known how many there are.
#[derive(Debug)]
pub(crate) struct Steps {
    total: usize,
    begun: usize,
    start: Instant,
}

impl Steps {
    /// A task of `total` steps.
    pub(crate) fn new(total: usize) -> Steps {
        Steps { total, begun: 0, start: Instant::now() }
    }

    /// Runs the next step. Fails, naming the step and its command, where the command does.
    pub(crate) fn run(&mut self, title: &str, command: &mut Command) -> Result<()> {
        self.announce(title);
        let status = command.status();
        self.judge(title, command, status)
    }

    /// Runs the next step as [`run`](Steps::run) does, and hands each line of its output on as well as printing it.
    pub(crate) fn run_reading(
        &mut self,
        title: &str,
        command: &mut Command,
        mut line: impl FnMut(&str),
    ) -> Result<()> {
        self.run_silently(title, command, |read| {
            println!("{read}");
            line(read);
        })
    }

    /// Runs the next step as [`run`](Steps::run) does, and hands each line of its output on instead of printing it.
    pub(crate) fn run_silently(
        &mut self,
        title: &str,
        command: &mut Command,
        mut line: impl FnMut(&str),
    ) -> Result<()> {
        self.announce(title);
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| starting(command))?;
        let output = child.stdout.take().context("the output of a command cannot be read")?;
        for read in BufReader::new(output).split(b'\n') {
            let read = read.with_context(|| format!("the output of `{}` cannot be read", shown(command)))?;
            line(&String::from_utf8_lossy(&read));
        }
        let status = child.wait();
        self.judge(title, command, status)
    }

    /// How many steps there were, and how long they took.
    pub(crate) fn summary(&self) -> String {
        let noun = if self.begun == 1 { "step" } else { "steps" };
        format!("{} {noun} passed in {}", self.begun, duration(self.start.elapsed()))
    }

    fn announce(&mut self, title: &str) {
        self.begun += 1;
        println!("xtask: [{}/{}] {title}", self.begun, self.total);
    }

    fn judge(&self, title: &str, command: &Command, status: std::io::Result<ExitStatus>) -> Result<()> {
        let status = status.with_context(|| starting(command))?;
        if status.success() {
            return Ok(());
        }
        bail!(
            "step {} of {} failed after {}: {title}: `{}` ended with {status}",
            self.begun,
            self.total,
            duration(self.start.elapsed()),
            shown(command),
        )
    }
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// `--quiet` where nobody watches.
pub(crate) fn quiet() -> Option<&'static str> {
    (!stderr().is_terminal()).then_some("--quiet")
}

/// The command as a person would type it, the program by its name alone.
fn shown(command: &Command) -> String {
    let name = std::path::Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words: Vec<_> =
        [name].into_iter().chain(command.get_args()).map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

fn starting(command: &Command) -> String {
    format!("`{}` does not start", shown(command))
}

fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {} s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_step_is_named_with_its_command() {
        let mut steps = Steps::new(3);
        steps.run("first", &mut Command::new("true")).unwrap();
        let error = steps.run("second", Command::new("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert!(error.starts_with("step 2 of 3 failed"), "{error}");
        assert!(error.contains("second: `sh -c exit 3` ended with exit status: 3"), "{error}");
    }

    #[test]
    fn a_command_that_is_not_there_is_named() {
        let error = Steps::new(1).run("first", &mut Command::new("/nonexistent/program")).unwrap_err();
        assert_eq!(error.to_string(), "`program` does not start");
    }

    #[test]
    fn each_line_is_handed_on_though_it_is_no_utf8() {
        let mut lines = Vec::new();
        let mut command = Command::new("printf");
        command.arg("one\\n\\377\\ntwo");
        Steps::new(1).run_reading("lines", &mut command, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "\u{fffd}", "two"]);
    }

    #[test]
    fn a_failure_counts_though_its_output_was_read() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo said; exit 1"]);
        assert!(Steps::new(1).run_reading("lines", &mut command, |_| ()).is_err());
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(Duration::from_millis(59_900)), "59 s");
        assert_eq!(duration(Duration::from_secs(252)), "4 min 12 s");
    }
}
