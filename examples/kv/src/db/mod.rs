//! The database without a network: requests in, replies out. It has no socket and no clock; `now`
//! is a count of milliseconds that the caller keeps.

mod command;
mod reply;
mod request;
mod session;
mod store;
mod text;

use command::Command;
use request::Parser;
use store::Store;

pub(crate) use request::MAX_REQUEST_BYTES;
pub(crate) use session::Session;

/// Replies gathered before the caller is to send them: a client cannot make more wait here by
/// asking for a large value many times in one go.
const REPLY_BYTES: usize = 64 << 10;

/// Requests and replies.
pub(crate) struct Db {
    /// Connections now, for `INFO`.
    pub(crate) clients: usize,
    /// Connections so far; the number of the last.
    sessions: u64,
    /// Commands run so far.
    commands: u64,
    store: Store,
    parser: Parser,
}

/// What became of an input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// Bytes that are done with.
    pub(crate) consumed: usize,
    /// How to go on.
    pub(crate) then: Then,
}

/// How to go on after an input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Wait for more input.
    Wait,
    /// Send the replies and serve the rest, if there is room for more of them.
    GoOn,
    /// Send the replies and close.
    Close,
}

impl Db {
    /// An empty database that stores at most so many bytes, by its own rough count.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            clients: 0,
            sessions: 0,
            commands: 0,
            store: Store::new(max_bytes),
            parser: Parser::default(),
        }
    }

    /// What there is to know of a connection when it begins.
    pub(crate) fn open_session(&mut self) -> Session {
        self.sessions += 1;
        Session::new(self.sessions)
    }

    /// Runs the whole requests at the front of an input and appends their replies.
    pub(crate) fn serve(
        &mut self,
        session: &mut Session,
        input: &[u8],
        now: u64,
        replies: &mut Vec<u8>,
    ) -> Served {
        let Self { clients, commands, store, parser, .. } = self;
        let mut command = Command { store, session, clients: *clients, commands, now };
        let mut consumed = 0;
        while replies.len() < REPLY_BYTES {
            let then = match parser.next(&input[consumed..], &mut command.session.progress) {
                Ok(Some((bytes, request))) => {
                    consumed += bytes;
                    *command.commands += 1;
                    if command.run(&request, replies) {
                        continue;
                    }
                    Then::Close
                }
                Ok(None) => Then::Wait,
                Err(error) => {
                    reply::error(replies, &format!("ERR Protocol error: {error}"));
                    Then::Close
                }
            };
            return Served { consumed, then };
        }
        let then = Then::GoOn;
        Served { consumed, then }
    }

    /// Removes keys whose time has come, at most so many.
    pub(crate) fn expire(&mut self, now: u64, budget: usize) {
        self.store.expire(now, budget);
    }

    /// When to call [`expire`](Self::expire) next; `None` if no key expires.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.store.next_deadline()
    }
}
