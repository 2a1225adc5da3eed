//! A chat over TLS, both ends of it: a server that passes lines on, and a client between a terminal
//! and the server. The handlers know nothing of TLS: it is an option of `listen` and of `connect`.
//!
//! ```text
//! openssl req -x509 -newkey rsa:2048 -nodes -days 7 -subj /CN=localhost \
//!     -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
//!     -keyout key.pem -out cert.pem
//! cargo run --features tls-ring --example tls_chat -- serve 127.0.0.1:7443 cert.pem key.pem
//! cargo run --features tls-ring --example tls_chat -- join 127.0.0.1:7443 cert.pem
//! ```
//! Join in two terminals. `join` trusts the certificates of its file, and no others.

use std::env;
use std::io::{self, BufRead, ErrorKind, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use waterwheel::tls::{ClientConfig, ClientOptions, Roots, ServerConfig};
use waterwheel::{
    CloseReason, Closed, Conn, ConnId, ConnectOptions, Context, Handler, Limits, ListenOptions,
    Peer, Reactor, Receive, Sender, Timer, frame,
};

/// Lines of a client at once: each goes to everybody, and then the others have their turn.
const MAX_LINES: usize = 64;

/// The server.
struct Room;

impl Handler for Room {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    /// A connection is here once its handshake is done: what is written to it is encrypted.
    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        let key = conn.handler_key::<Self>();
        let mut lines = frame::lines(input, 1_024);
        for line in lines.by_ref().take(MAX_LINES) {
            let Ok(line) = line else {
                conn.close(); // more bytes than a line has
                break;
            };
            if line.iter().any(u8::is_ascii_control) {
                continue; // terminals obey some of them
            }
            conn.context().with_each(key, |(), member| {
                member.write_vectored(&[line, b"\n"]);
            });
        }
        let taken = lines.consumed();
        if lines.next().is_some() {
            conn.pause_reading(); // what is left comes again when `on_timer` resumes
            conn.set_timer(Duration::from_millis(1), 0);
        }
        taken
    }

    fn on_timer(&mut self, _: &mut (), conn: &mut Conn<'_>, _: Timer) {
        conn.resume_reading();
    }
}

/// The client: lines of the server go to the terminal, and those of the terminal to the server.
struct Terminal {
    /// For the thread that reads the terminal, which begins once there is somebody to send to.
    lines: Option<Sender<String>>,
    server: Option<ConnId>,
    result: io::Result<()>,
}

impl Handler for Terminal {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        None
    }

    fn on_open(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        self.server = Some(conn.id());
        if let Some(tls) = conn.tls() {
            let _ = writeln!(io::stderr(), "* encrypted by {}", tls.cipher);
        }
        let Some(lines) = self.lines.take() else { return };
        thread::spawn(move || {
            let typed = io::stdin().lock().lines().map_while(Result::ok);
            typed.map(|line| lines.send(line)).take_while(Result::is_ok).count()
        });
    }

    fn on_data(&mut self, _: &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        let _ = io::stdout().write_all(input); // a terminal that has gone ends its input too
        input.len()
    }

    /// Without the end that TLS has, somebody on the way may have cut the rest off.
    fn on_eof(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        if conn.is_truncated() {
            self.result = Err(io::Error::new(ErrorKind::UnexpectedEof, "the end was cut off"));
        }
        conn.close();
    }

    fn on_connect_failed(&mut self, _: (), error: io::Error, cx: &mut Context<'_>) {
        self.result = Err(error);
        cx.stop();
    }

    fn on_close(&mut self, _: (), closed: Closed, cx: &mut Context<'_>) {
        if !matches!(closed.reason, CloseReason::Local | CloseReason::Peer) {
            self.result = Err(io::Error::other(closed.reason.to_string()));
        }
        cx.stop();
    }
}

/// What a thread reads at the terminal, since that blocks.
impl Receive<String> for Terminal {
    fn on_message(&mut self, line: String, cx: &mut Context<'_>) {
        if let Some(mut server) = self.server.and_then(|id| cx.conn(id)) {
            server.write_vectored(&[line.as_bytes(), b"\n"]);
        }
    }

    fn on_senders_gone(&mut self, cx: &mut Context<'_>) {
        if let Some(mut server) = self.server.and_then(|id| cx.conn(id)) {
            server.close(); // what was written is still sent
        }
    }
}

fn serve(addr: &str, cert: &str, key: &str) -> io::Result<()> {
    let tls = ServerConfig::from_pem_files(cert, key)?;
    let mut reactor = Reactor::new()?;
    let room = reactor.register(Room);
    // Who only listens may stay, and who is behind may still speak: what waits is of others.
    let limits = Limits::internet().first_byte_timeout(None).pause_at_high_mark(false);
    let options = ListenOptions::default().limits(limits).tls(&tls);
    writeln!(io::stdout(), "listening on {}", reactor.listen(addr, room, options)?)?;
    reactor.run()
}

fn join(addr: &str, roots: &str) -> io::Result<()> {
    let tls = ClientConfig::new(ClientOptions::new(Roots::from_file(roots)))?;
    let mut reactor = Reactor::new()?;
    let terminal = reactor.register(Terminal { lines: None, server: None, result: Ok(()) });
    let lines = reactor.channel(terminal, 16)?;
    if let Some(terminal) = reactor.handler_mut(terminal) {
        terminal.lines = Some(lines);
    }
    reactor.connect(addr, terminal, (), &ConnectOptions::default().tls(&tls, "localhost"));
    reactor.run()?;
    reactor.handler_mut(terminal).map_or(Ok(()), |it| std::mem::replace(&mut it.result, Ok(())))
}

fn main() -> ExitCode {
    env_logger::init();
    let args: Vec<String> = env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", addr, cert, key] => serve(addr, cert, key),
        ["join", addr, roots] => join(addr, roots),
        _ => Err(io::Error::other("serve ADDRESS CERT KEY, or join ADDRESS ROOTS")),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "tls_chat: {error}");
    ExitCode::FAILURE
}
