//! The reactor's side: each line goes to a task of tokio, and its answer comes back.

use std::time::Duration;

use tokio::runtime::Handle;
use waterwheel::{
    Closed, Conn, ConnId, Context, Handler, HandlerKey, Idle, IdleKind, Peer, Remote, frame,
};

/// Longest line, in bytes: a peer that sends a longer one is closed.
const MAX_LINE_BYTES: usize = 4_096;

/// What a task waits, in place of the client of a database that is a crate of tokio's.
const WORK: Duration = Duration::from_millis(10);

pub(crate) struct Server {
    key: HandlerKey<Self>,
    /// Where the work is done.
    tokio: Handle,
    /// The way back for the tasks.
    remote: Remote,
    pub(crate) counts: Counts,
}

/// How the server stands.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) connections: u64,
    pub(crate) answered: u64,
    pub(crate) too_late: u64,
}

/// A connection.
///
/// A line of it is under way at a time, and meanwhile it is not read from. So answers keep their
/// order, a fast client is held back, and there are no more tasks than connections.
#[derive(Default)]
pub(crate) struct Client {
    is_waiting: bool,
    /// The connection is closed when it waits no longer.
    is_leaving: bool,
}

impl Handler for Server {
    type State = Client;

    fn on_accept(&mut self, _: &Peer) -> Option<Client> {
        self.counts.connections += 1;
        Some(Client::default())
    }

    fn on_data(&mut self, client: &mut Client, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut lines = frame::lines(input, MAX_LINE_BYTES);
        if client.is_waiting {
            return 0;
        }
        match lines.next() {
            Some(Ok(line)) => {
                client.is_waiting = true;
                conn.pause_reading();
                self.begin(conn.id(), String::from_utf8_lossy(line).into_owned());
            }
            Some(Err(_)) => conn.close(),
            None => {}
        }
        lines.consumed()
    }

    /// A client that waits for its answer is not idle.
    fn on_idle(&mut self, client: &mut Client, _: &mut Conn<'_>, _: IdleKind) -> Idle {
        if client.is_waiting { Idle::Keep } else { Idle::Close }
    }

    /// What was asked before the end is answered.
    fn on_eof(&mut self, client: &mut Client, conn: &mut Conn<'_>) {
        client.leave(conn);
    }

    fn on_shutdown(&mut self, client: &mut Client, conn: &mut Conn<'_>) {
        client.leave(conn);
    }

    fn on_close(&mut self, _: Client, _: Closed, _: &mut Context<'_>) {
        self.counts.connections -= 1;
    }
}

impl Server {
    pub(crate) fn new(key: HandlerKey<Self>, tokio: Handle, remote: Remote) -> Self {
        Self { key, tokio, remote, counts: Counts::default() }
    }

    /// From the reactor to tokio and back. The answer names its connection by an id, which finds
    /// nothing when the connection has ended.
    fn begin(&self, id: ConnId, line: String) {
        let (remote, key) = (self.remote.clone(), self.key);
        self.tokio.spawn(async move {
            let answer = work(&line).await;
            // A reactor that has stopped has no connection to answer.
            let _ = remote.with(key, move |server, cx| server.finish(id, &answer, cx));
        });
    }

    fn finish(&mut self, id: ConnId, answer: &str, cx: &mut Context<'_>) {
        let told = cx.with(self.key, id, |client, conn| {
            conn.write(answer.as_bytes());
            client.is_waiting = false;
            if client.is_leaving { conn.close() } else { conn.resume_reading() }
        });
        match told {
            Some(()) => self.counts.answered += 1,
            None => self.counts.too_late += 1,
        }
    }
}

impl Client {
    fn leave(&mut self, conn: &mut Conn<'_>) {
        self.is_leaving = true;
        if !self.is_waiting {
            conn.close();
        }
    }
}

async fn work(line: &str) -> String {
    tokio::time::sleep(WORK).await;
    line.to_uppercase() + "\n"
}
