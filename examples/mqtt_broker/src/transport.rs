//! What the packets of a client travel in: the connection itself, or the binary messages of a
//! WebSocket on the same port (MQTT 3.1.1, chapter 6). The first byte tells which.

use std::mem;

use waterwheel::ws::{CloseCode, Endpoint, Handler, Handshake, Message, Options, Session, Socket};
use waterwheel::{Closed, Conn, Context};

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
    pub(crate) fn send(&mut self, conn: &mut Conn<'_>, parts: &[&[u8]]) {
        match self {
            Self::Web(web) => web.session.socket(conn).send_binary(&parts.concat()),
            _ => conn.write_vectored(parts),
        };
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
        match at.accept(conn, input) {
            Handshake::Accepted(accepted, length) => {
                let (mut session, mut packets) = (accepted.session(()), Packets::default());
                session.on_open(&mut packets, conn);
                *self = Self::Web(Box::new(Web { session, packets }));
                length
            }
            _ => 0, // the rest is to come, or it was refused
        }
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
