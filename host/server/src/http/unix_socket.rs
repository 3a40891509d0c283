//! A Unix socket's place in the file system: taken where nobody else has it, and given back.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::limits::SOCKET_BACKLOG;

/// A Unix socket, as an operator wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketConfig {
    /// Where it is.
    pub path: PathBuf,
    /// Who may connect, as a file's mode.
    pub mode: u32,
    /// Of those, the users whose connections are served.
    pub uids: BTreeSet<u32>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody else listens there.
    #[error("{path} is in use: another process listens on it")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// There is a file, and it is not ours to remove.
    #[error("{path} is there already and is no socket; remove it, or listen somewhere else")]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be told whether somebody listens.
    #[error("failed to see whether somebody listens on {path}")]
    Look {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system does not give it.
    #[error("failed to listen on {path}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A socket's path, as long as the socket is there. Dropping it removes the socket, unless another one has its place by then.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Device and inode.
    file: (u64, u64),
}

impl Place {
    /// Listens there.
    pub(super) fn take(config: &SocketConfig) -> Result<(UnixListener, Self), SocketError> {
        let path = &config.path;
        clear(path)?;
        let listen = || -> io::Result<_> {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            socket.bind(&SockAddr::unix(path)?)?;
            // Between the two nobody can connect yet, so nobody does by the mode that the umask left.
            fs::set_permissions(path, fs::Permissions::from_mode(config.mode))?;
            socket.listen(SOCKET_BACKLOG)?;
            let place = Self { path: path.clone(), file: identity(path)? };
            Ok((UnixListener::from(std::os::fd::OwnedFd::from(socket)), place))
        };
        listen().map_err(|source| SocketError::Listen { path: path.clone(), source })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "failed to remove {}", self.path.display());
        }
    }
}

/// Removes a socket that nobody listens on, as a process leaves it that was killed.
fn clear(path: &Path) -> Result<(), SocketError> {
    let look = |source| SocketError::Look { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(look(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NoSocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    // Waiting for a place in somebody's full line would be waiting for ever.
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    match connect() {
        Ok(()) => Err(SocketError::InUse { path: path.to_owned() }),
        // Nobody has it open.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(look),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(SocketError::InUse { path: path.to_owned() }),
        Err(error) => Err(look(error)),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn config(path: PathBuf) -> SocketConfig {
        SocketConfig { path, mode: 0o600, uids: BTreeSet::new() }
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn a_socket_has_its_mode_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("api.sock");
        for wanted in [0o600, 0o660, 0o666] {
            let (listener, place) = Place::take(&SocketConfig { mode: wanted, ..config(path.clone()) }).expect("taken");
            assert_eq!(mode(&path), wanted, "whatever the umask says");
            UnixStream::connect(&path).expect("somebody listens");
            drop((listener, place));
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_a_killed_process_left_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        // Dropping std's listener leaves the file, as a kill does.
        drop(UnixListener::bind(at("stale")).expect("bound"));
        let (_listener, _place) = Place::take(&config(at("stale"))).expect("replaced");
        // That one listens, and the second attempt does not disturb it.
        assert!(matches!(Place::take(&config(at("stale"))), Err(SocketError::InUse { .. })));
        UnixStream::connect(at("stale")).expect("it still listens");
        fs::write(at("file"), "precious").expect("written");
        assert!(matches!(Place::take(&config(at("file"))), Err(SocketError::NoSocket { .. })));
        symlink(at("file"), at("link")).expect("linked");
        assert!(matches!(Place::take(&config(at("link"))), Err(SocketError::NoSocket { .. })));
        fs::create_dir(at("folder")).expect("made");
        assert!(matches!(Place::take(&config(at("folder"))), Err(SocketError::NoSocket { .. })));
        assert_eq!(fs::read_to_string(at("file")).expect("there"), "precious");
        assert!(matches!(Place::take(&config(at("none/x"))), Err(SocketError::Listen { .. })));
        let long = at(&"x".repeat(120));
        assert!(matches!(Place::take(&config(long)), Err(SocketError::Listen { .. })));
    }

    #[test]
    fn a_socket_that_took_the_place_since_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("api.sock");
        let (listener, place) = Place::take(&config(path.clone())).expect("taken");
        fs::rename(&path, folder.path().join("elsewhere")).expect("moved");
        let _other = UnixListener::bind(&path).expect("bound");
        drop((listener, place));
        assert!(path.exists());
    }
}
