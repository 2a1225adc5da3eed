//! Names become addresses while the loop turns.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::handler::Context;
use crate::handler::HandlerKey;
use crate::handler::context::task_for;
use crate::handler::event_loop::Message;
use crate::options::{Destination, Place};

impl Context<'_> {
    /// Looks a name up without waiting. `answer` is called on this thread, after this callback has
    /// returned, with the handler and the addresses or an error. If `of` is an address already,
    /// `answer` gets it in the same way. The closure is not called once the reactor has stopped.
    ///
    /// [`connect`](Self::connect) looks names up by itself. This call is for programs that need the
    /// addresses: to send datagrams, to choose among them, to compare them with the address of a
    /// peer. [`Destination`] describes how names are looked up, how long an answer is kept, and
    /// what the kind of an error means. The system decides how long a lookup may take; to go on
    /// without an answer, set a timer. A `filter` of [`ConnectOptions`](crate::ConnectOptions) does
    /// not apply here: call [`DestinationFilter::admits`](crate::filter::DestinationFilter::admits)
    /// for each address.
    ///
    /// # Examples
    /// A client of a datagram protocol, which has a name for its server:
    /// ```
    /// use std::net::SocketAddr;
    /// use waterwheel::udp::{DatagramHandler, DatagramSocket, UdpOptions};
    /// use waterwheel::{HandlerKey, Reactor};
    ///
    /// struct Clock;
    ///
    /// impl DatagramHandler for Clock {
    ///     fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, from: SocketAddr, time: &[u8]) {
    ///         println!("{from}: {}", time.escape_ascii());
    ///     }
    /// }
    ///
    /// fn ask(reactor: &mut Reactor, clock: HandlerKey<Clock>, server: &str) {
    ///     reactor.resolve((server, 37), clock, move |_, cx, addrs| {
    ///         let asked = addrs.and_then(|addrs| {
    ///             let (id, _) = cx.connect_udp(addrs, clock, &UdpOptions::default())?;
    ///             Ok(cx.socket(id).map(|mut socket| socket.send(b"")))
    ///         });
    ///         if let Err(error) = asked {
    ///             eprintln!("no time: {error}");
    ///         }
    ///     });
    /// }
    /// ```
    pub fn resolve<H: 'static>(
        &mut self,
        of: impl Into<Destination>,
        handler: HandlerKey<H>,
        answer: impl FnOnce(&mut H, &mut Context<'_>, io::Result<Vec<SocketAddr>>) + Send + 'static,
    ) {
        let of = of.into();
        if let Some(known) = of.known_addrs() {
            return self.post(handler, move |handler, cx| answer(handler, cx, known));
        }
        let Place::Name { host, port } = of.place() else { return };
        let index = handler.index();
        let lp = self.event_loop();
        let mailbox = Arc::clone(&lp.posts.mailbox);
        let done = move |result| {
            let task = task_for::<H>(move |handler, cx| answer(handler, cx, result));
            // A reactor that is gone waits for nothing.
            mailbox.post(Message::Run(index, Box::new(task)));
        };
        lp.engine.io.world().resolve(host, *port, Box::new(done));
    }
}

/// The addresses of a destination for a call that cannot wait.
pub(super) fn without_lookup(to: impl Into<Destination>) -> io::Result<Vec<SocketAddr>> {
    let to = to.into();
    to.known_addrs().unwrap_or_else(|| {
        let text = format!("{to} is a name; look it up first, with resolve: no callback waits");
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    })
}

/// Tries one address after the other; what the last one said if none will do.
pub(crate) fn first_of<T>(
    addrs: &[SocketAddr],
    mut attempt: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for &addr in addrs {
        match attempt(addr) {
            Ok(done) => return Ok(done),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
