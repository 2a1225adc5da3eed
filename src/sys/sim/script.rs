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
/// A step begins when the one before it is done. During every step the peer reads what comes in,
/// except between `stop_reading` and `resume_reading`. After the last step the peer goes on
/// reading, and closes its connection once the other side has ended.
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

/// What the closure of [`Script::react`] returns: what the peer does next.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reaction {
    /// Wait for more bytes.
    Wait,
    /// This number of bytes is consumed: take these steps, then call the closure with the rest.
    Then(usize, Script),
    /// This number of bytes is consumed, and this step of the script is done.
    Done(usize),
}

impl Script {
    /// A script without steps: the peer only reads.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of steps.
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

    /// Sends bytes, as fast as the connection takes them.
    #[must_use]
    pub fn send(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.then(Action::Send(bytes.into()))
    }

    /// Sends bytes one by one, with a pause before each of them.
    #[must_use]
    pub fn dribble(self, bytes: impl Into<Vec<u8>>, pause: Duration) -> Self {
        self.then(Action::Dribble(bytes.into(), pause))
    }

    /// Does nothing but read for a time.
    #[must_use]
    pub fn wait(self, time: Duration) -> Self {
        self.then(Action::Wait(time))
    }

    /// Waits until the peer has received `total` bytes, counted from the beginning of the
    /// connection, or until the other side has ended.
    #[must_use]
    pub fn read(self, total: usize) -> Self {
        self.then(Action::Read(total))
    }

    /// Waits until the other side has sent FIN or the connection was reset.
    #[must_use]
    pub fn read_to_end(self) -> Self {
        self.then(Action::ReadEnd)
    }

    /// Reacts to what comes in. `react` gets all bytes that it has not consumed yet, in order, and
    /// returns what to do. It is called again whenever more bytes have come in, and after the steps
    /// that it returned last. The step ends with [`Reaction::Done`], or when `react` waits for more
    /// bytes and the other side has ended. Bytes may come in pieces of any size, as in the real
    /// world.
    ///
    /// All connections of a [listening peer] share what `react` captures; only the bytes are those
    /// of one connection. `react` must not touch the simulation.
    ///
    /// [listening peer]: crate::sim::Simulation::listening_peer
    ///
    /// # Panics
    /// The run panics if `react` consumes more bytes than there are. It also panics if `react`
    /// returns [`Reaction::Then`] with no byte and no step, because that would go on for ever.
    ///
    /// # Examples
    /// A message has two bytes, and the first one is its number. This peer answers each message
    /// with the next number:
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

    /// Stops reading: the other side can send until the buffers are full.
    #[must_use]
    pub fn stop_reading(self) -> Self {
        self.then(Action::StopReading)
    }

    /// Reads again, after [`stop_reading`](Self::stop_reading).
    #[must_use]
    pub fn resume_reading(self) -> Self {
        self.then(Action::ResumeReading)
    }

    /// Sends FIN, and goes on reading.
    #[must_use]
    pub fn finish(self) -> Self {
        self.then(Action::Finish)
    }

    /// Closes the socket, as a program that ends does. The other side gets FIN, or a reset if bytes
    /// were left unread.
    #[must_use]
    pub fn close(self) -> Self {
        self.then(Action::Close)
    }

    /// Resets the connection: the other side gets RST.
    #[must_use]
    pub fn reset(self) -> Self {
        self.then(Action::Reset)
    }
}

/// The state of a peer's connection, as [`Simulation::end_of`] returns it.
///
/// [`Simulation::end_of`]: crate::sim::Simulation::end_of
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
