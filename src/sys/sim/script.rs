//! Scripts of peers, and where a peer is in its own.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::datagram_peer::Responder;
use super::link::Link;

/// What a simulated peer does, step by step.
///
/// A step begins when the one before it is done. Meanwhile the peer reads whatever comes, unless
/// `stop_reading` came before. When the last step is done the peer goes on reading and waits for
/// the other side to end.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use waterwheel::sim::Script;
///
/// let script = Script::new().send("hello\n").read(6).wait(Duration::from_secs(1)).finish();
/// assert_eq!(script.len(), 4);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub(super) steps: VecDeque<Action>,
}

/// A step of a script.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Send(Vec<u8>),
    Dribble(Vec<u8>, Duration),
    Wait(Duration),
    Read(usize),
    ReadEnd,
    React(React),
    StopReading,
    ResumeReading,
    Finish,
    Close,
    Reset,
}

/// Looks at bytes that have come in.
type Look = dyn Fn(&[u8]) -> Reaction;

/// What a peer makes of the bytes that have come in.
#[derive(Clone)]
pub(super) struct React(Rc<Look>);

impl React {
    pub(super) fn look(&self, input: &[u8]) -> Reaction {
        (self.0)(input)
    }
}

impl fmt::Debug for React {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("React")
    }
}

/// What [`Script::react`] does next.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reaction {
    /// Wait for more bytes.
    Wait,
    /// So many bytes are done with: take these steps, then look at the rest.
    Then(usize, Script),
    /// So many bytes are done with, and so is this step of the script.
    Done(usize),
}

impl Script {
    /// A script without steps: the peer reads.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many steps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is no step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn then(mut self, action: Action) -> Self {
        self.steps.push_back(action);
        self
    }

    /// Sends bytes, as fast as they are taken.
    #[must_use]
    pub fn send(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.then(Action::Send(bytes.into()))
    }

    /// Sends bytes one by one, with a pause before each.
    #[must_use]
    pub fn dribble(self, bytes: impl Into<Vec<u8>>, pause: Duration) -> Self {
        self.then(Action::Dribble(bytes.into(), pause))
    }

    /// Does nothing for a while.
    #[must_use]
    pub fn wait(self, time: Duration) -> Self {
        self.then(Action::Wait(time))
    }

    /// Waits until so many bytes have come in all.
    #[must_use]
    pub fn read(self, total: usize) -> Self {
        self.then(Action::Read(total))
    }

    /// Waits until the other side has ended.
    #[must_use]
    pub fn read_to_end(self) -> Self {
        self.then(Action::ReadEnd)
    }

    /// Reacts to what comes in: `react` is lent all bytes that no reaction is done with yet, in
    /// order, and says what to do. It is called again whenever more have come in, and after the
    /// steps of its last answer. The step ends with [`Reaction::Done`], or when the other side has
    /// ended and `react` waits for more. Bytes may come in pieces of any size, as in the real
    /// world.
    ///
    /// A peer that listens has a reaction of its own for each connection only as far as the bytes
    /// tell: what `react` captures is shared by all. It must not touch the simulation.
    ///
    /// # Panics
    /// The run panics if `react` is done with more bytes than there are, or answers neither with
    /// a byte nor with a step.
    ///
    /// # Examples
    /// A peer that confirms each message by its number, the first byte of two:
    /// ```
    /// use std::time::Duration;
    /// use waterwheel::{Conn, ListenOptions};
    /// use waterwheel::sim::{Faults, Reaction, Script, Simulation};
    ///
    /// let mut sim = Simulation::new(1, Faults::harmless());
    /// let (_, addr) = sim.host("server", |reactor| {
    ///     let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
    ///         conn.write(input);
    ///         input.len()
    ///     });
    ///     reactor.listen("0.0.0.0:7000", echo, ListenOptions::default())
    /// })?;
    /// let confirms = |input: &[u8]| match *input {
    ///     [9, _, ..] => Reaction::Done(2),
    ///     [number, _, ..] => Reaction::Then(2, Script::new().send([number + 1, 0])),
    ///     _ => Reaction::Wait,
    /// };
    /// let peer = sim.peer(addr, Script::new().send([1, 0]).react(confirms).finish());
    /// sim.run(Duration::from_secs(60));
    /// assert_eq!(sim.received(peer).iter().step_by(2).max(), Some(&9));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn react(self, react: impl Fn(&[u8]) -> Reaction + 'static) -> Self {
        self.then(Action::React(React(Rc::new(react))))
    }

    /// Reads no more.
    #[must_use]
    pub fn stop_reading(self) -> Self {
        self.then(Action::StopReading)
    }

    /// Reads again.
    #[must_use]
    pub fn resume_reading(self) -> Self {
        self.then(Action::ResumeReading)
    }

    /// Sends FIN, and goes on reading.
    #[must_use]
    pub fn finish(self) -> Self {
        self.then(Action::Finish)
    }

    /// Closes the socket.
    #[must_use]
    pub fn close(self) -> Self {
        self.then(Action::Close)
    }

    /// Resets the connection.
    #[must_use]
    pub fn reset(self) -> Self {
        self.then(Action::Reset)
    }
}

/// How a peer's connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerEnd {
    /// The connection has not ended.
    Open,
    /// The other side has sent FIN.
    Finished,
    /// The connection was reset, or could not be made.
    Broken,
    /// The peer has closed it.
    Closed,
}

/// A peer and where it is in its script.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(super) socket: Option<u32>,
    pub(super) steps: VecDeque<Action>,
    /// Bytes of the current step that are sent.
    pub(super) sent: usize,
    /// When the current step's pause is over.
    pub(super) until: Option<u64>,
    pub(super) is_reading: bool,
    pub(crate) received: Vec<u8>,
    /// How many of the received bytes reactions are done with.
    pub(super) done: usize,
    pub(crate) end: PeerEnd,
    pub(super) link: Link,
    /// Of a listening peer: what each connection does.
    pub(super) script: Option<Script>,
    pub(super) addr: SocketAddr,
    /// Of a peer of datagrams, which has no script.
    pub(super) responder: Option<Responder>,
}
