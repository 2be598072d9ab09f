//! shedder, as a process on the server's host.

use super::metrics::{get, listen};
use super::scene::{CLASSES, CRITICAL, LOW, NORMAL, PORT, Scene, TARGET};
use anyhow::{Context, Result, bail, ensure};
use shedder_tests::flood;
use shedder_tests::interrupt;
use shedder_tests::netns::Network;
use shedder_tests::process::Process;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long it may take until it is ready.
const START: Duration = Duration::from_secs(10);

/// How long it may take to end.
const END: Duration = Duration::from_secs(5);

/// The daemon under way. Dropped, it is killed.
pub(super) struct Daemon<'a> {
    binary: &'a Path,
    network: &'a Network,
    process: Process,
}

/// A command that was run.
pub(super) struct Ran {
    /// When it was started, and when it had ended, by [`flood::now`].
    pub(super) started: Duration,
    pub(super) ended: Duration,
    /// As a person would type it.
    pub(super) line: String,
    /// What it wrote.
    pub(super) output: String,
}

impl<'a> Daemon<'a> {
    /// Starts `shedder run`, and waits until it says that it is ready.
    pub(super) fn start(binary: &'a Path, scene: &'a Scene) -> Result<Daemon<'a>> {
        let network = &scene.network;
        let path = network.dir().join("demo.toml");
        std::fs::write(&path, configuration(network))
            .with_context(|| format!("writing {}", path.display()))?;
        let mut command = command(binary, "run", network);
        command.arg("--config").arg(&path);
        let mut daemon = Daemon { binary, network, process: network.start("shedder", command)? };
        daemon.wait_until_ready()?;
        Ok(daemon)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            interrupt::check()?;
            if let Some(status) = self.process.ended()? {
                bail!(
                    "`shedder run` ended ({status}) before it was ready; it wrote:\n{}",
                    self.process.output()
                );
            }
            let ready = self.network.server.run(|| get("/readyz"))?;
            if ready.as_ref().is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "`shedder run` was not ready within {START:?}: {}; it wrote:\n{}",
                ready.map_or_else(|error| error.to_string(), |answer| answer.body),
                self.process.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs one of shedder's commands, which must succeed.
    pub(super) fn run(&self, name: &str) -> Result<Ran> {
        let started = flood::now();
        let output = command(self.binary, name, self.network)
            .output()
            .with_context(|| format!("starting `shedder {name}`"))?;
        let ended = flood::now();
        let text = [output.stdout, output.stderr].concat();
        let output_text = String::from_utf8_lossy(&text).trim_end().to_owned();
        ensure!(output.status.success(), "`shedder {name}` failed ({}): {output_text}", output.status);
        Ok(Ran { started, ended, line: format!("shedder {name}"), output: output_text })
    }

    /// Ends it in good order.
    pub(super) fn stop(mut self) -> Result<()> {
        let status = self.process.stop(END)?;
        ensure!(
            status.success(),
            "`shedder run` ended badly ({status}); it wrote:\n{}",
            self.process.output()
        );
        Ok(())
    }
}

/// One of shedder's commands, on the server's host, with pins of its own.
fn command(binary: &Path, name: &str, network: &Network) -> Command {
    let mut command = network.server.command(binary);
    command.arg(name).arg("--bpffs").arg(network.bpffs().join("shedder"));
    command
}

/// The configuration that the demo runs with: a class for two of the networks that clients come from, and a service
/// whose other clients are of the class `low`.
pub(super) fn configuration(network: &Network) -> String {
    let link = network.link();
    let [critical, normal, low] = [CRITICAL, NORMAL, LOW].map(|class| CLASSES[class]);
    let (critical_sources, normal_sources) = (link.source_v4(1, 0), link.source_v4(2, 0));
    format!(
        r#"interfaces = ["{interface}"]

[[rule]]
sources = ["{critical_sources}/24"]
class = "{critical}"

[[rule]]
sources = ["{normal_sources}/24"]
class = "{normal}"

[[service]]
name = "web"
protocol = "tcp"
port = {PORT}
class = "{low}"
target = "{target}ms"
signal = {{ kind = "passive" }}

[endpoint]
listen = "{listen}"
push = "{push}"
"#,
        interface = link.interface,
        target = TARGET.as_millis(),
        listen = listen(),
        push = network.dir().join("push.sock").display(),
    )
}
