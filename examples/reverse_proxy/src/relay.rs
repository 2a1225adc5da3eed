//! The answer of a server behind, given as it comes in.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;

use waterwheel::http::{
    Answer, AnswerReader, ClientError, Fields, Flow, ReplyId, Response, Server, Upload,
};
use waterwheel::pool::AcquireError;
use waterwheel::{ConnId, Context, HandlerKey};

use crate::Proxy;
use crate::forward::Listed;
use crate::tunnel::Tunnel;

/// Bytes that may wait for a client before the server behind is held back: the high mark.
const MAX_QUEUED: usize = 256 << 10;

/// The connection to the server behind, for as long as it is an exchange's own. Then the pool lends
/// it to another one, which must not be ended with this.
pub(crate) type Lent = Rc<Cell<Option<ConnId>>>;

/// Takes the answer of a server behind, and gives it.
pub(crate) struct Relay {
    /// The exchange of the client.
    id: ReplyId,
    web: HandlerKey<Server<Proxy>>,
    /// Which server it is.
    at: usize,
    /// The connection to it, from the head of an answer on that comes in parts.
    server: Option<Lent>,
    is_head: bool,
    /// The protocol that was asked for, and the way to the server once that has agreed.
    tunnel: Option<(String, Rc<RefCell<Option<Upload>>>)>,
    /// Whether the connection is a tunnel by now.
    is_tunnel: bool,
}

impl Relay {
    pub(crate) fn new(
        id: ReplyId,
        web: HandlerKey<Server<Proxy>>,
        at: usize,
        is_head: bool,
    ) -> Self {
        Self { id, web, at, server: None, is_head, tunnel: None, is_tunnel: false }
    }

    /// Tells the server about the client's bytes of another protocol, once there may be any.
    pub(crate) fn tunnel_source(
        &mut self,
        protocol: &str,
    ) -> impl FnMut(&Upload, &mut Context<'_>) + 'static {
        let slot = Rc::new(RefCell::new(None));
        self.tunnel = Some((protocol.to_owned(), Rc::clone(&slot)));
        let client = self.id.conn();
        move |upload, cx| {
            let is_first = slot.replace(Some(upload.clone())).is_none();
            if let Some(mut conn) = cx.conn(client).filter(|_| !is_first) {
                conn.resume_reading();
            }
        }
    }

    /// Has the answer gone on with, behind what was posted before.
    fn go_on(
        &self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut Proxy, &mut Response<'_, Proxy>) + 'static,
    ) {
        let (id, server) = (self.id, self.server.clone());
        cx.post(self.web, move |web, cx| {
            if web.answer(cx, id, call).is_none() {
                server.inspect(|server| give_up(server, cx));
            }
        });
    }

    /// The answer is over, whole or not.
    fn finish(&self, cx: &mut Context<'_>) {
        let Some(server) = &self.server else { return };
        server.set(None);
        let id = self.id;
        cx.post(self.web, move |web, _| drop(web.app().relayed.remove(&id)));
    }

    /// Whether an answer of this status has a body.
    fn has_body(&self, status: u16) -> bool {
        !self.is_head && !matches!(status, 204 | 304)
    }

    /// The server goes on with another protocol, and so does the client.
    fn switch(&mut self, cx: &mut Context<'_>, server: ConnId, fields: Fields) {
        let Some((protocol, slot)) = self.tunnel.take() else { return };
        self.is_tunnel = true;
        self.go_on(cx, move |_, res| {
            res.fields(&fields);
            if let Some(upload) = slot.take() {
                slot.replace(Some(upload.clone()));
                res.upgrade(&protocol, Tunnel::new(upload, server));
            }
        });
    }
}

/// The client has gone: nobody wants the rest of the answer, which might be held back for ever.
pub(crate) fn give_up(server: &Lent, cx: &mut Context<'_>) {
    if let Some(mut conn) = server.take().and_then(|server| cx.conn(server)) {
        conn.abort();
    }
}

/// A status that means nothing to anybody is a failure of the server behind (RFC 9110, 15).
fn known(status: u16) -> u16 {
    if status < 600 { status } else { 502 }
}

/// Fields of an answer that pass.
fn passing(answer: &Answer<'_>) -> Fields {
    let listed = Listed::of(answer.headers());
    answer.fields(|name, _| listed.passes(name))
}

impl AnswerReader for Relay {
    fn on_head(&mut self, answer: &Answer<'_>, cx: &mut Context<'_>) {
        let (status, server) = (known(answer.status()), answer.conn());
        let has_body = self.has_body(status);
        let fields = passing(answer);
        let lent = Rc::clone(self.server.insert(Rc::new(Cell::new(Some(server)))));
        if status == 101 {
            return self.switch(cx, server, fields);
        }
        let (id, at, length) = (self.id, self.at, answer.content_length());
        cx.post(self.web, move |web, _| drop(web.app().relayed.insert(id, lent)));
        self.go_on(cx, move |proxy, res| {
            proxy.note_answer(at, status);
            res.status(status).fields(&fields);
            res.stream(length);
            if has_body {
                res.on_drain(move |_, res| {
                    if let Some(mut conn) = res.context().conn(server) {
                        conn.resume_reading();
                    }
                });
            }
        });
    }

