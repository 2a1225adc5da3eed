//! What an outgoing connection still has to try: a lookup, several addresses, another round.
//!
//! Of several addresses the next one is begun when the one before has failed, or has not come up
//! for a while; the first that comes up wins (RFC 8305, "Happy Eyeballs Version 2"). It knows no
//! poll and no wheel: it is told the tick, and says when it wants to be looked at again.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A try to connect that has failed, with more to come: what
/// [`Handler::on_connect_retry`](crate::Handler::on_connect_retry) is told.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectRetry {
    /// Tries in a row that have failed. The loss of a connection counts as one.
    pub tries: u32,
    /// Why this one has failed: which address, and what the system says.
    pub error: io::Error,
    /// How long after the failure the next one begins.
    pub pause: Duration,
}

/// What a connection that is not up yet goes through.
#[derive(Debug)]
pub(crate) struct Connector<S> {
    /// What it is waiting for.
    pub(crate) stage: Stage,
    /// Addresses that have not been tried in this round, in order.
    pub(crate) untried: VecDeque<SocketAddr>,
    /// Attempts that are under way.
    pub(crate) attempts: Vec<Attempt<S>>,
    /// The tick of the next attempt or the next round; `u64::MAX` for none.
    pub(crate) next_at: u64,
    /// What has failed in this round.
    failures: Vec<Failure>,
    /// Rounds that have failed and are still to be reported to the handler.
    pub(crate) retries: VecDeque<ConnectRetry>,
}

/// What a connector is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The answer to a lookup.
    Resolving,
    /// Attempts.
    Trying,
    /// The next round.
    Pausing,
}

/// An attempt at one address.
#[derive(Debug)]
pub(crate) struct Attempt<S> {
    /// The address.
    pub(crate) addr: SocketAddr,
    /// Its socket.
    pub(crate) stream: S,
    /// Its place in the loop's table.
    pub(crate) slot: usize,
}

/// Why an address, or the lookup, was of no use.
#[derive(Debug)]
struct Failure {
    /// `None` for the lookup.
    addr: Option<SocketAddr>,
    error: io::Error,
}

impl<S> Connector<S> {
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::Pausing,
            untried: VecDeque::new(),
            attempts: Vec::new(),
            next_at: u64::MAX,
            failures: Vec::new(),
            retries: VecDeque::new(),
        }
    }

    /// A new round begins with nothing tried.
    pub(crate) fn begin_round(&mut self) {
        debug_assert!(self.attempts.is_empty());
        self.stage = Stage::Resolving;
        self.untried.clear();
        self.failures.clear();
        self.next_at = u64::MAX;
    }

    /// The addresses of this round are known.
    pub(crate) fn set_addresses(&mut self, addrs: &[SocketAddr], source: Option<SocketAddr>) {
        self.stage = Stage::Trying;
        let usable = addrs
            .iter()
            .filter(|addr| source.is_none_or(|source| source.is_ipv4() == addr.is_ipv4()));
        self.untried = in_turn(usable.copied());
        if self.untried.is_empty() {
            let text = match source {
                Some(source) if !addrs.is_empty() => {
                    format!("none of its addresses is of the family of the source {source}")
                }
                _ => "it has no address".to_owned(),
            };
            self.note(None, io::Error::new(io::ErrorKind::AddrNotAvailable, text));
        }
    }

    /// An address, or the lookup, was of no use.
    pub(crate) fn note(&mut self, addr: Option<SocketAddr>, error: io::Error) {
        self.failures.push(Failure { addr, error });
    }

    /// An attempt has failed as it did before, and goes on.
    #[cfg(unix)]
    pub(crate) fn note_again(&mut self, error: io::Error) {
        self.failures.clear();
        self.note(None, error);
    }

    /// The deadline has passed: what was waited for counts as failed.
    pub(crate) fn time_out(&mut self, limit: Duration) {
        let late = |what: &str| {
            io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {limit:?}"))
        };
        if self.stage == Stage::Resolving {
            self.note(None, late("its name was not resolved"));
        }
        for attempt in &self.attempts {
            let error = late("no answer");
            self.failures.push(Failure { addr: Some(attempt.addr), error });
        }
        for addr in self.untried.drain(..) {
            let error = late("not tried");
            self.failures.push(Failure { addr: Some(addr), error });
        }
    }

    /// Why the round has failed. A single address that `is_known` need not be named again.
    pub(crate) fn take_error(&mut self, is_known: bool) -> io::Error {
        let mut failures = std::mem::take(&mut self.failures);
        if failures.len() == 1 && (is_known || failures[0].addr.is_none()) {
            return failures.remove(0).error;
        }
        let Some(last) = failures.last() else {
            return io::Error::other("there was nothing to try");
        };
        io::Error::new(last.error.kind(), RoundError(failures))
    }
}

