//! What only Unix has: sockets with names, a descriptor that asks to drain, a service manager.

mod datagram;
mod drain;
#[cfg(feature = "systemd")]
mod systemd;

use std::io;

use crate::handler::{Handler, HandlerKey, Loop};
use crate::options::{UnixAddr, UnixListenOptions};
use crate::reactor::Reactor;

impl Reactor {
    /// Binds a Unix socket and serves it with a handler; returns its name.
    ///
    /// The file of a path gets its mode before any client can connect. It is removed when the
    /// listener closes, unless something else has taken its place. A socket file that a dead server
    /// has left there is removed first. To find out whether the server lives, this call connects to
    /// the path, so a live server sees a connection that ends at once. No other file is ever
    /// removed.
    ///
    /// If two servers start for the same path at the same moment, one of them fails, as far as the
    /// system allows to detect that. A program that must be sure needs a lock of its own.
    ///
    /// # Examples
    /// A server for the processes of the same user:
    /// ```
    /// use waterwheel::unix::UnixListenOptions;
    /// use waterwheel::{Conn, Handler, Peer, Reactor};
    ///
    /// struct Echo { user: u32 }
    ///
    /// impl Handler for Echo {
    ///     type State = ();
    ///
    ///     fn on_accept(&mut self, peer: &Peer) -> Option<()> {
    ///         peer.credentials.filter(|who| who.uid == self.user).map(|_| ())
    ///     }
    ///
    ///     fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
    ///         conn.write(input);
    ///         input.len()
    ///     }
    /// }
    ///
    /// let mut reactor = Reactor::new()?;
    /// let echo = reactor.register(Echo { user: 1000 });
    /// # let path = std::env::temp_dir().join(format!("ww-doc-{}.sock", std::process::id()));
    /// let options = UnixListenOptions::default().mode(Some(0o600));
    /// let addr = reactor.listen_unix(&path, echo, options)?;
    /// println!("listening on {addr}");
    /// # drop(reactor);
    /// # assert!(!path.exists());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// - `InvalidInput`: an option is out of range, or the system cannot take the name: a path
    ///   has at most 107 bytes on Linux, and less elsewhere.
    /// - `AddrInUse`: another socket listens there, or there is something that is no socket.
    /// - `Unsupported`: an abstract name elsewhere than on Linux, or a simulated world.
    /// - `Other`: the reactor is stopping.
    /// - `NotFound`, `PermissionDenied` and others of the system.
    ///
    /// # Platform notes
    /// Unix only.
    pub fn listen_unix<H: Handler>(
        &mut self,
        addr: impl Into<UnixAddr>,
        handler: HandlerKey<H>,
        options: UnixListenOptions,
    ) -> io::Result<UnixAddr> {
        self.serve_streams(handler)?;
        let Loop { streams, engine, .. } = &mut self.dispatcher.lp;
        streams.listen_unix(engine, addr.into(), handler.index(), &options)
    }

    /// Serves a Unix socket that is bound and set to listen already; returns its name. The options
    /// `mode` and `backlog` do not apply, and its file is left alone at the end.
    ///
    /// # Errors
    /// - `InvalidInput`: an option is out of range, or the socket is not bound.
    /// - `Unsupported`: in a simulated world.
    /// - `Other`: the reactor is stopping.
    ///
    /// # Platform notes
    /// Unix only.
    pub fn adopt_unix<H: Handler>(
        &mut self,
        listener: std::os::unix::net::UnixListener,
        handler: HandlerKey<H>,
        options: UnixListenOptions,
    ) -> io::Result<UnixAddr> {
        self.serve_streams(handler)?;
        let Loop { streams, engine, .. } = &mut self.dispatcher.lp;
        streams.adopt_unix(engine, listener, handler.index(), &options)
    }
}
