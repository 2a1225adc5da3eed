//! A room whose members are on the reactors of a fleet.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::id::ConnId;
use crate::channel::{Receive, SendError, Sender};
use crate::handler::Context;
use crate::reactor::Reactor;
use crate::ws::{Frame, Published, Room, Slow, Socket};

/// Frames that may wait for a reactor.
const DEFAULT_CAPACITY: usize = 1024;

/// A room whose members are on several reactors, of a [`Fleet`](crate::fleet::Fleet) or of threads
/// of the program's own. A clone is the same room, on any thread.
///
/// Each reactor has a [`RoomPart`] with its own members. A message is framed once: the others are
/// sent an `Arc` of it through a channel each, and publish it to their members. What one thread
/// publishes keeps its order everywhere; what several do has none.
///
/// # Examples
/// ```no_run
/// use std::sync::Arc;
/// use waterwheel::ListenOptions;
/// use waterwheel::fleet::{Fleet, FleetOptions};
/// use waterwheel::ws::{self, Frame, Message, RoomPart, SharedRoom, Slow, Socket};
///
/// struct Chat { room: RoomPart }
///
/// impl ws::Handler for Chat {
///     type State = ();
///
///     fn on_open(&mut self, _: &mut (), socket: &mut Socket<'_>) {
///         self.room.join(socket);
///     }
///
///     fn on_message(&mut self, _: &mut (), socket: &mut Socket<'_>, message: Message<'_>) {
///         let frame = Arc::new(Frame::new(message));
///         self.room.publish(&mut socket.context(), &frame);
///     }
/// }
///
/// # fn server(chat: Chat) -> impl waterwheel::Handler { struct S;
/// # impl waterwheel::Handler for S {
/// # type State = (); fn on_data(&mut self, _: &mut (), _: &mut waterwheel::Conn<'_>, i: &[u8])
/// # -> usize { i.len() }
/// # fn on_accept(&mut self, _: &waterwheel::Peer) -> Option<()> { None } } S }
/// let room = SharedRoom::new(256 << 10, Slow::Skip);
/// Fleet::new(FleetOptions::default())?.run(move |member| {
///     let chat = Chat { room: room.open(member.reactor())? };
///     let key = member.reactor().register(server(chat)); // such as an `http::Server`
///     member.listen("127.0.0.1:8080", key, ListenOptions::default())?;
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct SharedRoom {
    doors: Arc<Mutex<Doors>>,
    max_queued_bytes: usize,
    slow: Slow,
    capacity: usize,
}

/// The ways into the parts.
#[derive(Default)]
struct Doors {
    list: Vec<Door>,
    /// The number of the next part. None comes again: the last messages of a reactor that has
    /// stopped must not pass another one by.
    next: u64,
}

/// The way into a part.
struct Door {
    part: u64,
    sender: Sender<Arc<Frame>>,
}

impl SharedRoom {
    /// A room without a part. A member is slow when its socket takes no more and a message would
    /// make its queue longer than `max_queued_bytes`, as with [`Room::new`]; `slow` says what
    /// happens then. With [`Slow::Tell`] only the part that publishes is told of its own members.
    #[must_use]
    pub fn new(max_queued_bytes: usize, slow: Slow) -> Self {
        Self { doors: Arc::default(), max_queued_bytes, slow, capacity: DEFAULT_CAPACITY }
    }

    /// Sets how many frames may wait for a reactor that is busy, 1 or more; default 1,024. A
    /// reactor for which more would wait misses a frame ([`Relayed::missed`]).
    #[must_use]
    pub fn capacity(mut self, frames: usize) -> Self {
        self.capacity = frames;
        self
    }

    /// Opens the room on a reactor: registers a handler, and makes a channel to it.
    ///
    /// # Errors
    /// - `InvalidInput`: the capacity is 0.
    pub fn open(&self, reactor: &mut Reactor) -> io::Result<RoomPart> {
        let room = Rc::new(Local(Cell::new(Room::new(self.max_queued_bytes))));
        let relay = Relay { room: Rc::clone(&room), slow: self.slow };
        let key = reactor.register(relay);
        let sender = reactor.channel(key, self.capacity)?;
        let mut doors = self.doors();
        let part = doors.next;
        doors.next += 1;
        doors.list.push(Door { part, sender });
        drop(doors);
        Ok(RoomPart { shared: self.clone(), room, part })
    }

