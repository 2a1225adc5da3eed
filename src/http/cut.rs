//! What a panic of the program's cuts. The loop ends the connection, with a reset; these guards put
//! back what was taken out of its place, so that its end is told.

use std::mem;
use std::time::{Duration, SystemTime};

use super::body::Body;
use super::exchange::{Exchange, Output, Reader};
use super::server::Server;
use super::state::Phase;
use crate::base::id::ConnId;
use crate::handler::Context;

/// An exchange that has no place on the heap so far. Unless it is finished it gets one, so that its
/// end is told like that of any other.
pub(super) struct Serving<'a, A> {
    pub(super) phase: &'a mut Phase<A>,
    pub(super) exchange: &'a mut Exchange<A>,
}

impl<A> Serving<'_, A> {
    /// No code of the program's is in its way any more.
    #[inline]
    pub(super) fn finish(self) {
        mem::forget(self);
    }
}

impl<A> Drop for Serving<'_, A> {
    #[cold]
    fn drop(&mut self) {
        let exchange = mem::replace(self.exchange, Exchange::none());
        *self.phase = Phase::Busy(Box::new(exchange));
    }
}

/// Who takes a body, while it is called with the exchange that has it. Unless the answer is given,
/// it goes back: also if it panics, so that it is told that the body is gone.
pub(super) struct LentBody<'a, A> {
    pub(super) exchange: &'a mut Exchange<A>,
    pub(super) body: Option<Box<dyn Body<A>>>,
}

impl<A> Drop for LentBody<'_, A> {
    fn drop(&mut self) {
        let body = self.body.take().filter(|_| self.exchange.output != Output::Done);
        if let Some(body) = body {
            self.exchange.reader = Reader::Body(body);
        }
    }
}

/// How the connection of an exchange has ended, or is about to.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) conn: ConnId,
    /// Whether nothing of what was written is lost, as far as is known.
    pub(super) is_sent: bool,
    pub(super) now: Duration,
    pub(super) time: SystemTime,
}

/// An exchange whose connection has ended. If one of those panics who are told of it, the others
/// are told when the loop goes on, or before it ends.
pub(super) struct Parting<'a, 'b, A: 'static> {
    server: &'a mut Server<A>,
    cx: &'a mut Context<'b>,
    /// `None` once all are told.
    exchange: Option<Box<Exchange<A>>>,
    end: End,
}

impl<'a, 'b, A: 'static> Parting<'a, 'b, A> {
    pub(super) fn new(
        server: &'a mut Server<A>,
        cx: &'a mut Context<'b>,
        exchange: Box<Exchange<A>>,
        end: End,
    ) -> Self {
        Self { server, cx, exchange: Some(exchange), end }
    }

    pub(super) fn tell(mut self) {
        if let Some(exchange) = &mut self.exchange {
            self.server.driver().tell_end(exchange, &self.end);
        }
        drop(self.exchange.take());
    }
}

impl<A: 'static> Drop for Parting<'_, '_, A> {
    fn drop(&mut self) {
        // Who waits for a body or for a later answer has asked for the key.
        let (Some(exchange), Some(key)) = (self.exchange.take(), self.server.shared.key) else {
            return;
        };
        let end = self.end;
        self.cx.post(key, move |server, cx| Parting::new(server, cx, exchange, end).tell());
    }
}