    /// Nothing of it can be held back: its connection is free already.
    fn on_whole(self: Box<Self>, answer: &Answer<'_>, cx: &mut Context<'_>) {
        let (at, status, length) = (self.at, known(answer.status()), answer.content_length());
        let body = self.has_body(status).then(|| answer.body().to_vec());
        let fields = passing(answer);
        self.go_on(cx, move |proxy, res| {
            proxy.note_answer(at, status);
            res.status(status).fields(&fields);
            match body {
                Some(body) => res.body(&body),
                None => {
                    res.stream(length);
                    res.end();
                }
            }
        });
    }

    fn on_chunk(&mut self, chunk: &[u8], cx: &mut Context<'_>) -> Flow {
        let chunk = chunk.to_vec();
        let client = self.id.conn();
        if self.is_tunnel {
            cx.post(self.web, move |_, cx| {
                if let Some(mut conn) = cx.conn(client) {
                    conn.write(&chunk);
                }
            });
        } else {
            self.go_on(cx, move |_, res| {
                res.write(&chunk);
            });
        }
        let is_full = cx.conn(client).is_some_and(|conn| conn.pending_bytes() >= MAX_QUEUED);
        if is_full { Flow::Pause } else { Flow::More }
    }

    fn on_end(self: Box<Self>, cx: &mut Context<'_>) {
        self.finish(cx);
        if self.is_tunnel {
            let client = self.id.conn();
            return cx.post(self.web, move |_, cx| {
                if let Some(mut conn) = cx.conn(client) {
                    conn.close();
                }
            });
        }
        self.go_on(cx, |_, res| res.end());
    }

    fn on_error(self: Box<Self>, error: ClientError, cx: &mut Context<'_>) {
        let (id, at, is_tunnel) = (self.id, self.at, self.is_tunnel);
        let status = status_of(&error);
        self.finish(cx);
        cx.post(self.web, move |web, cx| {
            log::warn!("{id}: {}: {error}", web.app().servers[at].name);
            if matches!(error, ClientError::Connect(AcquireError::Connect(_))) {
                web.app().note_failed_connect(at);
            }
            let is_answered = web.answer(cx, id, |_, res| {
                let is_unanswered = res.is_unanswered();
                if is_unanswered {
                    res.status(status).text("the server behind has no answer\n");
                }
                is_unanswered
            });
            // A part must not look whole.
            if is_answered == Some(false) || is_tunnel {
                if let Some(mut conn) = cx.conn(id.conn()) {
                    conn.abort();
                }
            }
        });
    }
}

/// What a client is told of a failure: 504 if it was a matter of time, 503 of room, 502 otherwise.
fn status_of(error: &ClientError) -> u16 {
    match error {
        ClientError::TimedOut(..) | ClientError::Connect(AcquireError::TimedOut { .. }) => 504,
        ClientError::Connect(AcquireError::Connect(error))
            if error.kind() == ErrorKind::TimedOut =>
        {
            504
        }
        ClientError::Connect(AcquireError::TooManyWaiters(_)) => 503,
        _ => 502,
    }
}