    /// Sends a message to the members on all reactors; for threads that are not one of them.
    pub fn publish(&self, frame: &Arc<Frame>) -> Relayed {
        self.relay(frame, None)
    }

    /// Sends a frame to all parts but one. A reactor that has stopped has no part any more.
    fn relay(&self, frame: &Arc<Frame>, but: Option<u64>) -> Relayed {
        let mut relayed = Relayed::default();
        self.doors().list.retain(|door| {
            if but == Some(door.part) {
                return true;
            }
            match door.sender.try_send(Arc::clone(frame)) {
                Ok(()) => relayed.sent += 1,
                Err(SendError::Stopped(_)) => return false,
                Err(_) => relayed.missed += 1,
            }
            true
        });
        relayed
    }

    /// Nothing that panics runs under the lock.
    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("SharedRoom");
        text.field("parts", &self.doors().list.len())
            .field("slow", &self.slow)
            .finish_non_exhaustive()
    }
}

/// Which other reactors a message went to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Relayed {
    /// Reactors whose members will get it.
    pub sent: usize,
    /// Reactors that had too many frames waiting: their members miss it.
    pub missed: usize,
}

/// The room of one reactor, taken out while it is used: nothing that it calls is the program's.
struct Local(Cell<Room>);

impl Local {
    fn with<R>(&self, run: impl FnOnce(&mut Room) -> R) -> R {
        let mut room = self.0.take();
        let result = run(&mut room);
        self.0.set(room);
        result
    }
}

/// The members of a [`SharedRoom`] on one reactor. A clone is the same part.
#[derive(Clone)]
pub struct RoomPart {
    shared: SharedRoom,
    room: Rc<Local>,
    part: u64,
}

impl RoomPart {
    /// Adds a WebSocket of this reactor, as [`Room::join`] does.
    pub fn join(&self, socket: &Socket<'_>) -> bool {
        self.room.with(|room| room.join(socket))
    }

    /// Removes a member; whether it was one.
    pub fn leave(&self, id: ConnId) -> bool {
        self.room.with(|room| room.leave(id))
    }

    /// Whether it is a member.
    #[must_use]
    pub fn contains(&self, id: ConnId) -> bool {
        self.room.with(|room| room.contains(id))
    }

    /// Members on this reactor, with some that have ended, as [`Room::len`] says.
    #[must_use]
    pub fn len(&self) -> usize {
        self.room.with(|room| room.len())
    }

    /// Whether there are none on this reactor.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.room.with(|room| room.is_empty())
    }

    /// Sends a message to the members on this reactor, as [`Room::publish`] does, and to those on
    /// the others.
    pub fn publish(&self, cx: &mut Context<'_>, frame: &Arc<Frame>) -> (Published, Relayed) {
        let here = self.room.with(|room| room.publish(cx, frame, self.shared.slow));
        (here, self.shared.relay(frame, Some(self.part)))
    }

    /// Sends a message to the members on this reactor but one, as [`Room::publish_to_others`] does,
    /// and to those on the others.
    pub fn publish_to_others(
        &self,
        cx: &mut Context<'_>,
        frame: &Arc<Frame>,
        but: ConnId,
    ) -> (Published, Relayed) {
        let slow = self.shared.slow;
        let here = self.room.with(|room| room.publish_to_others(cx, frame, slow, but));
        (here, self.shared.relay(frame, Some(self.part)))
    }
}

impl fmt::Debug for RoomPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("RoomPart");
        text.field("members", &self.len()).field("shared", &self.shared).finish()
    }
}

/// Publishes what other reactors have sent.
struct Relay {
    room: Rc<Local>,
    slow: Slow,
}

impl Receive<Arc<Frame>> for Relay {
    fn on_message(&mut self, frame: Arc<Frame>, cx: &mut Context<'_>) {
        self.room.with(|room| room.publish(cx, &frame, self.slow));
    }
}
