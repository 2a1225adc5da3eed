//! Names become addresses before the loop turns.

use std::io;
use std::net::SocketAddr;

use crate::handler::{Context, HandlerKey};
use crate::options::{Destination, Place};
use crate::reactor::Reactor;
use crate::sys::interface_addr;

impl Reactor {
    /// The addresses of a destination. A name is looked up with the system's resolver, and this
    /// thread waits for the answer: for the time before the loop turns. A callback uses
    /// [`Context::resolve`], which does not wait.
    ///
    /// # Errors
    /// - `InvalidInput`: the text is neither an address nor a name with a port, or names a Unix
    ///   socket.
    /// - `NotFound`, `TimedOut`, `Other`: the lookup failed; [`Destination`] says what each means.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::Reactor;
    ///
    /// let reactor = Reactor::new()?;
    /// let addrs = reactor.resolve_now(("127.0.0.1", 80))?;
    /// assert_eq!(addrs, ["127.0.0.1:80".parse().unwrap()]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn resolve_now(&self, of: impl Into<Destination>) -> io::Result<Vec<SocketAddr>> {
        let of = of.into();
        if let Some(known) = of.known_addrs() {
            return known;
        }
        match of.place() {
            Place::Name { host, port } if host.contains('%') => {
                Ok(vec![interface_addr(host, *port)?])
            }
            Place::Name { host, port } => {
                self.event_loop().engine.io.world().resolve_now(host, *port)
            }
            _ => Ok(Vec::new()), // it is not a name
        }
    }

    /// Looks a name up while the loop turns, as [`Context::resolve`] does.
    pub fn resolve<H: 'static>(
        &mut self,
        of: impl Into<Destination>,
        handler: HandlerKey<H>,
        answer: impl FnOnce(&mut H, &mut Context<'_>, io::Result<Vec<SocketAddr>>) + Send + 'static,
    ) {
        self.context().resolve(of, handler, answer);
    }
}
