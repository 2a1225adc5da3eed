//! A channel from the reactors of a fleet to all of them.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use crate::channel::{Receive, SendError, Sender};
use crate::fleet::lock;
use crate::fleet::member::Member;
use crate::fleet::options::invalid;
use crate::handler::HandlerKey;

/// The sending end of a channel to every reactor of a fleet, made by [`Member::channel`]. It can be
/// cloned, kept by handlers, and sent to any thread.
///
/// In each member, a message reaches the handler that was passed to the same call of `channel`, as
/// [`Receive::on_message`]. The messages of one sender come in the order in which they were sent.
/// Messages that are sent while the fleet is being set up wait until all members have made their
/// end.
///
/// Sending never waits, so look at what it returns: a reactor whose channel is full does not get
/// the message. That includes the reactor of the sender, which receives nothing while a callback
/// runs. To lose nothing, send to one reactor at a time, and try again later from the first that is
/// full, as `examples/fleet_chat.rs` does.
///
/// # Examples
/// A chat on all cores: what a client says goes to the clients of every reactor.
/// ```no_run
/// use std::sync::Arc;
/// use waterwheel::fleet::{Fleet, FleetOptions, FleetSender};
/// use waterwheel::{Closed, Conn, ConnId, Context, Handler, ListenOptions, Peer, Receive};
///
/// struct Room {
///     here: Vec<ConnId>,
///     everyone: Option<FleetSender<Arc<[u8]>>>,
/// }
///
/// impl Handler for Room {
///     type State = ();
///
///     fn on_accept(&mut self, _: &Peer) -> Option<()> {
///         Some(())
///     }
///
///     fn on_open(&mut self, _: &mut (), conn: &mut Conn<'_>) {
///         self.here.push(conn.id());
///     }
///
///     fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
///         let published = self.everyone.as_ref().map(|all| all.send_to_all(input.into()));
///         if published.is_some_and(|published| published.full > 0) {
///             conn.abort(); // more is said than a reactor keeps up with, and it has missed this
///         }
///         input.len()
///     }
///
///     fn on_close(&mut self, _: (), closed: Closed, _: &mut Context<'_>) {
///         self.here.retain(|&id| id != closed.id);
///     }
/// }
///
/// impl Receive<Arc<[u8]>> for Room {
///     fn on_message(&mut self, said: Arc<[u8]>, cx: &mut Context<'_>) {
///         for &id in &self.here {
///             if let Some(mut conn) = cx.conn(id) {
///                 conn.write(&said);
///             }
///         }
///     }
/// }
///
/// Fleet::new(FleetOptions::default())?.run(|member| {
///     let room = member.reactor().register(Room { here: Vec::new(), everyone: None });
///     let everyone = member.channel(room, 1_024)?;
///     if let Some(room) = member.reactor().handler_mut(room) {
///         room.everyone = Some(everyone);
///     }
///     member.listen("127.0.0.1:7000", room, ListenOptions::default())?;
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct FleetSender<T> {
    group: Arc<Group<T>>,
    /// The member that made it.
    own: usize,
}

/// What became of a message to several reactors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The number of reactors whose channel has taken the message.
    pub sent: usize,
    /// The number of reactors whose channel was full: they do not get the message.
    pub full: usize,
    /// The number of reactors that have stopped.
    pub stopped: usize,
}

impl Published {
    fn count<T>(&mut self, result: Result<(), SendError<T>>) {
        match result {
            Ok(()) => self.sent += 1,
            Err(SendError::Full(_)) => self.full += 1,
            Err(_) => self.stopped += 1,
        }
    }
}

/// The ends of one channel.
struct Group<T> {
    /// All of them, in order, once there are all: from then on no sender takes a lock for them.
    ready: OnceLock<Box<[Sender<T>]>>,
    early: Mutex<Early<T>>,
}

/// The time in which members make their ends.
struct Early<T> {
    ends: Vec<Option<Sender<T>>>,
    /// What was sent meanwhile: to whom, and what.
    waiting: Vec<(To, T)>,
    /// The least capacity of an end. Invariant: `waiting` is no longer, so that it finds room.
    capacity: usize,
}

/// Who gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    All,
    AllBut(usize),
    One(usize),
}

impl To {
    fn is_for(self, member: usize) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(own) => own != member,
            Self::One(one) => one == member,
        }
    }
}

impl<T> Group<T> {
    fn new(members: usize) -> Self {
        let ends = (0..members).map(|_| None).collect();
        let early = Early { ends, waiting: Vec::new(), capacity: usize::MAX };
        Self { ready: OnceLock::new(), early: Mutex::new(early) }
    }
}

impl<T: Clone> Group<T> {
    /// A member has made its end; the last one sends what has waited.
    fn add(&self, member: usize, end: Sender<T>) {
        let mut early = lock(&self.early);
        early.capacity = early.capacity.min(end.capacity().unwrap_or(usize::MAX));
        early.ends[member] = Some(end);
        if early.ends.iter().any(Option::is_none) {
            return;
        }
        let ends: Box<[_]> = std::mem::take(&mut early.ends).into_iter().flatten().collect();
        for (to, message) in std::mem::take(&mut early.waiting) {
            deliver(&ends, to, message);
        }
        let _ = self.ready.set(ends); // the only place that sets it, once
    }

