//! A peer that is a socket: it sends and reads the bytes that a test spells out.

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;

use waterwheel::http::Server;
use waterwheel::ws::{Client as WsClient, Ended, Handler, Message, Options, Part, Request, Socket};
use waterwheel::{ConnId, ConnectOptions, Context, Limits, Timer};

use crate::site::site;
use crate::support::{Client, End, Rig};

/// What a program was told, in order.
pub(crate) type Log = Rc<RefCell<Vec<String>>>;

/// Writes down what it is told, and echoes what is a message. What is said to it in words, it does.
#[derive(Debug)]
pub(crate) struct Notes {
    pub(crate) log: Log,
}

impl Notes {
    fn note(&self, text: String) {
        self.log.borrow_mut().push(text);
    }
}

impl Handler for Notes {
    type State = ();

    fn on_open(&mut self, _: &mut (), socket: &mut Socket<'_>) {
        self.note(match socket.protocol() {
            Some(name) => format!("open {name}"),
            None => "open".to_owned(),
        });
    }

    fn on_message(&mut self, _: &mut (), socket: &mut Socket<'_>, message: Message<'_>) {
        match message {
            Message::Text("close") => socket.close(waterwheel::ws::CloseCode::NORMAL, "asked"),
            Message::Text("ping") => {
                socket.ping(b"there?");
            }
            Message::Text("parts") => {
                socket.send_part(waterwheel::ws::Kind::Text, "gr\u{fc}".as_bytes(), false);
                assert!(!socket.send_text("within").is_accepted());
                socket.send_part(waterwheel::ws::Kind::Text, b"n", true);
            }
            _ => {
                socket.send(message);
            }
        }
        self.note(match message {
            Message::Text(text) if text.len() < 40 => format!("text {text}"),
            message => format!("{:?} of {}", message.kind(), message.bytes().len()),
        });
    }

    /// Echoes. Behind bytes that begin with a `P` it stops reading for a moment.
    fn on_part(&mut self, _: &mut (), socket: &mut Socket<'_>, part: Part<'_>) {
        let bytes = part.content.bytes();
        socket.send_part(part.content.kind(), bytes, part.is_last);
        self.note(match part.content {
            Message::Text(text) => format!("part {text} {} {}", part.is_first, part.is_last),
            Message::Binary(_) => format!("{} {} {}", bytes.len(), part.is_first, part.is_last),
        });
        if bytes.first() == Some(&b'P') {
            socket.pause_reading();
            socket.set_timer(std::time::Duration::from_millis(1), 0);
        }
    }

    fn on_timer(&mut self, _: &mut (), socket: &mut Socket<'_>, _: Timer) {
        self.note("resume".to_owned());
        socket.resume_reading();
    }

    fn on_pong(&mut self, _: &mut (), _: &mut Socket<'_>, payload: &[u8]) {
        self.note(format!("pong {}", payload.escape_ascii()));
    }

    fn on_close(&mut self, _: (), ended: Ended<'_>, _: &mut Context<'_>) {
        let Ended { code, reason, is_clean, closed, .. } = ended;
        self.note(format!("end {code} {reason:?} {is_clean} {}", closed.unsent_bytes));
    }

    fn on_connect_failed(&mut self, _: (), error: std::io::Error, _: &mut Context<'_>) {
        self.note(format!("failed {:?} {error}", error.kind()));
    }
}

pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A request that is in order, with these fields besides.
pub(crate) fn request(fields: &str) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{fields}\r\n"
    )
}

/// A server with one client that has shaken hands.
pub(crate) struct Served {
    pub(crate) rig: Rig<Server<Notes>>,
    pub(crate) client: Client,
    pub(crate) id: ConnId,
    pub(crate) log: Log,
    /// The head of the server's answer.
    pub(crate) answer: String,
}

#[track_caller]
pub(crate) fn serve(options: Options) -> Served {
    serve_with(options, Limits::default(), "")
}

#[track_caller]
pub(crate) fn serve_with(options: Options, limits: Limits, fields: &str) -> Served {
    let log = Log::default();
    let mut rig = Rig::with_limits(site(Notes { log: Rc::clone(&log) }, options), limits);
    let (mut client, id) = rig.client();
    client.send(request(fields).as_bytes());
    let answer = read_head(&mut rig, &mut client);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    Served { rig, client, id, log, answer }
}

/// Reads to the end of a head.
#[track_caller]
pub(crate) fn read_head<H: waterwheel::Handler>(rig: &mut Rig<H>, client: &mut Client) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(rig.read(client, 1));
    }
    String::from_utf8(head).unwrap()
}

