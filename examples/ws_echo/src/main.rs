//! A WebSocket echo, at the path `/ws`: the one to put a load on. And a client of it, which sends
//! its arguments and prints what comes back. It fails if an answer is missing, or if the end is not
//! 1000.
//!
//! ```text
//! cargo run --release -p ws_echo
//! cargo run --release -p ws_echo -- --connect 127.0.0.1:8080 hello 'and bye'
//! cargo run --release -p ws_echo --features tls -- --tls-self-signed
//! ```

use std::cell::OnceCell;
use std::error::Error;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use support::{CertificateSource, Tls, print, say};
use waterwheel::http::{Router, Server};
use waterwheel::ws::{
    Client, CloseCode, Deflate, Ended, Endpoint, Handler, Message, Options, Request, Socket,
};
use waterwheel::{ConnectOptions, Context, Limits, ListenOptions, Reactor, http};

const USAGE: &str = "\
usage: ws_echo [options]                   echoes at /ws
       ws_echo [options] --connect HOST:PORT TEXT...
  --listen ADDR        listen here, may be given again [127.0.0.1:8080]; port 0: any
  --deflate HOW        compress: no, shared (no context is kept), or kept [no]
  --window-bits N      what a kept context may hold: 2 to the N bytes, 9 to 15 [12]
  --max-message BYTES  largest message that comes in [16777216]
  --tls CERT KEY       wss, with a certificate and its key from files of PEM text, which are read
                       again at SIGHUP
  --tls-self-signed    wss, with a certificate for localhost that nobody trusts
  --help";

/// How long connections may take to end after SIGINT or SIGTERM.
const DRAIN: Duration = Duration::from_secs(5);

struct Args {
    listen: Vec<String>,
    options: Options,
    tls: Option<CertificateSource>,
    connect: Option<String>,
    texts: Vec<String>,
}

fn main() -> ExitCode {
    support::init_log("info");
    support::run_parsed("ws_echo", USAGE, parse(), |args| match args.connect.clone() {
        Some(to) => connect(&to, args),
        None => serve(args),
    })
}

/// Sends back what comes.
struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_message(&mut self, _: &mut (), socket: &mut Socket<'_>, message: Message<'_>) {
        socket.send(message);
    }
}

fn serve(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    support::raise_limit()?;
    let endpoint = Endpoint::new(args.options.clone());
    let routes = Router::new().get("/ws", move |_, req, res| {
        endpoint.upgrade(req, res, ());
    });
    let mut reactor = Reactor::new()?;
    let server = reactor.register(Server::new(Echo, routes));
    support::drain_on_signals(&mut reactor, DRAIN)?;
    let room = args.options.max_message_bytes.saturating_mul(2);
    let limits = http::limits().max_output_bytes(room.max(16 << 20));
    let mut options = ListenOptions::default().limits(limits);
    if let Some(source) = &args.tls {
        options = Tls::new("ws_echo", source)?.encrypt(options);
    }
    for addr in &args.listen {
        let addr = reactor.listen(addr, server, options.clone())?;
        print(format_args!("listening on {addr}"))?;
    }
    reactor.run()?;
    Ok(ExitCode::SUCCESS)
}

/// Sends the texts one by one, and prints the answers.
struct Asker {
    failure: Rc<OnceCell<String>>,
}

struct Texts {
    /// Those that are still to be sent.
    rest: std::vec::IntoIter<String>,
    /// How many have no answer yet, those that are to be sent too.
    unanswered: usize,
}

impl Asker {
    fn ask(texts: &mut Texts, socket: &mut Socket<'_>) {
        match texts.rest.next() {
            Some(text) => drop(socket.send_text(&text)),
            None => socket.close(CloseCode::NORMAL, ""),
        }
    }
}

impl Handler for Asker {
    type State = Texts;

    fn on_open(&mut self, texts: &mut Texts, socket: &mut Socket<'_>) {
        Self::ask(texts, socket);
    }

    fn on_message(&mut self, texts: &mut Texts, socket: &mut Socket<'_>, message: Message<'_>) {
        say(format_args!("{}", message.text().unwrap_or("(bytes)")));
        texts.unanswered = texts.unanswered.saturating_sub(1);
        Self::ask(texts, socket);
    }

    fn on_close(&mut self, texts: Texts, ended: Ended<'_>, cx: &mut Context<'_>) {
        let how = format!("closed with {} {}", ended.code, ended.reason);
        if texts.unanswered > 0 {
            let failure = format!("{how}, texts without an answer: {}", texts.unanswered);
            let _ = self.failure.set(failure);
        } else if ended.code != CloseCode::NORMAL {
            let _ = self.failure.set(how);
        } else {
            say(format_args!("{how}"));
        }
        cx.stop();
    }

    fn on_connect_failed(&mut self, _: Texts, error: std::io::Error, cx: &mut Context<'_>) {
        let _ = self.failure.set(error.to_string());
        cx.stop();
    }
}

fn connect(to: &str, args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let failure = Rc::new(OnceCell::new());
    let mut reactor = Reactor::new()?;
    let asker = Asker { failure: Rc::clone(&failure) };
    let client = reactor.register(Client::new(asker, args.options));
    let texts = Texts { unanswered: args.texts.len(), rest: args.texts.into_iter() };
    let state = Request::new(to, "/ws").with_state(texts);
    let options = ConnectOptions::default().limits(Limits::internet());
    reactor.connect(to, client, state, &options);
    reactor.run()?;
    match failure.get() {
        Some(failure) => Err(format!("{to}: {failure}").into()),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// `None` asks for the usage.
fn parse() -> Result<Option<Args>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut args = Args {
        listen: Vec::new(),
        options: Options::default(),
        tls: None,
        connect: None,
        texts: Vec::new(),
    };
    let (mut deflate, mut bits, mut max) = (None, 12, 16 << 20);
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("listen") => args.listen.push(parser.value()?.string()?),
            Long("connect") => args.connect = Some(parser.value()?.string()?),
            Long("deflate") => {
                deflate = match &*parser.value()?.string()? {
                    "no" => None,
                    "shared" => Some(false),
                    "kept" => Some(true),
                    other => return Err(format!("--deflate {other}").into()),
                }
            }
            Long("window-bits") => bits = parser.value()?.parse()?,
            Long("max-message") => max = parser.value()?.parse()?,
            Long("tls") => {
                let chain = parser.value()?.string()?;
                args.tls = Some(CertificateSource::Files(chain, parser.value()?.string()?));
            }
            Long("tls-self-signed") => args.tls = Some(CertificateSource::SelfSigned),
            Long("help") | Short('h') => return Ok(None),
            Value(text) if args.connect.is_some() => args.texts.push(text.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    if args.listen.is_empty() {
        args.listen.push("127.0.0.1:8080".to_owned());
    }
    let deflate = deflate.map(|keeps| {
        let deflate = Deflate::default().keep_context(keeps).keep_peer_context(keeps).min_bytes(0);
        if keeps { deflate.window_bits(bits).peer_window_bits(bits) } else { deflate }
    });
    args.options = args.options.deflate(deflate).max_message_bytes(max);
    Ok(Some(args))
}
