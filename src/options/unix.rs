//! Unix sockets: their names, and the options of those that listen. `unix_stub.rs` has the names
//! that other files want where there are none.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::options::unix_datagram::check_mode;
use crate::options::{
    AtCapacity, DEFAULT_ACCEPT_BUDGET, Destination, LayerOption, Limits, ListenOptions, TcpOptions,
};

/// The name of a Unix socket: a path, or on Linux an abstract name.
///
/// A text is a path, unless it begins with `@`: then the rest is an abstract name, as `ss` and
/// `/proc/net/unix` write it. A path that begins with `@` is given as `./@…`. It is shown with
/// `unix:` before it, which
/// [`Destination::parse_with_unix`](crate::Destination::parse_with_unix) reads.
///
/// # Examples
/// ```
/// use waterwheel::unix::UnixAddr;
///
/// let path = UnixAddr::from("/run/echo.sock");
/// assert_eq!(path.to_string(), "unix:/run/echo.sock");
/// assert_eq!(UnixAddr::from("@echo").as_abstract_name(), Some(&b"echo"[..]));
/// ```
///
/// # Platform notes
/// Unix only. Abstract names are Linux's and Android's; elsewhere they are an error where they are
/// used. An abstract name is no file: it has no mode, it goes with its socket, and every process in
/// the same network namespace may connect to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnixAddr(UnixName);

/// What a Unix socket is named by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UnixName {
    /// A file.
    Path(PathBuf),
    /// A name of the network namespace, without the zero that marks it.
    Abstract(Box<[u8]>),
}

/// Bytes that the system has room for: `sun_path`, see unix(7).
const ROOM: usize = if cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "illumos",
    target_os = "solaris"
)) {
    108
} else {
    104
};

impl UnixAddr {
    /// A path, whatever it begins with.
    #[must_use]
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self(UnixName::Path(path.into()))
    }

    /// An abstract name: any bytes, without the zero that marks it for the system.
    #[must_use]
    pub fn abstract_name(name: impl AsRef<[u8]>) -> Self {
        Self(UnixName::Abstract(name.as_ref().into()))
    }

    /// The path, if it is one.
    #[must_use]
    pub fn as_path(&self) -> Option<&Path> {
        match &self.0 {
            UnixName::Path(path) => Some(path),
            UnixName::Abstract(_) => None,
        }
    }

    /// The abstract name, if it is one.
    #[must_use]
    pub fn as_abstract_name(&self) -> Option<&[u8]> {
        match &self.0 {
            UnixName::Path(_) => None,
            UnixName::Abstract(name) => Some(name),
        }
    }

    pub(crate) fn name(&self) -> &UnixName {
        &self.0
    }

    /// Whether the system can take it for a name at all.
    pub(crate) fn check(&self) -> io::Result<()> {
        let bad = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        match &self.0 {
            UnixName::Path(path) => {
                let bytes = path.as_os_str().as_bytes();
                match bytes.len() {
                    0 => bad("the path is empty".to_owned()),
                    _ if bytes.contains(&0) => bad("a path has no zero byte in it".to_owned()),
                    count if count >= ROOM => bad(format!(
                        "the path has {count} bytes, and that of a Unix socket has at most {}; \
                         take a shorter one, or one that is relative to the working directory",
                        ROOM - 1
                    )),
                    _ => Ok(()),
                }
            }
            UnixName::Abstract(_) if !cfg!(any(target_os = "linux", target_os = "android")) => {
                let text = "abstract names are Linux's; give a path";
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
            UnixName::Abstract(name) => match name.len() {
                0 => bad("the name is empty".to_owned()),
                count if count >= ROOM => {
                    bad(format!("the name has {count} bytes; it may have at most {}", ROOM - 1))
                }
                _ => Ok(()),
            },
        }
    }
}

impl From<&str> for UnixAddr {
    fn from(text: &str) -> Self {
        match text.strip_prefix('@') {
            Some(name) => Self::abstract_name(name),
            None => Self::path(text),
        }
    }
}