impl Served {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.client.send(bytes);
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, bytes: &[u8]) {
        let found = self.rig.read(&mut self.client, bytes.len());
        assert!(found == bytes, "{} instead of {}", found.escape_ascii(), bytes.escape_ascii());
    }

    /// The message that the server sends next: the opcode, and its frames put together.
    #[track_caller]
    pub(crate) fn message(&mut self) -> (u8, Vec<u8>) {
        let (mut opcode, mut message) = (0, Vec::new());
        loop {
            let head = self.rig.read(&mut self.client, 2);
            assert!(head[0] & 8 == 0, "a control frame: {head:x?}");
            opcode |= head[0] & 0x0f;
            let length = match usize::from(head[1]) {
                short @ ..126 => short,
                long => {
                    let wide = self.rig.read(&mut self.client, [2, 8][long - 126]);
                    wide.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
                }
            };
            if length > 0 {
                message.extend(self.rig.read(&mut self.client, length));
            }
            if head[0] & 0x80 != 0 {
                return (opcode, message);
            }
        }
    }

    /// The server says Close with this code, and then FIN; returns the reason.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, code: u16) -> String {
        let head = self.rig.read(&mut self.client, 2);
        assert_eq!(head[0], 0x88, "{head:x?}");
        let payload = self.rig.read(&mut self.client, usize::from(head[1]));
        assert_eq!(
            u16::from_be_bytes([payload[0], payload[1]]),
            code,
            "{}",
            payload.escape_ascii()
        );
        assert_eq!(self.rig.read_to_end(&mut self.client), (Vec::new(), End::Fin));
        String::from_utf8(payload[2..].to_vec()).unwrap()
    }

    /// The frame breaks a rule, and the server fails the connection with this code.
    #[track_caller]
    pub(crate) fn expect_failed(mut self, code: u16) {
        let reason = self.expect_close(code);
        self.client.finish();
        let id = self.id;
        self.rig.expect_end(id, "Local");
        let last = self.log.borrow().last().cloned();
        assert_eq!(last, Some(format!("end {code} {reason:?} false 0")));
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }
}

/// What is sent to a fresh server ends its connection with this code.
#[track_caller]
pub(crate) fn expect_failure(options: &Options, bytes: &[u8], code: u16) {
    let mut served = serve(options.clone());
    served.send(bytes);
    served.expect_failed(code);
}

/// A frame of a client: masked.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = plain(first, payload);
    frame[1] |= 0x80;
    let head = frame.len() - payload.len();
    for (byte, key) in frame[head..].iter_mut().zip(MASK.iter().cycle()) {
        *byte ^= key;
    }
    frame.splice(head..head, MASK);
    frame
}

/// A frame of a server.
pub(crate) fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(length as u8),
        length @ 126..=0xffff => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// A Close frame of a client.
pub(crate) fn close_frame(code: u16) -> Vec<u8> {
    masked(0x88, &code.to_be_bytes())
}

/// The value of a field of a request.
#[track_caller]
fn field<'a>(request: &'a str, name: &str) -> &'a str {
    let mut lines = request.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(field, _)| *field == name).expect("a field").1
}

/// The answer to a request that is in order, with these fields besides.
pub(crate) fn answer_to(request: &str, fields: &str) -> String {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(field(request, "Sec-WebSocket-Key").as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = data_encoding::BASE64.encode(&hash.digest().bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{fields}\r\n"
    )
}

/// A client with a server that is a socket, and the head of the client's request.
pub(crate) struct Connected {
    pub(crate) rig: Rig<WsClient<Notes>>,
    pub(crate) server: Client,
    pub(crate) id: ConnId,
    pub(crate) log: Log,
    pub(crate) request: String,
}

#[track_caller]
pub(crate) fn connect(options: Options) -> Connected {
    let log = Log::default();
    let mut rig = Rig::new(WsClient::new(Notes { log: Rc::clone(&log) }, options));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let state = Request::new("a.example", "/chat?x=1").header("Origin", "b").with_state(());
    let addr = listener.local_addr().unwrap();
    let id = rig.connect(addr, state, &ConnectOptions::default());
    let mut server = rig.accept_at(&listener);
    let request = read_head(&mut rig, &mut server);
    Connected { rig, server, id, log, request }
}

impl Connected {
    /// The value of a field of the request.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> &str {
        field(&self.request, name)
    }

    /// The answer that is in order, with these fields besides.
    pub(crate) fn answer(&self, fields: &str) -> String {
        answer_to(&self.request, fields)
    }

    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, entry: &str) {
        let log = Rc::clone(&self.log);
        self.rig.until(what, |_| log.borrow().iter().any(|found| found == entry));
    }

    /// The next frame, unmasked, with its key.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> (u8, [u8; 4], Vec<u8>) {
        let head = self.rig.read(&mut self.server, 6);
        assert_eq!(head[1] & 0x80, 0x80, "a client masks");
        let key = [head[2], head[3], head[4], head[5]];
        let mut payload = self.rig.read(&mut self.server, usize::from(head[1] & 0x7f));
        for (byte, key) in payload.iter_mut().zip(key.iter().cycle()) {
            *byte ^= key;
        }
        (head[0], key, payload)
    }
}