    fn send(&self, to: To, message: T) -> Published {
        if let Some(ends) = self.ready.get() {
            return deliver(ends, to, message);
        }
        let mut early = lock(&self.early);
        if let Some(ends) = self.ready.get() {
            drop(early);
            return deliver(ends, to, message);
        }
        let count = (0..early.ends.len()).filter(|&member| to.is_for(member)).count();
        if early.waiting.len() >= early.capacity {
            return Published { full: count, ..Published::default() };
        }
        early.waiting.push((to, message));
        Published { sent: count, ..Published::default() }
    }
}

/// Sends copies of a message, and the message itself to the last.
fn deliver<T: Clone>(ends: &[Sender<T>], to: To, message: T) -> Published {
    let mut published = Published::default();
    let mut wanted = ends.iter().enumerate().filter(|(member, _)| to.is_for(*member));
    let mut next = wanted.next();
    while let Some((_, end)) = next {
        next = wanted.next();
        if next.is_none() {
            published.count(end.try_send(message));
            break;
        }
        published.count(end.try_send(message.clone()));
    }
    published
}

impl<T: Clone> FleetSender<T> {
    /// Sends a message to every reactor, that of the sender included. It never waits: a reactor
    /// whose channel is full does not get the message.
    pub fn send_to_all(&self, message: T) -> Published {
        self.group.send(To::All, message)
    }

    /// Sends a message to every reactor but the one whose member made this sender. Use it if the
    /// handler there has served its own connections already. It never waits.
    pub fn send_to_others(&self, message: T) -> Published {
        self.group.send(To::AllBut(self.own), message)
    }

    /// Sends a message to the reactor with this [index](Member::index), for programs in which each
    /// user, or each room, belongs to one reactor. It never waits. If there is no reactor with this
    /// index, the message is dropped and all counts are 0.
    pub fn send_to(&self, index: usize, message: T) -> Published {
        self.group.send(To::One(index), message)
    }
}

impl<T> Clone for FleetSender<T> {
    fn clone(&self) -> Self {
        Self { group: Arc::clone(&self.group), own: self.own }
    }
}

impl<T> fmt::Debug for FleetSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_ready = self.group.ready.get().is_some();
        f.debug_struct("FleetSender").field("own", &self.own).field("is_ready", &is_ready).finish()
    }
}

/// The channels of a fleet, in the order in which each member makes them.
#[derive(Debug, Default)]
pub(super) struct Groups(Mutex<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    /// The `Arc<Group<T>>`.
    group: Box<dyn Any + Send>,
    /// How many members have made their end.
    ends: usize,
}

impl Groups {
    /// The channel of this place, for one more member.
    fn join<T: Send + 'static>(&self, place: usize, members: usize) -> io::Result<Arc<Group<T>>> {
        let mut entries = lock(&self.0);
        if entries.len() == place {
            let group: Arc<Group<T>> = Arc::new(Group::new(members));
            entries.push(Entry { group: Box::new(group), ends: 0 });
        }
        let entry = &mut entries[place];
        let Some(group) = entry.group.downcast_ref::<Arc<Group<T>>>() else {
            let text = "another reactor of the fleet made a channel of other messages in its \
                        place; all must make the same channels in the same order";
            return Err(invalid(text));
        };
        entry.ends += 1;
        Ok(Arc::clone(group))
    }

    /// All have been set up.
    pub(super) fn finish(&self, members: usize) -> io::Result<()> {
        for (place, entry) in lock(&self.0).drain(..).enumerate() {
            if entry.ends < members {
                let text = format!(
                    "only {} of {members} reactors have made channel {place} of the fleet; all \
                     must make the same channels in the same order",
                    entry.ends
                );
                return Err(invalid(&text));
            }
        }
        Ok(())
    }
}

impl Member<'_> {
    /// Makes this reactor's end of a channel to all reactors of the fleet, and returns the sender.
    /// The sender can be used at once, also in the set-up closure. Every member must make the same
    /// channels in the same order. At most `capacity` messages wait at each end.
    ///
    /// See [`FleetSender`] for an example.
    ///
    /// # Errors
    /// - `InvalidInput`: the capacity is 0, the handler key is of another reactor, or another
    ///   member made a channel of other messages in its place.
    pub fn channel<T, H>(
        &mut self,
        handler: HandlerKey<H>,
        capacity: usize,
    ) -> io::Result<FleetSender<T>>
    where
        T: Clone + Send + 'static,
        H: Receive<T>,
    {
        let end = self.reactor().channel(handler, capacity)?;
        let (own, members) = (self.index(), self.members());
        let group = self.groups().join(self.next_channel(), members)?;
        group.add(own, end);
        Ok(FleetSender { group, own })
    }
}
