//! A chat room: lines in, lines out to everybody else. What the members share is a field of the
//! handler, and what each has is the state of its connection: its nick. A member who does not read
//! is ended by the limits before it costs the others anything. Names that only look alike are not
//! refused. An argument is another address to listen on.
//!
//! ```text
//! cargo run --example chat
//! nc 127.0.0.1 7001        # in two terminals; try /nick ann, /who, /quit
//! ```

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use waterwheel::{
    Closed, Conn, Context, Handler, HandlerKey, Limits, ListenOptions, MinRate, Peer, Reactor,
    Timer, frame,
};

/// Longest line, in bytes: a peer that sends a longer one is told so and closed.
const MAX_LINE_BYTES: usize = 1_024;

/// Longest nickname, in characters.
const MAX_NICK_CHARS: usize = 20;

/// What may wait for a member who reads slowly, in bytes; one who falls further behind is ended.
const MAX_BEHIND_BYTES: usize = 256 << 10;

/// Lines of a member at once: each goes to everybody, and then the others have their turn.
const MAX_LINES: usize = 64;

struct Room {
    key: HandlerKey<Room>,
    /// How many have come so far.
    guests: u64,
}

impl Handler for Room {
    /// The nick of a member.
    type State = String;

    fn on_accept(&mut self, _: &Peer) -> Option<String> {
        self.guests += 1;
        Some(format!("guest-{}", self.guests))
    }

    fn on_open(&mut self, nick: &mut String, conn: &mut Conn<'_>) {
        tell(conn, format_args!("* you are {nick}; try /nick NAME, /who, /quit"));
        self.tell_others(&mut conn.context(), format_args!("* {nick} has joined"));
    }

    fn on_data(&mut self, nick: &mut String, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let mut lines = frame::lines(input, MAX_LINE_BYTES);
        for line in lines.by_ref().take(MAX_LINES) {
            let Ok(line) = line else {
                tell(conn, format_args!("* a line has at most {MAX_LINE_BYTES} bytes"));
                conn.close();
                break;
            };
            let line = String::from_utf8_lossy(line).replace(is_hidden, "");
            self.on_line(nick, conn, line.trim());
            if !conn.is_writable() {
                break; // it has said /quit
            }
        }
        let taken = lines.consumed();
        if lines.next().is_some() {
            conn.pause_reading(); // what is left comes again when `on_timer` resumes
            conn.set_timer(Duration::from_millis(1), 0);
        }
        taken
    }

    fn on_timer(&mut self, _: &mut String, conn: &mut Conn<'_>, _: Timer) {
        conn.resume_reading();
    }

    fn on_close(&mut self, nick: String, closed: Closed, cx: &mut Context<'_>) {
        self.tell_others(cx, format_args!("* {nick} has left: {}", closed.reason));
    }
}

impl Room {
    fn on_line(&mut self, own: &mut String, conn: &mut Conn<'_>, line: &str) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("", _) => {}
            ("/nick", nick) => self.rename(own, conn, nick.trim()),
            ("/who", _) => {
                let mut nicks = vec![own.clone()];
                let look = |nick: &mut String, _: &mut Conn<'_>| nicks.push(nick.clone());
                conn.context().with_each(self.key, look);
                nicks.sort_unstable();
                tell(conn, format_args!("* here: {}", nicks.join(", ")));
            }
            ("/quit", _) => conn.close(),
            (command, _) if command.starts_with('/') => {
                tell(conn, format_args!("* no command {command}: /nick NAME, /who, /quit"));
            }
            _ => self.tell_others(&mut conn.context(), format_args!("<{own}> {line}")),
        }
    }

    fn rename(&mut self, own: &mut String, conn: &mut Conn<'_>, nick: &str) {
        let is_good = (1..=MAX_NICK_CHARS).contains(&nick.chars().count())
            && nick.chars().all(|c| c.is_alphanumeric() || c == '-');
        if !is_good {
            let most = MAX_NICK_CHARS;
            return tell(conn, format_args!("* a nick is 1 to {most} letters, digits and dashes"));
        }
        let mut is_taken = own == nick;
        conn.context().with_each(self.key, |other, _| is_taken |= other == nick);
        if is_taken {
            return tell(conn, format_args!("* {nick} is taken"));
        }
        tell(conn, format_args!("* you are {nick}"));
        self.tell_others(&mut conn.context(), format_args!("* {own} is now {nick}"));
        nick.clone_into(own);
    }

    /// Tells everybody but the one whose callback runs. A member who has ended is passed over.
    fn tell_others(&self, cx: &mut Context<'_>, text: impl Display) {
        cx.with_each(self.key, |_, conn| tell(conn, &text));
    }
}

/// What a terminal would obey or not show: control characters, marks of direction, no width.
fn is_hidden(c: char) -> bool {
    let is_mark = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}');
    let is_format = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    c.is_control() || is_mark || is_format || ('\u{e0000}'..='\u{e007f}').contains(&c)
}

fn tell(conn: &mut Conn<'_>, text: impl Display) {
    writeln!(conn, "{text}");
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
        .max_output_bytes(MAX_BEHIND_BYTES)
        .pause_at_high_mark(false) // what waits is of others: who is behind may still speak
        .min_send_rate(Some(MinRate::new(64, Duration::from_secs(30))));
    let mut reactor = Reactor::new()?;
    let room = reactor.register_with(|key| Room { key, guests: 0 });
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
