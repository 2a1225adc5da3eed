//! Datagrams of Unix sockets: how they are served.

use std::io;

use crate::base::id::SocketId;
use crate::handler::HandlerKey;
use crate::handler::datagram::unix::UnixDatagramHandler;
use crate::options::{UnixAddr, UnixDatagramOptions};
use crate::reactor::Reactor;

impl Reactor {
    /// Binds a Unix socket for datagrams and serves it with a handler of them; returns its id.
    ///
    /// The file of a path is made and removed as by [`listen_unix`](Self::listen_unix). A file that
    /// a dead server has left there is removed first. The mode is set before any sender can send.
    /// The file is removed when the socket is closed or the reactor is dropped, unless another file
    /// has taken its place.
    ///
    /// # Examples
    /// An echo server for clients whose sockets have a name:
    /// ```no_run
    /// use waterwheel::unix::{UnixAddr, UnixDatagramOptions, UnixDatagramSocket};
    /// use waterwheel::Reactor;
    ///
    /// let mut reactor = Reactor::new()?;
    /// let echo = reactor.register(
    ///     |socket: &mut UnixDatagramSocket<'_>, from: Option<&UnixAddr>, bytes: &[u8]| {
    ///         if let Some(from) = from {
    ///             socket.send_to(from, bytes);
    ///         }
    ///     },
    /// );
    /// reactor.bind_unix_datagrams("/run/echo.sock", echo, UnixDatagramOptions::default())?;
    /// reactor.run()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    /// A collector of metrics, to which every user may send, and which never answers:
    /// ```
    /// use waterwheel::unix::{UnixAddr, UnixDatagramOptions, UnixDatagramSocket};
    /// use waterwheel::Reactor;
    ///
    /// let mut reactor = Reactor::new()?;
    /// let collector = reactor.register(
    ///     |_: &mut UnixDatagramSocket<'_>, _: Option<&UnixAddr>, metric: &[u8]| {
    ///         println!("{}", metric.escape_ascii());
    ///     },
    /// );
    /// # let path = std::env::temp_dir().join(format!("ww-doc-bind-{}.sock", std::process::id()));
    /// let options = UnixDatagramOptions::default().mode(Some(0o666));
    /// reactor.bind_unix_datagrams(&path, collector, options)?;
    /// # drop(reactor);
    /// # assert!(!path.exists());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// - `InvalidInput`: an option is out of range, the system cannot take the name (a path has at
    ///   most 107 bytes on Linux, and less elsewhere), or the key is of another reactor.
    /// - `AddrInUse`: another socket receives there, or the path is of a file that is no socket.
    /// - `Unsupported`: an abstract name, or an option that only Linux has, on another system; or
    ///   the world is simulated.
    /// - `Other`: the reactor is stopping.
    /// - `NotFound`, `PermissionDenied` and others of the system.
    ///
    /// # Platform notes
    /// Unix only. Elsewhere than on Linux and Android the file has for a moment the mode that the
    /// umask leaves, and `mode` after that.
    pub fn bind_unix_datagrams<H: UnixDatagramHandler>(
        &mut self,
        addr: impl Into<UnixAddr>,
        handler: HandlerKey<H>,
        options: UnixDatagramOptions,
    ) -> io::Result<SocketId> {
        self.check_handler(handler)?;
        self.context().bind_unix_datagrams(addr, handler, &options)
    }

    /// Makes a Unix socket for datagrams with one peer and serves it with a handler of them;
    /// returns its id. The handler gets only the peer's datagrams, and `send` needs no name. The
    /// peer can answer if the socket has a name of its own: `source`, or on Linux `autobind`.
    ///
    /// The peer is the socket that has the name `to` at the time of this call. If the peer ends,
    /// the next `send` connects to the socket that has the name by then, which is the peer from
    /// then on. Datagrams that have not been handed over at that `send` are thrown away.
    ///
    /// # Examples
    /// Telling the service manager that this process is ready, as sd_notify(3) does:
    /// ```
    /// use waterwheel::unix::{UnixAddr, UnixDatagramOptions, UnixDatagramSocket};
    /// use waterwheel::Reactor;
    ///
    /// let mut reactor = Reactor::new()?;
    /// if let Ok(manager) = std::env::var("NOTIFY_SOCKET") {
    ///     let quiet = |_: &mut UnixDatagramSocket<'_>, _: Option<&UnixAddr>, _: &[u8]| {};
    ///     let quiet = reactor.register(quiet);
    ///     let options = UnixDatagramOptions::default();
    ///     let id = reactor.connect_unix_datagrams(manager, quiet, options)?;
    ///     if let Some(mut socket) = reactor.context().unix_socket(id) {
    ///         socket.send(b"READY=1");
    ///     }
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// - Those of [`bind_unix_datagrams`](Self::bind_unix_datagrams), for `source` too.
    /// - `ConnectionRefused`, `NotFound`: no socket is there.
    /// - `PermissionDenied`: the mode of its file forbids it, or it is connected to another peer.
    ///
    /// # Platform notes
    /// Unix only.
    /// - Linux lets only the peer send to this socket; others get `PermissionDenied` (`EPERM`).
    ///   From the first `send` that finds the peer gone until one that reaches a peer, any socket
    ///   can send. The handler gets nothing of that.
    /// - macOS and the BSDs let any socket send to this one. A datagram is handed over if the name
    ///   of its sender is that of the peer. A socket that was given the same name, as a former
    ///   owner of the path, is not told apart. Against that the mode of the file of `source` helps,
    ///   or that of its directory.
    pub fn connect_unix_datagrams<H: UnixDatagramHandler>(
        &mut self,
        to: impl Into<UnixAddr>,
        handler: HandlerKey<H>,
        options: UnixDatagramOptions,
    ) -> io::Result<SocketId> {
        self.check_handler(handler)?;
        self.context().connect_unix_datagrams(to, handler, &options)
    }
}
