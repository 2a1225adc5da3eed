//! The client: requests over a pool of kept connections.

mod answer;
mod call;
mod collect;
mod error;
#[cfg_attr(not(feature = "http-gzip"), path = "gunzip_stub.rs")]
mod gunzip;
mod head;
mod job;
mod known;
mod location;
mod options;
mod redirects;
mod upload;
mod wire;

use std::fmt;
use std::io;

pub use answer::{Answer, AnswerReader};
pub use call::Call;
pub use error::{CallPhase, ClientError};
pub use options::ClientOptions;
pub use redirects::Redirects;
pub use upload::Upload;

use crate::handler::{Context, HandlerKey};
use crate::options::Destination;
use crate::pool::{Pool, PoolStats};
use crate::reactor::Reactor;
use collect::Collect;
use job::Job;
use wire::Wire;

/// An HTTP/1.1 client of one destination: requests over a [`Pool`](crate::pool::Pool) of kept
/// connections. A `Client` is only a key: copy it into every closure of its reactor.
///
/// # Guarantees
/// - Each call is answered once: by an [`Answer`], or by a [`ClientError`]. If a closure of it
///   panics before, that is [`ClientError::Lost`].
/// - A request is sent again, at most once, if its method allows that (GET does, POST does not) and
///   a connection that had been idle ended before the first byte of an answer, or with a 408. This
///   happens when a server closes an idle connection at the moment when the request is sent. One
///   of [`min_idle`](crate::pool::PoolOptions::min_idle) was idle, too, before its first request.
/// - An answer that two readers could understand differently is an error, and its connection ends.
/// - An answer that was cut off is an error, and never a shorter answer.
/// - A redirection is an answer like any other; [`Redirects`] follows them.
///
/// # Examples
/// ```no_run
/// use waterwheel::Reactor;
/// use waterwheel::http::{Call, Client, ClientOptions};
///
/// let mut reactor = Reactor::new()?;
/// let client = Client::register(&mut reactor, "127.0.0.1:8080", ClientOptions::default())?;
/// client.send(&mut reactor.context(), Call::get("/user/42"), |answer, cx| {
///     match answer {
///         Ok(answer) => println!("{}: {}", answer.status(), answer.text()),
///         Err(error) => eprintln!("{error}"),
///     }
///     cx.stop();
/// });
/// reactor.run()?;
/// # Ok::<(), std::io::Error>(())
/// ```
/// A client of a server that speaks HTTPS; the destination has the port, and the name is the one
/// that the server's certificate must have:
#[cfg_attr(feature = "tls", doc = "```no_run")]
#[cfg_attr(not(feature = "tls"), doc = "```ignore")]
/// use waterwheel::http::{Client, ClientOptions};
/// use waterwheel::pool::PoolOptions;
/// use waterwheel::tls::ClientConfig;
/// use waterwheel::{ConnectOptions, Reactor};
///
/// let tls = ClientConfig::with_platform_roots()?;
/// let connect = ConnectOptions::default().tls(&tls, "example.org");
/// let options = ClientOptions::default()
///     .pool(PoolOptions::default().connect(connect))
///     .host(Some("example.org".to_owned()));
/// let mut reactor = Reactor::new()?;
/// let client = Client::register(&mut reactor, "example.org:443", options)?;
/// # let _ = client;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Client {
    pool: HandlerKey<Pool<Wire>>,
    max_body_bytes: usize,
}

impl Client {
    /// Registers a client of one destination. A connection is made when the first call needs it.
    ///
    /// # Errors
    /// - `InvalidInput`: an option is out of range, or the text is no destination.
    pub fn register(
        reactor: &mut Reactor,
        to: impl Into<Destination>,
        options: ClientOptions,
    ) -> io::Result<Self> {
        let to = to.into();
        let host = options.host.clone().unwrap_or_else(|| without_zone(to.to_string()));
        if !super::target::is_host(host.as_bytes()) {
            let text = match options.host {
                Some(_) => format!("{host:?} is no value of Host: give ClientOptions::host a name"),
                None => format!(
                    "{to} says no value of Host: give \"host:port\", or set ClientOptions::host"
                ),
            };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let (pool, max_body_bytes) = (options.pool.clone(), options.max_body_bytes);
        let pool = Pool::register(reactor, Wire::new(&host, options), to, pool)?;
        Ok(Self { pool, max_body_bytes })
    }

    /// Sends a request, and collects the body of the answer, of at most
    /// [`max_body_bytes`](ClientOptions::max_body_bytes). The closure is called once.
    pub fn send(
        self,
        cx: &mut Context<'_>,
        call: Call,
        then: impl FnOnce(Result<Answer<'_>, ClientError>, &mut Context<'_>) + 'static,
    ) {
        let reader = Collect::new(&call, self.max_body_bytes, then);
        self.stream(cx, call, reader);
    }

    /// Sends a request. `reader` gets the answer piece by piece, as it comes in. For an example see
    /// [`AnswerReader`].
    pub fn stream(self, cx: &mut Context<'_>, call: Call, reader: impl AnswerReader) {
        let mut job = Box::new(Job::new(call, Box::new(reader)));
        cx.post(self.pool, |pool, cx| match job.call.take_invalid() {
            Some(error) => job.reader.on_error(ClientError::Invalid(error), cx),
            None => {
                pool.request(job, cx);
            }
        });
    }

    /// What its pool has done, for a closure that is called with it.
    pub fn stats(
        self,
        cx: &mut Context<'_>,
        then: impl FnOnce(PoolStats, &mut Context<'_>) + 'static,
    ) {
        cx.post(self.pool, |pool, cx| then(pool.stats(), cx));
    }

    /// Ends idle connections, and refuses calls from now on; those that go on are finished.
    pub fn close(self, cx: &mut Context<'_>) {
        cx.post(self.pool, |pool, cx| pool.enter(cx, |_, desk, _| desk.close()));
    }
}

/// Leaves the zone out of an IPv6 address: it has a meaning on this host alone, and servers refuse
/// a `Host` with one (RFC 6874, 4).
fn without_zone(mut host: String) -> String {
    if let (Some(start), Some(end)) = (host.find('%'), host.find(']')) {
        if host.starts_with('[') && start < end {
            host.replace_range(start..end, "");
        }
    }
    host
}

/// Reads a head as that of an answer, which never panics.
#[cfg(any(test, fuzzing))]
pub(super) fn read_answer_head(bytes: &[u8]) {
    let length_of = |bytes| {
        let mut slots = [const { std::mem::MaybeUninit::uninit() }; super::head::MAX_FIELDS];
        let (answer, length) = head::parse(bytes, super::Method::Get, &mut slots).ok()??;
        assert!((100..=999).contains(&answer.status));
        Some(length)
    };
    let Some(length) = length_of(bytes) else { return };
    assert!(length <= bytes.len() && bytes[..length].ends_with(b"\r\n\r\n"));
    assert_eq!(length_of(&bytes[..length]), Some(length));
}

impl Clone for Client {
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for Client {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.pool).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::without_zone;

    #[test]
    fn a_zone_is_left_out_of_the_host() {
        for (to, host) in [
            ("[fe80::1%eth0]:80", "[fe80::1]:80"),
            ("[fe80::1%3]:8080", "[fe80::1]:8080"),
            ("[fe80::1]:80", "[fe80::1]:80"),
            ("[::1", "[::1"),
            ("a%b]:80", "a%b]:80"),
            ("example.net:80", "example.net:80"),
        ] {
            assert_eq!(without_zone(to.to_owned()), host);
        }
    }
}
