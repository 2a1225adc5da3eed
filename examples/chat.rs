//! A chat room: lines in, lines out to everybody else. What the members share is a field of the
//! handler; a member is reached by its id; and a member who does not read is ended by the limits
//! before it costs the others anything. Names that only look alike are not refused. An argument is
//! another address to listen on.
//!
//! ```text
//! cargo run --example chat
//! nc 127.0.0.1 7001        # in two terminals; try /nick ann, /who, /quit
//! ```

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use waterwheel::{
    Closed, Conn, ConnId, Context, Handler, Limits, ListenOptions, MinRate, Peer, Reactor, frame,
};

/// Longest line, in bytes: a peer that sends a longer one is told so and closed.
const MAX_LINE_BYTES: usize = 1_024;

/// Longest nickname, in characters.
const MAX_NICK_CHARS: usize = 20;

/// What may wait for a member who reads slowly, in bytes; one who falls further behind is ended.
const MAX_BEHIND_BYTES: usize = 256 << 10;

#[derive(Default)]
struct Room {
    /// Who is here.
    nicks: BTreeMap<ConnId, String>,
    /// How many have come so far.
    guests: u64,
}

impl Handler for Room {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        self.guests += 1;
        let nick = format!("guest-{}", self.guests);
        tell(conn, &format!("* you are {nick}; try /nick NAME, /who, /quit"));
        self.tell_others(conn, &format!("* {nick} has joined"));
        self.nicks.insert(conn.id(), nick);
    }

    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut lines = frame::lines(input, MAX_LINE_BYTES);
        for line in lines.by_ref() {
            let Ok(line) = line else {
                tell(conn, &format!("* a line has at most {MAX_LINE_BYTES} bytes"));
                conn.close();
                break;
            };
            let line = String::from_utf8_lossy(line).replace(is_hidden, "");
            self.on_line(conn, line.trim());
            if !conn.is_writable() {
                break; // it has said /quit
            }
        }
        lines.consumed()
    }

    fn on_close(&mut self, _: (), closed: Closed, cx: &mut Context<'_>) {
        if let Some(nick) = self.nicks.remove(&closed.id) {
            self.tell_all(cx, None, &format!("* {nick} has left: {}", closed.reason));
        }
    }
}

impl Room {
    fn on_line(&mut self, conn: &mut Conn<'_>, line: &str) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("", _) => {}
            ("/nick", nick) => self.rename(conn, nick.trim()),
            ("/who", _) => {
                let nicks: Vec<&str> = self.nicks.values().map(String::as_str).collect();
                tell(conn, &format!("* here: {}", nicks.join(", ")));
            }
            ("/quit", _) => conn.close(),
            (command, _) if command.starts_with('/') => {
                tell(conn, &format!("* no command {command}: /nick NAME, /who, /quit"));
            }
            _ => {
                let nick = self.nicks.get(&conn.id()).map_or("?", String::as_str);
                self.tell_others(conn, &format!("<{nick}> {line}"));
            }
        }
    }

    fn rename(&mut self, conn: &mut Conn<'_>, nick: &str) {
        let is_good = (1..=MAX_NICK_CHARS).contains(&nick.chars().count())
            && nick.chars().all(|c| c.is_alphanumeric() || c == '-');
        if !is_good {
            let text = format!("* a nick is 1 to {MAX_NICK_CHARS} letters, digits and dashes");
            return tell(conn, &text);
        }
        if self.nicks.values().any(|taken| taken == nick) {
            return tell(conn, &format!("* {nick} is taken"));
        }
        if let Some(old) = self.nicks.insert(conn.id(), nick.to_owned()) {
            tell(conn, &format!("* you are {nick}"));
            self.tell_others(conn, &format!("* {old} is now {nick}"));
        }
    }

    fn tell_others(&self, conn: &mut Conn<'_>, text: &str) {
        let from = conn.id();
        self.tell_all(&mut conn.context(), Some(from), text);
    }

    /// Tells everybody but one. A member who has ended, or is too far behind, is passed over.
    fn tell_all(&self, cx: &mut Context<'_>, but: Option<ConnId>, text: &str) {
        for &id in self.nicks.keys().filter(|&&id| Some(id) != but) {
            if let Some(mut conn) = cx.conn(id) {
                tell(&mut conn, text);
            }
        }
    }
}

/// What a terminal would obey or not show: control characters, marks of direction, no width.
fn is_hidden(c: char) -> bool {
    let is_mark = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}');
    let is_format = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    c.is_control() || is_mark || is_format || ('\u{e0000}'..='\u{e007f}').contains(&c)
}

fn tell(conn: &mut Conn<'_>, text: &str) {
    conn.write(format!("{text}\n").as_bytes());
}

fn main() -> ExitCode {
    env_logger::init();
    let addr = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7001".to_owned());
    let Err(error) = serve(&addr) else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "chat: {error}");
    ExitCode::FAILURE
}

fn serve(addr: &str) -> io::Result<()> {
    let limits = Limits::default()
        .high_mark_bytes(MAX_BEHIND_BYTES / 4)
        .low_mark_bytes(MAX_BEHIND_BYTES / 16)
        .max_output_bytes(MAX_BEHIND_BYTES)
        .min_send_rate(Some(MinRate::new(64, Duration::from_secs(30))));
    let mut reactor = Reactor::new()?;
    let room = reactor.register(Room::default());
    #[cfg(unix)]
    drain_on_signals(&mut reactor)?;
    let addr = reactor.listen(addr, room, ListenOptions::default().limits(limits))?;
    writeln!(io::stdout(), "listening on {addr}")?;
    reactor.run()
}

/// SIGINT and SIGTERM end the loop once all connections have ended, after five seconds at most.
#[cfg(unix)]
fn drain_on_signals(reactor: &mut Reactor) -> io::Result<()> {
    let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    reactor.drain_when_readable(reader.into(), Duration::from_secs(5))
}
