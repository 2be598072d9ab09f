//! The path of the push socket: taken, kept, and given back.

use crate::datapath::{AtPath, remove_dead_socket};
use anyhow::{Context, bail};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use nix::sys::stat::{Mode, fchmod};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Owner and group may write, which is what sending takes.
const SOCKET_MODE: u32 = 0o660;

/// Anybody may look for the socket in a directory that is made for it.
const DIRECTORY_MODE: u32 = 0o755;

/// A path that a socket of ours is bound to; removed when this is dropped, unless something else is there by then.
#[derive(Debug)]
pub(super) struct BoundPath {
    path: PathBuf,
    /// Device and inode of what we bound.
    identity: (u64, u64),
}

impl BoundPath {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // Where it cannot be removed, the next start finds it stale and replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds a datagram socket, non-blocking, to `path`. What a dead process left there is replaced.
///
/// # Errors
/// Where a live process listens at `path`, where something is there that is no socket (it is left alone), and where
/// the system refuses.
pub(super) fn claim(path: &Path) -> anyhow::Result<(UnixDatagram, BoundPath)> {
    try_claim(path).with_context(|| format!("push socket `{}` (endpoint.push)", path.display()))
}

fn try_claim(path: &Path) -> anyhow::Result<(UnixDatagram, BoundPath)> {
    let address = UnixAddr::new(path).context("the path is too long for a socket: 107 bytes at the most")?;
    make_parent(path)?;
    make_way(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd =
        socket(AddressFamily::Unix, SockType::Datagram, flags, None).context("cannot make a socket")?;
    // The mode before the bind bounds that of the file, so it never allows more than it should; the mode after it
    // restores what the umask took.
    fchmod(&socket, Mode::from_bits_truncate(SOCKET_MODE)).context("cannot set its mode")?;
    bind(socket.as_raw_fd(), &address).context("cannot bind")?;
    let bound = BoundPath { path: path.to_owned(), identity: identity(path).context("gone once bound")? };
    fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE)).context("cannot set its mode")?;
    Ok((UnixDatagram::from(socket), bound))
}

/// Makes the directory that `path` lies in, where there is none.
pub(in crate::daemon) fn make_parent(path: &Path) -> anyhow::Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists())
    else {
        return Ok(());
    };
    let failed = || format!("cannot make the directory `{}`", parent.display());
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(parent).with_context(failed)?;
    // The umask may have taken some.
    fs::set_permissions(parent, Permissions::from_mode(DIRECTORY_MODE)).with_context(failed)
}

/// Removes a socket that nobody listens at any more.
fn make_way(path: &Path) -> anyhow::Result<()> {
    match remove_dead_socket(path).context("cannot look at it, or remove what a dead process left there")? {
        AtPath::Nothing => Ok(()),
        AtPath::NoSocket => {
            bail!("something that is no socket is there; it was left alone: remove it, or name another path")
        }
        AtPath::Live => bail!("a live process listens there: stop it, or name another path"),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::os::unix::net::UnixListener;
    use tempfile::tempdir;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("the path is there").permissions().mode() & 0o7777
    }

    fn refusal(path: &Path) -> String {
        format!("{:#}", claim(path).expect_err("the path must be refused"))
    }

    #[test]
    fn makes_the_directory_and_the_modes_and_removes_the_socket() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("a/b/push.sock");
        let (socket, bound) = claim(&path).unwrap();
        assert_eq!(mode(&path), SOCKET_MODE);
        assert_eq!(mode(&directory.path().join("a/b")), DIRECTORY_MODE);
        UnixDatagram::unbound().unwrap().send_to(b"hello", &path).unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 5);
        assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn leaves_a_directory_that_is_there_as_it_is() {
        let directory = tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o2750)).unwrap();
        claim(&directory.path().join("push.sock")).unwrap();
        assert_eq!(mode(directory.path()), 0o2750);
    }

    #[test]
    fn replaces_what_a_dead_process_left() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("push.sock");
        drop(UnixDatagram::bind(&path).unwrap());
        assert!(path.exists(), "closing a socket leaves its file");
        let (socket, _bound) = claim(&path).unwrap();
        UnixDatagram::unbound().unwrap().send_to(b"x", &path).unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
    }

    #[test]
    fn refuses_a_live_socket_of_any_type_and_leaves_it_working() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("datagram");
        let live = UnixDatagram::bind(&path).unwrap();
        let error = refusal(&path);
        assert!(error.contains("live process") && error.contains(path.to_str().unwrap()), "{error}");
        UnixDatagram::unbound().unwrap().send_to(b"x", &path).unwrap();
        assert_eq!(live.recv(&mut [0; 8]).unwrap(), 1);

        let path = directory.path().join("stream");
        let _live = UnixListener::bind(&path).unwrap();
        assert!(refusal(&path).contains("live process"));
        assert!(path.exists());
    }

    #[test]
    fn refuses_what_is_no_socket_and_leaves_it_alone() {
        let directory = tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert!(refusal(&file).contains("no socket"));
        assert_eq!(fs::read(&file).unwrap(), b"kept");

        let link = directory.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert!(refusal(&link).contains("no socket"));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());

        assert!(refusal(directory.path()).contains("no socket"));
        assert!(refusal(&file.join("push.sock")).contains("directory"));
    }

    #[test]
    fn refuses_a_path_that_no_socket_can_have() {
        let directory = tempdir().unwrap();
        assert!(refusal(&directory.path().join("x".repeat(108))).contains("too long"));
    }

    #[test]
    fn removes_nothing_but_its_own() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("push.sock");
        let (_first_socket, first) = claim(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let (_second_socket, second) = claim(&path).unwrap();
        drop(first);
        assert!(path.exists(), "the second one's");
        drop(second);
        assert!(!path.exists());
    }
}
