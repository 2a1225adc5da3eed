//! A key-value server that speaks as much of Redis's protocol as its own tools ask for. Requests
//! are parsed where they lie in the input; all that one read brought is answered with one write;
//! keys expire by a timer wheel, without being touched.
//!
//! ```text
//! cargo run --release -p kv -- --listen 127.0.0.1:7379
//! redis-cli -p 7379 set greeting hello ex 10
//! cargo run --release -p kv --features tls -- --tls cert.pem key.pem
//! redis-cli --tls --cacert ca.pem -p 7379 get greeting
//! redis-benchmark -p 7379 -t get,set -r 100000 -n 1000000 -P 16
//! ```
//!
//! The commands are `PING ECHO GET SET DEL EXISTS INCR INCRBY TTL PTTL EXPIRE PEXPIRE PERSIST
//! DBSIZE FLUSHALL INFO COMMAND CONFIG HELLO CLIENT SELECT RESET QUIT`, in RESP2 and, after
//! `HELLO 3`, in RESP3. A client that begins an HTTP request is closed, because a web page may make
//! a browser send one. What is left out: other types than strings, passwords, persistence,
//! replication, and a table that grows step by step (the standard one moves all keys at once when
//! it doubles).

use std::process::ExitCode;
use std::time::Duration;

use waterwheel::{
    Closed, Conn, Context, Handler, HandlerKey, Limits, ListenOptions, Peer, Reactor, Timer,
    TimerHandler, TimerId,
};

mod db;

use db::{Db, MAX_REQUEST_BYTES, Session, Then};

const OPTIONS: &str = "\
  --max-memory MIB       refuse to store more, roughly; 0: no limit [0]
  --tls CERT KEY         TLS, with a certificate and its key from files of PEM text, which are
                         read anew at SIGHUP
";

/// Keys that expire in one go: half a millisecond of work. The others follow a tick later.
const EXPIRY_BUDGET: usize = 1_000;

/// The database on the network.
struct Server {
    db: Db,
    /// Its own key: a handler timer is set for it. `None` only before it is registered.
    service: Option<HandlerKey<Server>>,
    /// The timer for the next key to expire, and its time in milliseconds.
    alarm: Option<(u64, TimerId)>,
    /// Replies of the callback that runs; kept for its memory.
    replies: Vec<u8>,
}

impl Handler for Server {
    type State = Session;

    fn on_accept(&mut self, _: &Peer) -> Option<Session> {
        Some(self.db.open_session())
    }

    fn on_open(&mut self, _: &mut Session, _: &mut Conn<'_>) {
        self.db.clients += 1;
    }

    fn on_data(&mut self, session: &mut Session, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let now = millis(&conn.context());
        let mut taken = 0;
        loop {
            let served = self.db.serve(session, &input[taken..], now, &mut self.replies);
            taken += served.consumed;
            let written = conn.write(&self.replies);
            self.replies.clear();
            match served.then {
                Then::Wait => break,
                Then::Close => {
                    conn.close();
                    break;
                }
                Then::GoOn if written == waterwheel::Written::Below => {}
                // The client does not read its replies: the rest of its requests can wait.
                Then::GoOn => {
                    conn.pause_reading();
                    break;
                }
            }
        }
        self.set_alarm(&mut conn.context());
        taken
    }

    fn on_drain(&mut self, _: &mut Session, conn: &mut Conn<'_>) {
        conn.resume_reading();
    }

    fn on_close(&mut self, _: Session, _: Closed, _: &mut Context<'_>) {
        self.db.clients -= 1;
    }
}

impl TimerHandler for Server {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        self.alarm = None;
        self.db.expire(millis(cx), EXPIRY_BUDGET);
        self.set_alarm(cx);
    }
}

impl Server {
    /// Sees to it that a timer fires when the next key expires. One that is too early does no
    /// harm and is left alone.
    fn set_alarm(&mut self, cx: &mut Context<'_>) {
        let (Some(deadline), Some(service)) = (self.db.next_deadline(), self.service) else {
            return;
        };
        match self.alarm {
            Some((set, _)) if set <= deadline => return,
            Some((_, timer)) => {
                cx.cancel_timer(timer);
            }
            None => {}
        }
        let wait = Duration::from_millis(deadline.saturating_sub(millis(cx)));
        self.alarm = Some((deadline, cx.set_timer(service, wait, 0)));
    }
}

/// The reactor's time, in the ticks of the database.
fn millis(cx: &Context<'_>) -> u64 {
    cx.now().as_millis() as u64
}

fn main() -> ExitCode {
    support::run("kv", OPTIONS, "127.0.0.1:7379", |args| {
        let max_memory: usize = args.value("max-memory", 0)?;
        let max_bytes = match max_memory.saturating_mul(1 << 20) {
            0 => usize::MAX,
            bytes => bytes,
        };
        let mut reactor = Reactor::new()?;
        let server = reactor.register(Server {
            db: Db::new(max_bytes),
            service: None,
            alarm: None,
            replies: Vec::new(),
        });
        // The handler learns its own key when the loop runs.
        reactor.context().post(server, move |handler, cx| {
            handler.service = Some(server);
            handler.set_alarm(cx);
        });
        let limits = Limits::default()
            // A request that is not whole, and a read behind it.
            .max_input_bytes(MAX_REQUEST_BYTES + (128 << 10))
            .message_timeout(Some(Duration::from_secs(60)));
        let options = args.encrypt("kv", ListenOptions::default().limits(limits))?;
        args.serve(&mut reactor, server, &options)
    })
}
