//! The file of the push socket, which a daemon that was killed leaves: noted beside the pins, so that whoever comes next
//! knows of it, and removed where nobody listens at it.

use super::pins::{Pins, remove_pin};
use anyhow::{Context, Result};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// What is at the path of a socket once it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtPath {
    /// Nothing: there was nothing, or a socket at which nobody listened, and that was removed.
    Nothing,
    /// A socket of a live process. It was left alone.
    Live,
    /// Something that is no socket. It was left alone.
    NoSocket,
}

/// Removes a socket that nobody listens at. One that is in use is never removed: also where somebody takes the path at this
/// very moment, because the file is put aside first, in one step, and looked at again.
pub fn remove_dead_socket(path: &Path) -> io::Result<AtPath> {
    let mut aside = path.as_os_str().as_bytes().to_vec();
    aside.push(b'~');
    let aside = PathBuf::from(std::ffi::OsStr::from_bytes(&aside));
    // Of a run that died here.
    if look(&aside)?.is_none() {
        remove(&aside)?;
    }
    if let Some(found) = look(path)? {
        return Ok(found);
    }
    match move_without_replacing(path, &aside) {
        // Somebody else was faster.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(AtPath::Nothing),
        moved => moved?,
    }
    match look(&aside)? {
        None => remove(&aside).map(|()| AtPath::Nothing),
        Some(AtPath::Nothing) => Ok(AtPath::Nothing),
        Some(found) => move_without_replacing(&aside, path).map(|()| found),
    }
}

/// What is at a path; none: a socket that nobody listens at.
fn look(path: &Path) -> io::Result<Option<AtPath>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(AtPath::Nothing)),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => return Ok(Some(AtPath::NoSocket)),
        Ok(_) => {}
    }
    // Only this tells a socket file with a process behind it from one without; it sends nothing.
    match UnixDatagram::unbound()?.connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(AtPath::Nothing)),
        // Any other error (another type of socket, no leave) does not say that it is dead.
        Ok(()) | Err(_) => Ok(Some(AtPath::Live)),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn move_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // A file system that knows no such thing; nothing was there when it was last looked at.
        Err(nix::errno::Errno::EINVAL) => fs::rename(from, to),
        moved => Ok(moved?),
    }
}

impl Pins {
    /// Where the sockets are noted: the one in use, and the one before it, each by a symbolic link.
    fn socket_notes(&self) -> [PathBuf; 2] {
        ["push", "push-before"].map(|name| self.root().join(name))
    }

    /// Notes that a daemon is about to make its push socket at `path`. What a dead one left elsewhere is removed.
    ///
    /// # Errors
    /// A sentence where the directory of pins cannot be written.
    pub(super) fn note_socket(&self, path: &Path) -> Result<()> {
        let [note, before] = self.socket_notes();
        match fs::read_link(&note) {
            Ok(noted) if noted == path => return Ok(()),
            // In use until the daemon has gone over to the new one.
            Ok(noted) if !matches!(remove_dead_socket(&noted), Ok(AtPath::Nothing)) => {
                fs::rename(&note, &before).with_context(|| format!("cannot rename {}", note.display()))?;
            }
            _ => remove_pin(&note)?,
        }
        symlink(path, &note).with_context(|| format!("cannot note the push socket at {}", note.display()))
    }

    /// Removes the sockets that were noted and that nobody listens at, and the notes.
    ///
    /// # Errors
    /// A sentence where one cannot be removed; its note stays.
    pub(super) fn remove_noted_sockets(&self) -> Result<()> {
        for note in self.socket_notes() {
            if let Ok(path) = fs::read_link(&note) {
                remove_dead_socket(&path)
                    .with_context(|| format!("cannot remove the push socket {}", path.display()))?;
            }
            remove_pin(&note)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::tempdir;

    #[test]
    fn only_a_socket_that_nobody_listens_at_is_removed() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("push.sock");
        let entries = || fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(remove_dead_socket(&path).unwrap(), AtPath::Nothing);

        drop(UnixDatagram::bind(&path).unwrap());
        // And what a run that died had put aside.
        drop(UnixDatagram::bind(directory.path().join("push.sock~")).unwrap());
        assert_eq!(remove_dead_socket(&path).unwrap(), AtPath::Nothing);
        assert_eq!(entries(), 0);

        let live = UnixDatagram::bind(&path).unwrap();
        assert_eq!(remove_dead_socket(&path).unwrap(), AtPath::Live);
        UnixDatagram::unbound().unwrap().send_to(b"x", &path).unwrap();
        assert_eq!(live.recv(&mut [0; 8]).unwrap(), 1);
        fs::remove_file(&path).unwrap();

        fs::write(&path, "kept").unwrap();
        assert_eq!(remove_dead_socket(&path).unwrap(), AtPath::NoSocket);
        assert_eq!((fs::read(&path).unwrap(), entries()), (b"kept".to_vec(), 1));
    }
}
