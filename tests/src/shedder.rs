//! The program under test: the binary of this workspace, in a network's server.

use crate::endpoint;
use crate::netns::Network;
use crate::process::Process;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Names the binary to test, in place of the workspace's own.
pub const BINARY: &str = "SHEDDER_BIN";

/// Names the binary of an earlier build, to be tested with the one under test.
pub const PREVIOUS: &str = "SHEDDER_PREVIOUS_BIN";

/// For a daemon that must come up: also where all of the machine is emulated.
const PATIENCE: Duration = Duration::from_secs(120);

/// The binary under test: the one that [`BINARY`] names, else the workspace's, built now if it is not up to date.
///
/// # Panics
/// Where it cannot be built.
pub fn binary() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os(BINARY) {
        Some(path) => path.into(),
        None => build().expect("the binary under test is built"),
    })
}

fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", "shedder", "--message-format", "json-render-diagnostics"])
        .current_dir(root)
        .output()
        .context("starting cargo")?;
    ensure!(built.status.success(), "building shedder: {}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8(built.stdout).context("cargo's messages")?;
    // One message names the executable of the package that was asked for.
    let (_, rest) = messages.rsplit_once("\"executable\":\"").context("cargo named no executable")?;
    Ok(rest.split('"').next().unwrap_or_default().into())
}

/// shedder on one host of a network, with pins of its own.
#[derive(Debug)]
pub struct Shedder<'a> {
    network: &'a Network,
    binary: PathBuf,
    pins: PathBuf,
}

impl<'a> Shedder<'a> {
    /// On the network's server, attached to nothing yet.
    pub fn new(network: &'a Network) -> Shedder<'a> {
        Shedder::of_build(network, binary().to_owned())
    }

    /// The same with another build, on the same pins.
    pub fn of_build(network: &'a Network, binary: PathBuf) -> Shedder<'a> {
        Shedder { network, pins: network.bpffs().join("shedder"), binary }
    }

    /// The network on whose server it is.
    pub fn network(&self) -> &Network {
        self.network
    }

    /// Its directory of pins.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Writes a configuration file, in one step, and returns its path. `$IF` stands for the first link's interface.
    pub fn config(&self, text: &str) -> PathBuf {
        let path = self.network.dir().join("shedder.toml");
        let text = text.replace("$IF", &self.network.link().interface);
        // A daemon that is told to reload meanwhile reads the old one or the new one, and not what is there of it by then.
        let next = path.with_extension("next");
        std::fs::write(&next, text).expect("a configuration can be written");
        std::fs::rename(&next, &path).expect("a configuration can be put in place");
        path
    }

    /// A command on the server.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.network.server.command(&self.binary);
        command.args(arguments).arg("--bpffs").arg(&self.pins);
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("shedder can be started")
    }

    /// Runs a command that must succeed, and returns what it printed.
    ///
    /// # Panics
    /// Where it exits with anything but 0, with all that it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "shedder {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("shedder prints text")
    }

    /// Runs a command that must end with `code`, and returns what it printed on standard error.
    ///
    /// # Panics
    /// Where it exits otherwise.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "shedder {arguments:?}: {output:?}");
        String::from_utf8(output.stderr).expect("shedder prints text")
    }

    /// Starts a daemon with this configuration, and waits until it holds its lease.
    pub fn daemon(&self, config: &str) -> Result<Process> {
        let config = self.config(config);
        let mut daemon = self
            .network
            .start("daemon", self.command(&["run", "--config", config.to_str().context("a path")?]))?;
        let deadline = Instant::now() + PATIENCE;
        while !self.status().is_some_and(|status| status.contains("\"alive\":true")) {
            let ended = daemon.ended()?;
            ensure!(ended.is_none(), "the daemon ended ({ended:?}): {}", daemon.output());
            ensure!(Instant::now() < deadline, "the daemon does not come up: {}", daemon.output());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }

    /// Starts a daemon with this configuration, and waits until it says that it is ready: also where the lease of one
    /// that died has not lapsed yet. Its endpoint must be where it is unless configured.
    pub fn ready_daemon(&self, config: &str) -> Result<Process> {
        let config = self.config(config);
        let command = self.command(&["run", "--config", config.to_str().context("a path")?]);
        let mut daemon = self.network.start("daemon", command)?;
        let deadline = Instant::now() + PATIENCE;
        while !endpoint::is_ready(&self.network.server) {
            let ended = daemon.ended()?;
            ensure!(ended.is_none(), "the daemon ended ({ended:?}): {}", daemon.output());
            ensure!(Instant::now() < deadline, "the daemon is not ready: {}", daemon.output());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }

    /// Enforces this configuration without a daemon, and returns what was printed.
    ///
    /// # Panics
    /// Where that fails.
    pub fn attach(&self, config: &str) -> String {
        let config = self.config(config);
        self.ok(&["attach", "--config", config.to_str().expect("a path of text")])
    }

    /// What `shedder status --json` prints; none where nothing is attached.
    pub fn status(&self) -> Option<String> {
        let output = self.run(&["status", "--json"]);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
