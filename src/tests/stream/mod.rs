//! The table of connections and what is done to one of them, without a loop around it.

mod close;
mod room;
mod table;
mod timers;
mod write;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::base::id::ConnId;
use crate::engine::Engine;
use crate::options::{ConnectOptions, Limits, ListenOptions, ReactorOptions};
use crate::stream::config::ConnConfig;
use crate::stream::connection::{Connection, Phase};
use crate::stream::{Admission, Link, Streams};
use crate::sys::{Stream, World};

/// What a loop holds of its connections.
struct Rig {
    streams: Streams,
    engine: Engine,
}

impl Rig {
    fn new() -> Self {
        Self::with_cap(10)
    }

    /// One that has at most so many connections.
    fn with_cap(most: usize) -> Self {
        let engine = Engine::new(World::Os, ReactorOptions::default()).unwrap();
        Self { streams: Streams::new(most), engine }
    }

    /// An open connection that no listener has accepted.
    fn open(&mut self, stream: Stream) -> ConnId {
        self.open_under(stream, Rc::new(ConnConfig::new(&Limits::default(), 0)))
    }

    fn open_under(&mut self, stream: Stream, config: Rc<ConnConfig>) -> ConnId {
        let id = self.streams.next_id(&mut self.engine);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let link = self.streams.insert(&mut self.engine, id, stream, &peer, config, Phase::Open);
        link.connection.open_at_once();
        id
    }

    /// The place of a listener without a socket.
    fn listener(&mut self, options: &ListenOptions) -> usize {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        self.streams.place_listener(&mut self.engine, None, addr, 0, options) as usize
    }

    /// A connection that both caps count.
    fn accept(&mut self, listener: usize) -> ConnId {
        assert_eq!(self.streams.admits(listener), Admission::Accept);
        let listener = self.streams.listener_mut(listener).unwrap();
        listener.limit.enter();
        let config = Rc::clone(&listener.config);
        self.open_under(Stream::Absent, config)
    }

    fn end(&mut self, id: ConnId) {
        let place = |connection: &Connection<Stream>| Some(connection.config.listener);
        let (place, _) = self.streams.remove(&mut self.engine, id, place).unwrap();
        self.streams.note_place(&mut self.engine, place);
    }

    fn link(&mut self, id: ConnId) -> Link<'_> {
        self.streams.link(&mut self.engine, id).unwrap()
    }
}

/// A connection by way of the system, and its other end.
fn connected() -> (Stream, Stream) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (listener, _) = World::Os.bind(any, &ListenOptions::default()).unwrap();
    let addr = listener.local_addr().unwrap();
    let client = World::Os.connect(addr, &ConnectOptions::default()).unwrap();
    let (stream, _) = patiently(|| listener.accept().ok()); // the handshake may take a moment
    (stream, client)
}

/// Asks again until there is an answer, for some seconds at least.
#[track_caller]
fn patiently<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..10_000_000 {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::yield_now();
    }
    panic!("nothing has come");
}