impl From<String> for UnixAddr {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for UnixAddr {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<&Path> for UnixAddr {
    fn from(path: &Path) -> Self {
        Self::path(path)
    }
}

impl From<PathBuf> for UnixAddr {
    fn from(path: PathBuf) -> Self {
        Self::path(path)
    }
}

impl From<&PathBuf> for UnixAddr {
    fn from(path: &PathBuf) -> Self {
        Self::path(path)
    }
}

impl From<&Self> for UnixAddr {
    fn from(addr: &Self) -> Self {
        addr.clone()
    }
}

impl From<UnixAddr> for Destination {
    fn from(addr: UnixAddr) -> Self {
        Self::of_unix(addr)
    }
}

impl From<&UnixAddr> for Destination {
    fn from(addr: &UnixAddr) -> Self {
        Self::of_unix(addr.clone())
    }
}

/// The socket that a text of a configuration names, if it names one.
pub(crate) fn named(text: &str) -> Option<UnixAddr> {
    let name = text.strip_prefix("unix:").filter(|it| it.starts_with(['/', '.', '@']))?;
    Some(UnixAddr::from(name))
}

impl fmt::Display for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            UnixName::Path(path) => write!(f, "unix:{}", path.display()),
            UnixName::Abstract(name) => write!(f, "unix:@{}", name.escape_ascii()),
        }
    }
}

/// Options of a listening Unix socket.
///
/// # Examples
/// For the members of the socket's group, besides its owner:
/// ```
/// use waterwheel::unix::UnixListenOptions;
/// let options = UnixListenOptions::default().mode(Some(0o660)).max_connections(Some(100));
/// # let _ = options;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnixListenOptions {
    /// Permissions of the socket's file, such as `0o660`; users who may write to the file may
    /// connect. They hold before any client can connect. Default: what the process's umask leaves
    /// of `0o777`; with the usual umask only the owner may connect. An abstract name has none.
    pub mode: Option<u32>,
    /// Connections that the kernel may queue for us. Default: the largest the system takes. If
    /// the system caps it lower, both numbers are logged.
    pub backlog: Option<u32>,
    /// Limits of the accepted connections.
    pub limits: Limits,
    /// Max connections of this listener at once. Default: no cap but the reactor's.
    pub max_connections: Option<usize>,
    /// What to do with connections over a cap. Serving resumes when a tenth of the places is
    /// free again.
    pub at_capacity: AtCapacity,
    /// Max accepts a turn. Default [`DEFAULT_ACCEPT_BUDGET`].
    pub accept_budget: usize,
    /// What stands between the sockets and the handler.
    pub(crate) layer: Option<LayerOption>,
}

impl Default for UnixListenOptions {
    fn default() -> Self {
        Self {
            mode: None,
            backlog: None,
            limits: Limits::default(),
            max_connections: None,
            at_capacity: AtCapacity::Refuse,
            accept_budget: DEFAULT_ACCEPT_BUDGET,
            layer: None,
        }
    }
}

impl UnixListenOptions {
    setters! {
        mode: Option<u32>,
        backlog: Option<u32>,
        limits: Limits,
        max_connections: Option<usize>,
        at_capacity: AtCapacity,
        accept_budget: usize,
    }

    /// Sets [`Limits::all_idle`]: ends connections on which nothing moves for this long.
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.all_idle = Some(limit);
        self
    }

    /// What it has in common with a TCP listener.
    pub(crate) fn shared(&self) -> ListenOptions {
        ListenOptions {
            backlog: self.backlog,
            limits: self.limits.clone(),
            max_connections: self.max_connections,
            at_capacity: self.at_capacity,
            accept_budget: self.accept_budget,
            layer: self.layer.clone(),
            tcp: TcpOptions::default(),
            ..ListenOptions::default()
        }
    }

    pub(crate) fn check(&self) -> io::Result<()> {
        check_mode(self.mode)?;
        self.shared().check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_paths_or_abstract_names() {
        assert_eq!(UnixAddr::from("a/b").as_path(), Some(Path::new("a/b")));
        assert_eq!(UnixAddr::from("./@x").as_path(), Some(Path::new("./@x")));
        assert_eq!(UnixAddr::from("@x"), UnixAddr::abstract_name("x"));
        assert_eq!(UnixAddr::abstract_name("x").to_string(), "unix:@x");
        assert_eq!(UnixAddr::path("@x").to_string(), "unix:@x"); // shown alike, and not equal
    }

    #[test]
    fn names_that_the_system_cannot_take_are_told() {
        let text = |addr: UnixAddr| addr.check().unwrap_err().to_string();
        assert_eq!(text(UnixAddr::from("")), "the path is empty");
        assert_eq!(text(UnixAddr::from("a\0b")), "a path has no zero byte in it");
        let long = "x".repeat(ROOM);
        assert!(text(UnixAddr::from(long.as_str())).contains(&format!("has {ROOM} bytes")));
        assert!(UnixAddr::from(&long[1..]).check().is_ok());
    }
}
