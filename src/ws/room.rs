//! Messages to many.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use crate::base::id::ConnId;
use crate::handler::Context;
use crate::stream::Written;
use crate::ws::code::write_close;
use crate::ws::header::{Built, FIN, MAX_CONTROL, Opcode};
use crate::ws::shared::Shared;
use crate::ws::{CloseCode, Frame, Socket};

/// Why a member is closed that reads too slowly.
pub(super) const TOO_SLOW: &str = "reads too slowly";

/// Members that a room has room for at least, before it looks for those that have ended.
const LEAST_ROOM: usize = 4;

/// What to do with a member of a room that reads too slowly: its socket takes no more, and its
/// queue is longer than the room allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Slow {
    /// The member misses this message.
    Skip,
    /// The member is closed with 1008, behind what is queued, and leaves the room. Its `on_close`
    /// is told the same code, also if the member is the one whose message is published.
    Close,
    /// The member misses this message, and its id is among [`Published::slow`].
    Tell,
}

/// How many members a message has reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Members it was sent to.
    pub sent: usize,
    /// Members that missed it: they were slow, in the middle of another message, or closing.
    pub missed: usize,
    /// Members that were slow, if that was asked for with [`Slow::Tell`].
    pub slow: Vec<ConnId>,
}

/// WebSockets of a server that get the same messages: a chat room, a feed.
///
/// A member that ends leaves by itself. Rooms are values of the program: a WebSocket can be in any
/// number of them. To publish from a route, take the context of its `Response`. To publish from
/// another thread, use [`Remote::with`](crate::Remote::with) and the key of the server: the closure
/// gets the server, whose `app` has the room, and a context.
///
/// # Examples
/// ```
/// use waterwheel::Context;
/// use waterwheel::ws::{self, Ended, Frame, Message, Room, Slow};
///
/// #[derive(Default)]
/// struct Chat { room: Room }
///
/// impl ws::Handler for Chat {
///     type State = ();
///
///     fn on_open(&mut self, _: &mut (), socket: &mut ws::Socket<'_>) {
///         self.room.join(socket);
///     }
///
///     fn on_message(&mut self, _: &mut (), socket: &mut ws::Socket<'_>, message: Message<'_>) {
///         let frame = Frame::new(message); // framed once for all
///         self.room.publish(&mut socket.context(), &frame, Slow::Skip);
///     }
/// }
/// ```
pub struct Room {
    members: Vec<Member>,
    /// The place of each member.
    places: HashMap<ConnId, usize>,
    max_queued_bytes: usize,
}

struct Member {
    id: ConnId,
    /// The window of frames that are compressed once for all.
    bits: Option<u8>,
    shared: Rc<Shared>,
}

impl Default for Room {
    fn default() -> Self {
        Self::new(256 << 10)
    }
}

impl Room {
    /// A room in which a member counts as slow when its socket takes no more and a message would
    /// make its queue longer than this, in bytes. [`Room::default`] has 256 KiB. A member for which
    /// nothing is queued gets a message of any length that `Limits::max_output_bytes` allows.
    /// Choose less than that limit: then slow members miss messages, and are not cut off.
    #[must_use]
    pub fn new(max_queued_bytes: usize) -> Self {
        Self { members: Vec::new(), places: HashMap::new(), max_queued_bytes }
    }

    /// Adds a WebSocket. Returns whether it was added: `false` if it is a member already, is
    /// closing, or belongs to a [`Client`](super::Client). A client must mask each message with a
    /// key of its own, so one frame cannot serve many.
    pub fn join(&mut self, socket: &Socket<'_>) -> bool {
        let id = socket.id();
        let wire = &*socket.wire;
        if wire.is_client() || !wire.is_open() || self.places.contains_key(&id) {
            return false;
        }
        if self.members.len() == self.members.capacity() {
            self.forget_ended(socket);
        }
        let bits = wire.shared_bits();
        self.places.insert(id, self.members.len());
        self.members.push(Member { id, bits, shared: Rc::clone(&wire.shared) });
        true
    }

