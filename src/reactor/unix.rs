//! Unix sockets: how they are served, and the straight way of their messages.

use crate::id::ConnId;
use crate::reactor::dispatch::Dispatcher;
use crate::sys::Event;

#[cfg(unix)]
use {
    crate::handler::{Handler, Service},
    crate::options::{UnixAddr, UnixListenOptions},
    crate::reactor::Reactor,
    std::io,
};

impl Dispatcher {
    /// An event that is no message of a plain TCP connection. Kept out of the way of those that
    /// are.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[inline(never)]
    pub(super) fn on_other_io(&mut self, id: ConnId, event: Event<'_>) {
        let connection = &self.engine.connections[id.index()];
        let is_message = connection.profile.is_unix && event.is_plain();
        // Where edges are emulated mio must see each read.
        if is_message && connection.stream.short_means_done() && connection.looks_plain() {
            self.on_unix_message(id);
        } else {
            self.on_any_io(id, event.readiness());
        }
    }

    /// An event that is no message of a plain TCP connection.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn on_other_io(&mut self, id: ConnId, event: Event<'_>) {
        self.on_any_io(id, event.readiness());
    }

    /// A message for a Unix socket with nothing unusual about it: one read, callback, write.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn on_unix_message(&mut self, id: ConnId) {
        use crate::connection::Received;
        let Self { engine, buffer, .. } = self;
        let connection = &mut engine.connections[id.index()];
        let (count, is_cut) = match connection.stream.receive_noting(buffer) {
            Ok((count, is_cut)) => (Ok(count), is_cut),
            Err(error) => (Err(error), true),
        };
        match Received::of(count) {
            Some(Received::Bytes(count)) if count < buffer.len() && !is_cut => {
                connection.read_at = engine.now;
                let profile = &*connection.profile;
                let (state, service, room) = (connection.state, profile.service, profile.cork_room);
                self.answer(id, count, state, service, room);
            }
            Some(received) => {
                connection.may_read = true;
                self.go_on_reading(id, received);
            }
            None => {
                connection.may_read = true;
                self.read(id);
            }
        }
    }
}

#[cfg(unix)]
impl Reactor {
    /// Binds a Unix socket and serves it with a handler; gives its name.
    ///
    /// A path is made, with its mode, before anybody can connect, and is removed when the
    /// listener closes, unless something else has taken its place. What a server has left behind
    /// there that ended without that is removed first: a socket file on which nobody listens. To
    /// find that out it is connected to, so a server that lives sees one more connection, which
    /// ends at once. Nothing else is ever removed.
    ///
    /// Two servers that start for the same path at the same moment are told apart as far as the
    /// system allows; who must be sure keeps a lock of their own.
    ///
    /// # Examples
    /// A server for the processes of the same user:
    /// ```
    /// use waterwheel::{Conn, Handler, Peer, Reactor, UnixListenOptions};
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
    /// - `AddrInUse`: somebody listens there, or there is something that is no socket.
    /// - `Unsupported`: an abstract name elsewhere than on Linux, or a simulated world.
    /// - `Other`: the reactor is stopping.
    /// - `NotFound`, `PermissionDenied` and others of the system.
    ///
    /// # Platform notes
    /// Unix only.
    pub fn listen_unix<H: Handler>(
        &mut self,
        addr: impl Into<UnixAddr>,
        service: Service<H>,
        options: UnixListenOptions,
    ) -> io::Result<UnixAddr> {
        self.check_service(service)?;
        self.dispatcher.engine.listen_unix(addr.into(), service.index(), &options)
    }

    /// Serves a Unix socket that somebody else has bound and set to listen; gives its name. Of
    /// the options `mode` and `backlog` do not apply, and its file is left alone at the end.
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
        service: Service<H>,
        options: UnixListenOptions,
    ) -> io::Result<UnixAddr> {
        self.check_service(service)?;
        self.dispatcher.engine.adopt_unix(listener, service.index(), &options)
    }
}
