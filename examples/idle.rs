//! Shows what expires, and when: idle limits, a deadline and timers, each set by the client for
//! its own connection. Both ends print what happens. An argument is another address to listen on.
//!
//! ```text
//! cargo run --example idle
//! nc 127.0.0.1 7002        # then type, for example: keep 2, all 1.5, after 3, every 0.5, off
//! ```

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use waterwheel::{
    Closed, Conn, Context, DeadlineKind, Handler, Idle, IdleKind, ListenOptions, Peer, Reactor,
    Timer, TimerId, frame,
};

const HELP: &str = "\
read S      end this connection when nothing was read for S seconds
write S     when nothing was written
all S       when neither
keep N      but keep it the next N times, and say so
deadline S  end it in S seconds whatever moves
after S     a timer, once
every S     a timer, again and again
off         none of these any more
quit
";

/// Longest command, in bytes.
const MAX_LINE_BYTES: usize = 80;

/// Most timers that one client may have running.
const MAX_TIMERS: usize = 16;

/// Most lines that are printed in a second, of all clients together.
const MAX_LINES: u32 = 100;

#[derive(Default)]
struct Client {
    /// How many more times an idle limit is let pass.
    keeps: u32,
    /// Timers that run, and whether they repeat.
    timers: Vec<(TimerId, bool)>,
}

#[derive(Default)]
struct Show {
    /// The second in which a line was printed last, and how many lines there were in it.
    printed: (u64, u32),
}

impl Handler for Show {
    type State = Client;

    fn on_accept(&mut self, _: &Peer) -> Option<Client> {
        Some(Client::default())
    }

    fn on_open(&mut self, _: &mut Client, conn: &mut Conn<'_>) {
        self.say(conn, "open; type help");
    }

    fn on_data(&mut self, client: &mut Client, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut lines = frame::lines(input, MAX_LINE_BYTES);
        for line in lines.by_ref() {
            let Ok(line) = line else {
                conn.close();
                break;
            };
            let answer = obey(client, conn, String::from_utf8_lossy(line).trim());
            self.say(conn, &answer.unwrap_or_else(|text| format!("no: {text}")));
        }
        lines.consumed()
    }

    fn on_idle(&mut self, client: &mut Client, conn: &mut Conn<'_>, kind: IdleKind) -> Idle {
        let Some(left) = client.keeps.checked_sub(1) else {
            self.say(conn, &format!("idle ({kind:?}): closing"));
            return Idle::Close;
        };
        client.keeps = left;
        self.say(conn, &format!("idle ({kind:?}): kept, {left} left"));
        Idle::Keep
    }

    fn on_timer(&mut self, client: &mut Client, conn: &mut Conn<'_>, timer: Timer) {
        client.timers.retain(|&(running, repeats)| running != timer.id || repeats);
        self.say(conn, "timer");
    }

    fn on_close(&mut self, _: Client, closed: Closed, cx: &mut Context<'_>) {
        self.print(cx, &format!("{}: {}", closed.id, closed.reason));
    }
}

impl Show {
    /// Tells the client, and whoever watches the server.
    fn say(&mut self, conn: &mut Conn<'_>, text: &str) {
        writeln!(conn, "{text}");
        let line = format!("{}: {}", conn.id(), text.lines().next().unwrap_or(""));
        self.print(&conn.context(), &line);
    }

    /// Prints a line, unless clients have made too many in this second.
    fn print(&mut self, cx: &Context<'_>, line: &str) {
        let (now, (second, lines)) = (cx.now(), self.printed);
        self.printed = (now.as_secs(), if second == now.as_secs() { lines + 1 } else { 1 });
        if self.printed.1 <= MAX_LINES {
            // The server goes on when the reader of this line has gone.
            let _ = writeln!(io::stdout(), "{:>10.3} {line}", now.as_secs_f64());
        }
    }
}

/// Does what a command says; the answer, or what is wrong with it.
fn obey(client: &mut Client, conn: &mut Conn<'_>, line: &str) -> Result<String, String> {
    let (command, value) = line.split_once(' ').unwrap_or((line, ""));
    match command {
        "help" => return Ok(HELP.trim_end().to_owned()),
        "read" => limit(conn, IdleKind::Read, seconds(value)?)?,
        "write" => limit(conn, IdleKind::Write, seconds(value)?)?,
        "all" => limit(conn, IdleKind::All, seconds(value)?)?,
        "keep" => client.keeps = value.parse().map_err(|_| "how many times?")?,
        "deadline" => conn.set_deadline(DeadlineKind::User, Some(seconds(value)?)),
        "after" | "every" if client.timers.len() == MAX_TIMERS => {
            return Err(format!("{MAX_TIMERS} timers are enough; type off"));
        }
        "after" => client.timers.push((conn.set_timer(seconds(value)?, 0), false)),
        "every" => client.timers.push((conn.set_periodic_timer(seconds(value)?, 0), true)),
        "off" => {
            for kind in [IdleKind::Read, IdleKind::Write, IdleKind::All] {
                conn.set_idle_timeout(kind, None).map_err(|error| error.to_string())?;
            }
            conn.set_deadline(DeadlineKind::User, None);
            for (timer, _) in client.timers.drain(..) {
                conn.cancel_timer(timer);
            }
        }
        "quit" => conn.close(),
        _ => return Err("no such command; type help".to_owned()),
    }
    Ok("ok".to_owned())
}

fn limit(conn: &mut Conn<'_>, kind: IdleKind, limit: Duration) -> Result<(), String> {
    conn.set_idle_timeout(kind, Some(limit)).map_err(|error| error.to_string())
}

fn seconds(value: &str) -> Result<Duration, String> {
    let seconds = value.parse().map_err(|_| "how many seconds?")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    env_logger::init();
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7002".to_owned());
    let Err(error) = serve(&addr) else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "idle: {error}");
    ExitCode::FAILURE
}

fn serve(addr: &str) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let show = reactor.register(Show::default());
    let addr = reactor.listen(addr, show, ListenOptions::default())?;
    writeln!(io::stdout(), "listening on {addr}")?;
    reactor.run()
}
