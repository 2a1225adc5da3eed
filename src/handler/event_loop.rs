//! What callbacks may touch: all sockets, the engine, and what was posted.

use std::any::{Any, TypeId};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use slab::Slab;

use crate::base::id::{ConnId, SocketId, TimerId};
use crate::datagram::{SocketLink, Sockets};
use crate::engine::mailbox::Mailbox;
use crate::engine::{Engine, Owner, Running, Stop, WAKER_TOKEN, default_max_connections};
use crate::handler::erased::put_behind_streams;
use crate::handler::{
    Context, ErasedReceiver, Handler, HandlerKey, SocketFace, StreamFace, TimerFace,
};
use crate::options::{ConnectOptions, Destination, ReactorOptions, SessionOptions};
use crate::stream::{Closed, Handover, Link, Streams};
use crate::sys::World;

/// The place of no handler.
const NOWHERE: u32 = u32::MAX;

/// A closure to run on the loop's thread with one handler.
pub(crate) type PostedCall = Box<dyn FnOnce(&mut dyn Any, &mut Context<'_>)>;

/// A closure to run on the loop's thread with one handler, posted from another thread.
pub(crate) type RemoteCall = Box<dyn FnOnce(&mut dyn Any, &mut Context<'_>) + Send>;

/// A question to the loop, from another thread.
pub(crate) type Query = Box<dyn FnOnce(&mut Loop) + Send>;

/// What other threads may ask for.
pub(crate) enum Message {
    /// Write to a connection.
    Write(ConnId, Box<[u8]>),
    /// Close a connection.
    Close(ConnId),
    /// A name has been looked up for a connection.
    Resolved(ConnId, io::Result<Vec<SocketAddr>>),
    /// Run a closure with the handler at this place.
    Run(u32, RemoteCall),
    /// The channel of this index has messages, or its end.
    Deliver(u32),
    /// Stop at once, or after draining for so long.
    Stop(Stop),
    /// Serve a connection that another reactor has accepted.
    HandOver(Box<Handover>),
    /// Look at what there is.
    Query(Query),
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write(..) => "Write",
            Self::Close(_) => "Close",
            Self::Resolved(..) => "Resolved",
            Self::Run(..) => "Run",
            Self::Deliver(_) => "Deliver",
            Self::Stop(_) => "Stop",
            Self::HandOver(_) => "HandOver",
            Self::Query(_) => "Query",
        })
    }
}

/// A closure that was posted on the loop's thread.
pub(crate) struct Posted {
    /// The place of its handler.
    pub(crate) handler: u32,
    pub(crate) call: PostedCall,
    /// Whether a panic unwound then: the closure does what a callback had still to do.
    pub(crate) is_rest: bool,
}

/// What is posted to handlers, from this thread and from others.
pub(crate) struct Posts {
    /// What other threads post to.
    pub(crate) mailbox: Arc<Mailbox<Message>>,
    /// Closures to run in the next mailbox phase.
    pub(crate) calls: VecDeque<Posted>,
    /// Channels, by index; `None` while one is being delivered.
    pub(crate) channels: Slab<Option<Box<dyn ErasedReceiver>>>,
}

/// The loop without its handlers and without what only the turn needs.
///
/// Its parts are apart so that a connection and the engine can be borrowed together.
pub(crate) struct Loop {
    /// TCP connections, Unix connections, and listeners.
    pub(crate) streams: Streams,
    /// Datagram sockets.
    pub(crate) datagrams: Sockets<&'static dyn SocketFace>,
    /// What any of them needs.
    pub(crate) engine: Engine,
    /// What was posted.
    pub(crate) posts: Posts,
    /// What is known of each handler, by its place in the reactor.
    pub(crate) handlers: Vec<Known>,
}

/// What is known of a handler where callbacks can look: the handler itself may be running.
pub(crate) struct Known {
    /// The key of another reactor may name a place where another type is.
    type_id: TypeId,
    /// Puts the handler behind its face for connections before it is told of the next: what
    /// `connect` asks for.
    pub(crate) streams: Option<StreamFace>,
    /// Calls the handler for its timers, once there were any.
    pub(crate) timer: Option<TimerFace>,
    /// How long its sessions last and how many there may be, once a socket has some.
    pub(crate) sessions: Option<SessionOptions>,
}

impl Known {
    pub(crate) fn new<H: 'static>() -> Self {
        Self { type_id: TypeId::of::<H>(), streams: None, timer: None, sessions: None }
    }
}

impl Loop {
    pub(crate) fn new(world: World, options: ReactorOptions) -> io::Result<Self> {
        let default = || default_max_connections(&world, 1);
        let max_connections = options.max_connections.unwrap_or_else(default);
        let mut engine = Engine::new(world, options)?;
        let mailbox = Mailbox::new(engine.io.poller().waker(WAKER_TOKEN)?);
        // Last: the reactor can do without.
        engine.io.renew_spare();
        Ok(Self {
            streams: Streams::new(max_connections),
            datagrams: Sockets::new(),
            engine,
            posts: Posts { mailbox, calls: VecDeque::new(), channels: Slab::new() },
            handlers: Vec::new(),
        })
    }

