//! A handler with somebody who watches in front of it.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::coverage::Landmark;
use super::watcher::Watcher;
use crate::base::close::{Idle, IdleKind};
use crate::base::id::{SocketId, Timer};
use crate::handler::{AnyDatagrams, AnyService, Conn, DatagramSocket, Loop, Peer, Role};
use crate::stream::Closed;
use crate::stream::happy_eyeballs::ConnectRetry;

/// A handler that is watched.
pub(super) struct Watched {
    inner: Box<dyn AnyService>,
    watcher: Rc<RefCell<Watcher>>,
}

impl Watched {
    pub(super) fn new(inner: Box<dyn AnyService>, watcher: &Rc<RefCell<Watcher>>) -> Self {
        Self { inner, watcher: Rc::clone(watcher) }
    }

    /// A callback that runs until the guard is dropped, also if it panics.
    fn begin(&self, enter: impl FnOnce(&mut Watcher)) -> Call {
        enter(&mut self.watcher.borrow_mut());
        Call(Rc::clone(&self.watcher))
    }
}

/// A callback runs until this is dropped.
struct Call(Rc<RefCell<Watcher>>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.borrow_mut().is_in_callback = false;
    }
}

/// Datagrams are not watched.
impl AnyDatagrams for Watched {
    fn datagram(&mut self, socket: &mut DatagramSocket<'_>, from: SocketAddr, bytes: &[u8]) {
        self.inner.datagram(socket, from, bytes);
    }

    fn batch_end(&mut self, socket: &mut DatagramSocket<'_>) {
        self.inner.batch_end(socket);
    }

    fn socket_drain(&mut self, socket: &mut DatagramSocket<'_>) {
        self.inner.socket_drain(socket);
    }

    fn socket_error(&mut self, socket: &mut DatagramSocket<'_>, error: io::Error) {
        self.inner.socket_error(socket, error);
    }

    fn socket_timer(&mut self, socket: &mut DatagramSocket<'_>, timer: Timer) {
        self.inner.socket_timer(socket, timer);
    }

    fn session_due(&mut self, socket: &mut DatagramSocket<'_>, place: u32) {
        self.inner.session_due(socket, place);
    }

    fn recover(&mut self, socket: &mut DatagramSocket<'_>) {
        self.inner.recover(socket);
    }

    fn end_sessions(&mut self, socket: &mut DatagramSocket<'_>) {
        self.inner.end_sessions(socket);
    }

    fn socket_close(&mut self, id: SocketId, lp: &mut Loop) {
        self.inner.socket_close(id, lp);
    }

    fn role(&self) -> Role {
        self.inner.role()
    }
}

impl AnyService for Watched {
    fn accept(&mut self, peer: &Peer) -> Option<u32> {
        let _running = self.begin(|watcher| watcher.enter("on_accept", None, 0, Landmark::Accept));
        let state = self.inner.accept(peer);
        self.watcher.borrow_mut().states += i64::from(state.is_some());
        state
    }

    fn place(&mut self, state: Box<dyn Any>) -> Option<u32> {
        let place = self.inner.place(state);
        self.watcher.borrow_mut().states += i64::from(place.is_some());
        place
    }

    fn forget(&mut self, state: u32) {
        self.watcher.borrow_mut().states -= 1;
        self.inner.forget(state);
    }

    fn open(&mut self, state: u32, conn: &mut Conn<'_>) {
        let _running = self.begin(|watcher| watcher.opened(conn));
        self.inner.open(state, conn);
        self.watcher.borrow_mut().note_held(conn);
    }

    fn data(&mut self, state: u32, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let id = conn.id();
        let _running = self.begin(|watcher| {
            watcher.enter_open("on_data", conn, input.len() as u64, Landmark::Data);
            // Once its output has failed, what is left to read is read, as after a reset.
            watcher.check_input(id, input, conn.is_paused() && !conn.wants_read());
        });
        let consumed = self.inner.data(state, conn, input);
        self.watcher.borrow_mut().note_consumed(id, input, consumed);
        consumed
    }

    fn drain(&mut self, state: u32, conn: &mut Conn<'_>) {
        let _running = self.begin(|watcher| {
            watcher.enter_open("on_drain", conn, 0, Landmark::Drain);
            watcher.drained(conn.id());
        });
        self.inner.drain(state, conn);
    }

    fn eof(&mut self, state: u32, conn: &mut Conn<'_>) {
        let _running = self.begin(|watcher| {
            watcher.enter_open("on_eof", conn, 0, Landmark::Eof);
            watcher.ended(conn.id());
        });
        self.inner.eof(state, conn);
    }

    fn idle(&mut self, state: u32, conn: &mut Conn<'_>, kind: IdleKind) -> Idle {
        let landmark = match kind {
            IdleKind::Read => Landmark::IdleRead,
            IdleKind::Write => Landmark::IdleWrite,
            IdleKind::All => Landmark::IdleAll,
        };
        let _running = self.begin(|watcher| {
            watcher.enter_open("on_idle", conn, kind as u64, landmark);
            watcher.check_idle(conn, kind);
        });
        let verdict = self.inner.idle(state, conn, kind);
        self.watcher.borrow_mut().kept(conn.id(), kind);
        verdict
    }

    fn timer(&mut self, state: u32, conn: &mut Conn<'_>, timer: Timer) {
        let _running =
            self.begin(|watcher| watcher.enter_open("on_timer", conn, 0, Landmark::Timer));
        self.inner.timer(state, conn, timer);
    }

    fn shutdown(&mut self, state: u32, conn: &mut Conn<'_>) {
        let _running =
            self.begin(|watcher| watcher.enter_open("on_shutdown", conn, 0, Landmark::Shutdown));
        self.inner.shutdown(state, conn);
    }

    fn close(&mut self, state: u32, closed: Closed, lp: &mut Loop) {
        let _running = self.begin(|watcher| watcher.closed(&closed, lp));
        self.inner.close(state, closed, lp);
    }

    fn connect_retry(&mut self, state: u32, conn: &mut Conn<'_>, retry: &ConnectRetry) {
        let _running = self.begin(|watcher| watcher.retried(conn, retry.tries));
        self.inner.connect_retry(state, conn, retry);
    }

    fn connect_failed(&mut self, state: u32, error: io::Error, lp: &mut Loop) {
        let _running = self.begin(|watcher| {
            watcher.states -= 1;
            watcher.enter("on_connect_failed", None, 0, Landmark::ConnectFailed);
        });
        self.inner.connect_failed(state, error, lp);
    }

    fn service_timer(&mut self, timer: Timer, lp: &mut Loop) {
        let _running = self
            .begin(|watcher| watcher.enter("on_service_timer", None, 0, Landmark::ServiceTimer));
        self.inner.service_timer(timer, lp);
    }

    fn handler_mut(&mut self) -> &mut dyn Any {
        self.inner.handler_mut()
    }
}