    /// Removes members that have ended, which a room without messages does not find. Then there is
    /// room for as many more as are left, so that a join costs the same however many there are.
    #[cold]
    fn forget_ended(&mut self, socket: &Socket<'_>) {
        let mut place = 0;
        while let Some(&Member { id, .. }) = self.members.get(place) {
            if socket.conn.knows(id) {
                place += 1;
            } else {
                self.leave(id);
            }
        }
        let left = self.members.len();
        self.members.reserve(left.max(LEAST_ROOM));
    }

    /// Removes a member; whether it was one.
    pub fn leave(&mut self, id: ConnId) -> bool {
        let Some(place) = self.places.remove(&id) else { return false };
        self.members.swap_remove(place);
        if let Some(moved) = self.members.get(place) {
            self.places.insert(moved.id, place);
        }
        true
    }

    /// Whether it is a member.
    #[must_use]
    pub fn contains(&self, id: ConnId) -> bool {
        self.places.contains_key(&id)
    }

    /// Members, with those that have ended since the last message. Without a message, too, they
    /// do not add up: those who join take their places.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Sends a message to all members. It leaves at the end of the turn, together with what else is
    /// written to them until then; what is more than the room lets be queued leaves before.
    ///
    /// A member that is sending a message in parts, or has said Close, misses it.
    pub fn publish(&mut self, cx: &mut Context<'_>, frame: &Frame, slow: Slow) -> Published {
        self.send(cx, frame, slow, None)
    }

    /// Sends a message to all members but one, as [`publish`](Self::publish) does: in a chat, to
    /// all but the author.
    pub fn publish_to_others(
        &mut self,
        cx: &mut Context<'_>,
        frame: &Frame,
        slow: Slow,
        but: ConnId,
    ) -> Published {
        self.send(cx, frame, slow, Some(but))
    }

    fn send(
        &mut self,
        cx: &mut Context<'_>,
        frame: &Frame,
        slow: Slow,
        but: Option<ConnId>,
    ) -> Published {
        let mut published = Published::default();
        let mut place = 0;
        while let Some(member) = self.members.get(place) {
            if Some(member.id) == but {
                place += 1;
                continue;
            }
            match member.send(cx, frame, self.max_queued_bytes) {
                Sent::Yes => published.sent += 1,
                Sent::Held => published.missed += 1,
                Sent::Slow => {
                    published.missed += 1;
                    let id = member.id;
                    match slow {
                        Slow::Skip => {}
                        Slow::Tell => published.slow.push(id),
                        Slow::Close => {
                            member.close_slow(cx);
                            self.leave(id);
                            continue; // the last one has taken its place
                        }
                    }
                }
                Sent::Gone => {
                    let id = member.id;
                    self.leave(id);
                    continue;
                }
            }
            place += 1;
        }
        published
    }
}

/// What has become of a message for one member.
enum Sent {
    Yes,
    /// The member takes none now.
    Held,
    Slow,
    /// The member has ended.
    Gone,
}

impl Member {
    fn send(&self, cx: &mut Context<'_>, frame: &Frame, max_queued_bytes: usize) -> Sent {
        let Some(mut conn) = cx.conn(self.id) else { return Sent::Gone };
        if self.shared.is_held(self.id) {
            return Sent::Held;
        }
        let bytes = frame.bytes(self.bits, &self.shared);
        if !conn.fits_under(max_queued_bytes, bytes.len()) {
            return if conn.is_writable() { Sent::Slow } else { Sent::Gone };
        }
        match conn.write(bytes) {
            Written::Below | Written::Above => {
                self.shared.count_sent();
                Sent::Yes
            }
            Written::Full => Sent::Slow,
            Written::Closed => Sent::Gone,
        }
    }

    fn close_slow(&self, cx: &mut Context<'_>) {
        let Some(mut conn) = cx.conn(self.id) else { return };
        let mut payload = [0; MAX_CONTROL];
        let length = write_close(CloseCode::POLICY, TOO_SLOW, &mut payload);
        let head = Built::new(FIN | Opcode::Close as u8, length, None);
        conn.write_vectored(&[head.as_slice(), &payload[..length]]);
        conn.close();
        self.shared.note_closed_by_room(self.id);
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Room");
        text.field("members", &self.len()).field("max_queued_bytes", &self.max_queued_bytes);
        text.finish_non_exhaustive()
    }
}
