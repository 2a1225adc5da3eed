//! The reactor's side: each line goes to a task of tokio, and its answer comes back.

use std::time::Duration;

use tokio::runtime::Handle;
use waterwheel::{Conn, ConnId, Context, Handler, HandlerKey, Peer, Remote, frame};

/// Longest line, in bytes: a peer that sends a longer one is closed.
const MAX_LINE_BYTES: usize = 4_096;

/// What a task waits, in place of the client of a database that is a crate of tokio's.
const WORK: Duration = Duration::from_millis(10);

/// Lines of a connection that are under way at once. Meanwhile it is not read from. So answers keep
/// their order, a fast client is held back, and there are no more tasks than connections.
pub(crate) const MAX_UNDER_WAY: u32 = 1;

pub(crate) struct Server {
    key: HandlerKey<Self>,
    /// Where the work is done.
    tokio: Handle,
    /// The way back for the tasks.
    remote: Remote,
    pub(crate) answered: u64,
    pub(crate) too_late: u64,
}

impl Handler for Server {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut lines = frame::lines(input, MAX_LINE_BYTES);
        while conn.is_reading() {
            match lines.next() {
                Some(Ok(line)) => {
                    conn.begin_request();
                    self.begin(conn.id(), String::from_utf8_lossy(line).into_owned());
                }
                Some(Err(_)) => conn.close(),
                None => break,
            }
        }
        lines.consumed()
    }
}

impl Server {
    pub(crate) fn new(key: HandlerKey<Self>, tokio: Handle, remote: Remote) -> Self {
        Self { key, tokio, remote, answered: 0, too_late: 0 }
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
        let Some(mut conn) = cx.conn(id) else { return self.too_late += 1 };
        conn.write(answer.as_bytes());
        conn.end_request();
        self.answered += 1;
    }
}

async fn work(line: &str) -> String {
    tokio::time::sleep(WORK).await;
    line.to_uppercase() + "\n"
}
