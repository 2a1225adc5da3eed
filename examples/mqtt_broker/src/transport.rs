//! What the packets of a client travel in: the connection itself, or the binary messages of a
//! WebSocket on the same port (MQTT 3.1.1, chapter 6). The first byte tells which.

use std::mem;

use httparse::{EMPTY_HEADER, Request, Status};
use waterwheel::ws::{CloseCode, Endpoint, Handler, Message, Options, Session, Socket};
use waterwheel::{Closed, Conn, Context, Written};

/// Largest head of a request for a WebSocket, and most fields in it.
const MAX_HEAD_BYTES: usize = 8 << 10;
const MAX_FIELDS: usize = 64;

#[derive(Default)]
pub(crate) enum Transport {
    /// Nothing has come yet.
    #[default]
    Unknown,
    Plain,
    Web(Box<Web>),
}

pub(crate) struct Web {
    session: Session<()>,
    packets: Packets,
}

/// What messages have brought and is not taken. Packets begin and end anywhere in a message.
#[derive(Default)]
struct Packets(Vec<u8>);

impl Handler for Packets {
    type State = ();

    fn on_message(&mut self, (): &mut (), socket: &mut Socket<'_>, message: Message<'_>) {
        match message {
            Message::Binary(bytes) => self.0.extend_from_slice(bytes),
            Message::Text(_) => socket.close(CloseCode::UNSUPPORTED, "packets are binary"),
        }
    }
}

/// WebSockets for MQTT, which has pings of its own.
pub(crate) fn endpoint() -> Endpoint {
    Endpoint::new(Options::default().protocols(["mqtt"]).ping_interval(None))
}

impl Transport {
    /// Sends a packet in one piece.
    pub(crate) fn send(&mut self, conn: &mut Conn<'_>, parts: &[&[u8]]) -> Written {
        match self {
            Self::Web(web) => web.session.socket(conn).send_binary(&parts.concat()),
            _ => conn.write_vectored(parts),
        }
    }

    pub(crate) fn close(&mut self, conn: &mut Conn<'_>) {
        match self {
            Self::Web(web) => web.session.socket(conn).close(CloseCode::NORMAL, ""),
            _ => conn.close(),
        }
    }

    /// Whether the peer is let go already, and only its answer to that is awaited.
    pub(crate) fn is_closing(&mut self, conn: &mut Conn<'_>) -> bool {
        match self {
            Self::Web(web) => !web.session.socket(conn).is_open(),
            _ => false,
        }
    }

    /// Begins with what the first bytes are; returns how many are done with, all of a request.
    pub(crate) fn begin(&mut self, at: &Endpoint, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        if input[0] != b'G' {
            *self = Self::Plain;
            return 0;
        }
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        let mut request = Request::new(&mut fields);
        let refused = match request.parse(input) {
            Ok(Status::Partial) if input.len() < MAX_HEAD_BYTES => return 0,
            Ok(Status::Complete(length)) => match accept(at, conn, &request) {
                Ok(session) => {
                    *self = Self::Web(Box::new(Web { session, packets: Packets::default() }));
                    return length;
                }
                Err(refused) => refused,
            },
            _ => "400 Bad Request",
        };
        write!(conn, "HTTP/1.1 {refused}\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n");
        conn.write(b"Connection: close\r\n\r\n");
        conn.close();
        input.len()
    }

    /// Keeps the beginning of a packet for the next messages. What is left of a connection of its
    /// own stays there.
    pub(crate) fn keep(&mut self, packets: &[u8]) {
        if let Self::Web(web) = self {
            web.packets.0 = packets.to_vec();
        }
    }

    /// Takes what was kept.
    pub(crate) fn take_kept(&mut self) -> Vec<u8> {
        match self {
            Self::Web(web) => mem::take(&mut web.packets.0),
            _ => Vec::new(),
        }
    }

    pub(crate) fn end(self, closed: &Closed, cx: &mut Context<'_>) {
        if let Self::Web(web) = self {
            let Web { session, mut packets } = *web;
            session.on_close(&mut packets, closed, cx);
        }
    }
}

impl Web {
    /// Takes what came in: how much is done with, and the bytes of packets.
    pub(crate) fn read(&mut self, conn: &mut Conn<'_>, input: &[u8]) -> (usize, Vec<u8>) {
        let taken = self.session.on_data(&mut self.packets, conn, input);
        (taken, mem::take(&mut self.packets.0))
    }
}

/// Answers a request that is in order, from a program or from a page of this host.
fn accept(
    at: &Endpoint,
    conn: &mut Conn<'_>,
    request: &Request<'_, '_>,
) -> Result<Session<()>, &'static str> {
    let fields: Vec<_> = request.headers.iter().map(|field| (field.name, field.value)).collect();
    let all = |name| fields.iter().filter(move |field| field.0.eq_ignore_ascii_case(name));
    let has_body = all("content-length").chain(all("transfer-encoding")).next().is_some();
    if request.version != Some(1) || all("host").count() != 1 || has_body {
        return Err("400 Bad Request");
    }
    let page = all("origin").next().map(|(_, origin)| host(origin));
    if page.is_some_and(|page| all("host").any(|(_, own)| !page.eq_ignore_ascii_case(host(own)))) {
        return Err("403 Forbidden");
    }
    let accepted = at.check(request.method.unwrap_or_default(), &fields);
    let accepted = accepted.map_err(|refused| match refused.status {
        426 => "426 Upgrade Required",
        _ => "400 Bad Request",
    })?;
    if accepted.protocol().is_none() {
        return Err("400 Subprotocol mqtt Required");
    }
    conn.write(b"HTTP/1.1 101 Switching Protocols\r\n");
    for (name, value) in accepted.fields() {
        write!(conn, "{name}: {value}\r\n");
    }
    conn.write(b"\r\n");
    let mut session = accepted.session(());
    session.on_open(&mut Packets::default(), conn);
    Ok(session)
}

/// The host of a URI or of an authority, without its port.
fn host(text: &[u8]) -> &[u8] {
    let start = text.windows(3).position(|three| three == b"://").map_or(0, |at| at + 3);
    let authority = &text[start..];
    let colon = authority.iter().rposition(|&byte| byte == b':');
    let port = colon.filter(|&at| authority[at + 1..].iter().all(u8::is_ascii_digit));
    &authority[..port.unwrap_or(authority.len())]
}
