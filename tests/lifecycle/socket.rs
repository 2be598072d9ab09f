//! The file of the push socket, of daemons that ended in no good order.

use crate::{FAILED, LONG, crash};
use nix::sys::signal::Signal;
use shedder_tests::netns::Network;
use shedder_tests::privileged;
use shedder_tests::shedder::Shedder;
use shedder_tests::wait::until;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// A configuration with a service that is pushed to, and where its socket is.
fn pushed(network: &Network, name: &str) -> (String, PathBuf) {
    let path = network.dir().join(name);
    let text = format!(
        "interfaces = [\"$IF\"]\n[endpoint]\npush = \"{}\"\n[[service]]\nname = \"api\"\nprotocol = \"tcp\"\nport = 80\n\
         target = \"50ms\"\nsignal = {{ kind = \"push\" }}\n",
        path.display()
    );
    (text, path)
}

fn listens(socket: &UnixDatagram, path: &Path) -> bool {
    UnixDatagram::unbound().unwrap().send_to(b"x", path).is_ok() && socket.recv(&mut [0; 8]).unwrap() == 1
}

#[test]
fn detach_removes_the_socket_that_a_killed_daemon_left() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("socket-left").unwrap();
    let shedder = Shedder::new(&network);
    let (config, path) = pushed(&network, "push.sock");
    crash(shedder.daemon(&config).unwrap());
    assert!(path.exists(), "this test shows nothing: a killed daemon leaves no socket");
    // Attached without a daemon meanwhile, by somebody who names no socket.
    shedder.attach(crate::BARE);
    shedder.ok(&["detach"]);
    assert!(!path.exists() && !shedder.pins().exists());
}

#[test]
fn detach_leaves_a_socket_that_somebody_else_listens_at_and_what_is_none() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("socket-others").unwrap();
    let shedder = Shedder::new(&network);
    let (config, path) = pushed(&network, "push.sock");
    crash(shedder.daemon(&config).unwrap());
    std::fs::remove_file(&path).unwrap();
    let other = UnixDatagram::bind(&path).unwrap();
    shedder.ok(&["detach"]);
    assert!(listens(&other, &path) && !shedder.pins().exists());
    drop(other);

    crash(shedder.daemon(&config).unwrap());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "kept").unwrap();
    shedder.ok(&["detach"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"kept");
}

#[test]
fn a_daemon_with_another_socket_removes_the_one_that_a_killed_daemon_left() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("socket-moved").unwrap();
    let shedder = Shedder::new(&network);
    let (first, old) = pushed(&network, "old.sock");
    let (second, new) = pushed(&network, "new.sock");
    crash(shedder.daemon(&first).unwrap());
    let mut daemon = shedder.daemon(&second).unwrap();
    // The lease of the first may not have lapsed.
    until("the second's socket", || new.exists());
    assert!(!old.exists());
    // At a reload the first goes when the daemon has gone over to the second.
    shedder.config(&first);
    daemon.signal(Signal::SIGHUP).unwrap();
    until("the reload", || old.exists() && !new.exists());
    assert!(daemon.stop(LONG).unwrap().success(), "{}", daemon.output());
    assert!(!old.exists() && !new.exists() && !shedder.pins().exists());
}

#[test]
fn a_daemon_that_cannot_start_leaves_no_note_of_a_socket() {
    if !privileged::require() {
        return;
    }
    let network = Network::new("socket-failed").unwrap();
    let shedder = Shedder::new(&network);
    let (config, path) = pushed(&network, "push.sock");
    let config = shedder.config(&config.replace("$IF", "nowhere0"));
    shedder.fails(FAILED, &["run", "--config", config.to_str().unwrap()]);
    assert!(!path.exists() && !shedder.pins().exists());
}