/// Every address of a round, and why it was of no use.
#[derive(Debug)]
struct RoundError(Vec<Failure>);

impl fmt::Display for RoundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Failure { addr, error }) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "; " })?;
            match addr {
                Some(addr) => write!(f, "{addr}: {error}")?,
                None => write!(f, "{error}")?,
            }
        }
        Ok(())
    }
}

impl Error for RoundError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.last().map(|failure| &failure.error as &(dyn Error + 'static))
    }
}

/// Each address once, IPv6 and IPv4 in turn and IPv6 first, within a family in the given order
/// (RFC 8305, section 4).
fn in_turn(addrs: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let mut families = [VecDeque::new(), VecDeque::new()];
    for addr in addrs {
        let family = &mut families[usize::from(addr.is_ipv4())];
        if !family.contains(&addr) {
            family.push_back(addr);
        }
    }
    let mut ordered = VecDeque::new();
    while families.iter().any(|family| !family.is_empty()) {
        ordered.extend(families.iter_mut().filter_map(VecDeque::pop_front));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_ipv6_is_first() {
        let given = ["1.0.0.1:1", "1.0.0.2:1", "[::1]:1", "1.0.0.1:1", "1.0.0.3:1", "[::2]:1"];
        let wanted = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "1.0.0.3:1"];
        assert_eq!(in_turn(addrs(&given).into_iter()), addrs(&wanted));
    }

    #[test]
    fn only_addresses_of_the_source_s_family_are_tried() {
        let mut connector = Connector::<()>::new();
        connector.begin_round();
        let given = addrs(&["[::1]:1", "1.0.0.1:1"]);
        connector.set_addresses(&given, Some("9.9.9.9:0".parse().unwrap()));
        assert_eq!(connector.untried, addrs(&["1.0.0.1:1"]));
        connector.set_addresses(&given[..1], Some("9.9.9.9:0".parse().unwrap()));
        assert!(connector.untried.is_empty());
        let text = connector.take_error(false).to_string();
        assert_eq!(text, "none of its addresses is of the family of the source 9.9.9.9:0");
        connector.set_addresses(&[], Some("9.9.9.9:0".parse().unwrap()));
        assert_eq!(connector.take_error(false).to_string(), "it has no address");
    }

    #[test]
    fn a_new_round_knows_nothing_of_the_one_before() {
        let mut connector = Connector::<()>::new();
        connector.set_addresses(&addrs(&["1.0.0.1:1"]), None);
        connector.note(None, io::ErrorKind::ConnectionRefused.into());
        connector.next_at = 7;
        connector.begin_round();
        assert_eq!((connector.stage, connector.next_at), (Stage::Resolving, u64::MAX));
        assert!(connector.untried.is_empty());
        assert_eq!(connector.take_error(false).to_string(), "there was nothing to try");
    }

    #[cfg(unix)]
    #[test]
    fn an_attempt_that_is_made_again_and_again_has_failed_once() {
        let mut connector = Connector::<()>::new();
        connector.note(None, io::ErrorKind::ConnectionRefused.into());
        connector.note_again(io::Error::other("full"));
        connector.note_again(io::Error::other("still full"));
        assert_eq!(connector.take_error(false).to_string(), "still full");
    }

    #[test]
    fn an_error_names_every_address_that_need_be_named() {
        let mut connector = Connector::<()>::new();
        let addr = addrs(&["1.0.0.1:1", "1.0.0.2:1"]);
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        connector.note(Some(addr[0]), refused());
        assert_eq!(connector.take_error(true).to_string(), "connection refused");
        connector.note(Some(addr[0]), refused());
        assert_eq!(connector.take_error(false).to_string(), "1.0.0.1:1: connection refused");
        connector.note(Some(addr[0]), refused());
        connector.attempts.push(Attempt { addr: addr[1], stream: (), slot: 0 });
        connector.stage = Stage::Trying;
        connector.time_out(Duration::from_secs(3));
        let error = connector.take_error(false);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let text = "1.0.0.1:1: connection refused; 1.0.0.2:1: no answer within 3s";
        assert_eq!(error.to_string(), text);
        assert_eq!(error.source().unwrap().to_string(), "no answer within 3s");
    }
}