    /// A connection that has not ended, with the engine.
    #[inline]
    pub(crate) fn link(&mut self, id: ConnId) -> Option<Link<'_>> {
        self.streams.link(&mut self.engine, id)
    }

    /// A datagram socket that has not been closed, with the engine.
    #[inline]
    pub(crate) fn socket_link(&mut self, id: SocketId) -> Option<SocketLink<'_>> {
        self.datagrams.link(&mut self.engine, id)
    }

    /// Begins a connection. With the key of another reactor it ends before it was begun.
    pub(crate) fn connect<H: Handler>(
        &mut self,
        to: Destination,
        key: HandlerKey<H>,
        state: H::State,
        options: &ConnectOptions,
    ) -> ConnId {
        let place = if self.ask_for_streams(key) { key.index() } else { NOWHERE };
        let Self { streams, engine, posts, .. } = self;
        let resolve = |engine: &Engine, id, host: &str, port| posts.resolve(engine, id, host, port);
        streams.connect(engine, to, place, Box::new(state), options, &resolve)
    }

    /// Connects again, after a pause, where a connection was lost; returns the state if there is no
    /// other try.
    pub(crate) fn reconnect<S: 'static>(&mut self, closed: &Closed, state: S) -> Result<ConnId, S> {
        let may = !self.engine.is_stopping() && self.streams.has_slots();
        match &closed.dial {
            Some(dial) if dial.state_type != TypeId::of::<S>() => {
                log::error!("{}: reconnect needs a state of the type that connect took", closed.id);
                Err(state)
            }
            Some(dial) if may && dial.may_go_on() => {
                Ok(self.streams.reconnect(&mut self.engine, dial, Box::new(state)))
            }
            _ => Err(state),
        }
    }

    /// A pause between two attempts to connect is over.
    pub(crate) fn continue_connecting(&mut self, id: ConnId) {
        let Self { streams, engine, posts, .. } = self;
        let resolve = |engine: &Engine, id, host: &str, port| posts.resolve(engine, id, host, port);
        if let Some(mut link) = streams.link(engine, id) {
            link.continue_connecting(&resolve);
        }
    }

    /// Takes a timer of the user's back; whether it was still to fire.
    pub(crate) fn cancel_timer(&mut self, timer: TimerId) -> bool {
        match self.engine.timers.cancel_user(timer) {
            None => return false,
            Some(Owner::Connection(id)) => {
                if let Some(link) = self.link(id) {
                    link.connection.remove_timer(timer);
                }
            }
            Some(Owner::Socket(_) | Owner::Handler(_)) => {}
        }
        true
    }

    /// What is known of a handler; `None` if the key is of another reactor.
    pub(super) fn known_mut<H: 'static>(&mut self, key: HandlerKey<H>) -> Option<&mut Known> {
        let known = self.handlers.get_mut(key.index() as usize)?;
        (known.type_id == TypeId::of::<H>()).then_some(known)
    }

    /// Checks a key: one of another reactor may name no handler here.
    pub(crate) fn check_key<H: 'static>(&mut self, key: HandlerKey<H>) -> io::Result<()> {
        if self.known_mut(key).is_some() {
            return Ok(());
        }
        let text = format!("{key:?} is of another reactor; register the handler with this one");
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    /// Asks for the handler's face for connections. Returns whether the key is of this reactor.
    pub(crate) fn ask_for_streams<H: Handler>(&mut self, key: HandlerKey<H>) -> bool {
        let known = self.known_mut(key);
        known.map(|known| known.streams = Some(put_behind_streams::<H>)).is_some()
    }

    /// Whether the end of the turn has anything to do.
    #[inline]
    pub(crate) fn has_endings(&self) -> bool {
        !self.engine.end_of_turn.is_empty() || self.streams.has_endings()
    }

    /// Whether there is work that no event will announce.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        !self.engine.ready.is_empty()
            || self.has_endings()
            || !self.posts.calls.is_empty()
            || matches!(self.engine.running(), Running::Asked(_))
    }

    /// Whether nothing is left that a drain waits for: no connection, and no datagram that waits.
    pub(crate) fn is_drained(&self) -> bool {
        self.streams.len() == 0 && self.datagrams.are_drained()
    }
}

impl Posts {
    /// Looks a name up; the answer comes as a message.
    fn resolve(&self, engine: &Engine, id: ConnId, host: &str, port: u16) {
        let mailbox = Arc::clone(&self.mailbox);
        let answer = move |result| {
            // A reactor that is gone waits for nothing.
            mailbox.post(Message::Resolved(id, result));
        };
        engine.io.world().resolve(host, port, Box::new(answer));
    }
}

impl fmt::Debug for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loop")
            .field("now", &self.engine.now())
            .field("connections", &self.streams.len())
            .field("listeners", &self.streams.listeners().count())
            .field("attempts", &self.engine.io.attempts())
            .field("timers", &self.engine.timers.len())
            .finish_non_exhaustive()
    }
}
