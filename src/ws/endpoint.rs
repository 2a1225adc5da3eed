//! The server's side of the handshake.

use std::fmt;
use std::rc::Rc;

use crate::ws::handshake::{Answer, Refused, check_request};
use crate::ws::shared::Shared;
use crate::ws::wire::Wire;
use crate::ws::{Options, Session, Stats};

/// The server's side of the handshake: the options of its WebSockets, and their counters. Clones
/// share both. With the feature `http` a route calls `upgrade`.
#[derive(Clone)]
pub struct Endpoint {
    shared: Rc<Shared>,
}

impl Endpoint {
    /// An endpoint with these options.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { shared: Rc::new(Shared::new(options)) }
    }

    /// What its WebSockets have done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Checks a request, for a server that speaks HTTP by itself; [`accept`](Self::accept) is for
    /// one that does not. That server must check that the
    /// request is HTTP/1.1, has one `Host` and has no body. It must also check `Origin`, and answer
    /// 403, unless pages of other sites may connect with the cookies of their visitors.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::ws::{Endpoint, Options};
    ///
    /// let endpoint = Endpoint::new(Options::default());
    /// let fields: [(&str, &[u8]); 4] = [
    ///     ("Connection", b"Upgrade"),
    ///     ("Upgrade", b"websocket"),
    ///     ("Sec-WebSocket-Version", b"13"),
    ///     ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    /// ];
    /// let accepted = endpoint.check("GET", &fields).expect("it is in order");
    /// let accept = accepted.fields().find(|(name, _)| *name == "Sec-WebSocket-Accept");
    /// assert_eq!(accept.unwrap().1, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    /// let session = accepted.session(()); // once the 101 is written
    /// # let _ = session;
    /// ```
    ///
    /// # Errors
    /// - The status to answer with, and what is wrong.
    pub fn check(&self, method: &str, fields: &[(&str, &[u8])]) -> Result<Accepted, Refused> {
        match check_request(method, fields, &self.shared.options) {
            Ok(answer) => Ok(Accepted { shared: Rc::clone(&self.shared), answer }),
            Err(refused) => {
                self.shared.count(|stats| stats.refused += 1);
                Err(refused)
            }
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Endpoint");
        text.field("options", &self.shared.options).field("stats", &self.stats()).finish()
    }
}

/// A request for a WebSocket that is in order.
pub struct Accepted {
    shared: Rc<Shared>,
    answer: Answer,
}

impl Accepted {
    /// The fields of the 101, `Upgrade` and `Connection` among them.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Answer { accept, extensions, .. } = &self.answer;
        let fixed = [("Upgrade", "websocket"), ("Connection", "Upgrade")];
        let accept = [("Sec-WebSocket-Accept", &**accept)];
        let protocol = self.protocol().map(|name| ("Sec-WebSocket-Protocol", name));
        let extensions = extensions.as_ref().map(|text| ("Sec-WebSocket-Extensions", &**text));
        fixed.into_iter().chain(accept).chain(protocol).chain(extensions)
    }

    /// The subprotocol that is agreed on.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        let place = usize::from(self.answer.agreed.protocol?);
        self.shared.options.protocols.get(place).map(String::as_str)
    }

    /// Whether the endpoint has subprotocols, and the client has offered none of them.
    pub(super) fn lacks_protocol(&self) -> bool {
        self.protocol().is_none() && !self.shared.options.protocols.is_empty()
    }

    /// The WebSocket, to be served from when the 101 is written.
    #[must_use]
    pub fn session<S: 'static>(self, state: S) -> Session<S> {
        Session::new(state, Wire::new(self.shared, self.answer.agreed, false))
    }
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("protocol", &self.protocol()).finish_non_exhaustive()
    }
}
