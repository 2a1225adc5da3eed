//! A server without routes: the first bytes of a connection are a request for a WebSocket.

use waterwheel::ws::{Endpoint, Handshake, Message, Options, Session, Socket};
use waterwheel::{Closed, Conn, Context, Handler, Peer};

use crate::support::{Client, End, Rig};

struct Echo;

impl waterwheel::ws::Handler for Echo {
    type State = ();

    fn on_message(&mut self, (): &mut (), socket: &mut Socket<'_>, message: Message<'_>) {
        socket.send(message);
    }
}

struct Server {
    endpoint: Endpoint,
}

impl Handler for Server {
    type State = Option<Session<()>>;

    fn on_accept(&mut self, _: &Peer) -> Option<Self::State> {
        Some(None)
    }

    fn on_data(&mut self, state: &mut Self::State, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        if let Some(session) = state {
            return session.on_data(&mut Echo, conn, input);
        }
        match self.endpoint.accept(conn, input) {
            Handshake::Accepted(accepted, length) => {
                let session = state.insert(accepted.session(()));
                session.on_open(&mut Echo, conn);
                length + session.on_data(&mut Echo, conn, &input[length..])
            }
            _ => 0,
        }
    }

    fn on_close(&mut self, state: Self::State, closed: Closed, cx: &mut Context<'_>) {
        if let Some(session) = state {
            session.on_close(&mut Echo, &closed, cx);
        }
    }
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const PLAIN: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";

fn rig(protocols: &[&str]) -> Rig<Server> {
    let options = Options::default().protocols(protocols.iter().copied());
    Rig::new(Server { endpoint: Endpoint::new(options) })
}

/// A text `hi` with a mask of zeros.
const HELLO: &[u8] = &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];

#[test]
fn a_request_that_comes_a_byte_at_a_time_is_answered_and_what_stands_behind_it_is_served() {
    let mut rig = rig(&["other", "mqtt"]);
    let (mut client, id) = rig.client();
    let request = format!(
        "GET /mqtt HTTP/1.1\r\nHost: a:1883\r\nOrigin: https://A\r\n{PLAIN}{KEY}\
         Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    let (last, first) = request.as_bytes().split_last().unwrap();
    for byte in first {
        client.send(&[*byte]);
        rig.turn();
    }
    rig.expect_quiet();
    assert_eq!(client.try_read(1), Ok(Vec::new()));
    client.send(&[&[*last], HELLO].concat());
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    rig.expect(&mut client, &[head.as_bytes(), &[0x81, 2, b'h', b'i']].concat());
    client.send(HELLO);
    rig.expect(&mut client, &[0x81, 2, b'h', b'i']);
    client.send(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8]);
    assert_eq!(rig.read_to_end(&mut client), (vec![0x88, 2, 3, 0xe8], End::Fin));
    drop(client);
    rig.end_of(id);
}

#[test]
fn a_request_that_is_not_in_order_is_answered_with_a_status_and_the_end() {
    let plain = format!("{PLAIN}{KEY}");
    let many = "X: y\r\n".repeat(64);
    for (request, status) in [
        (format!("GET / HTTP/1.0\r\nHost: a\r\n{plain}\r\n"), "400 "),
        (format!("POST / HTTP/1.1\r\nHost: a\r\n{plain}\r\n"), "400 "),
        (format!("GET / HTTP/1.1\r\n{plain}\r\n"), "400 "),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n{plain}\r\n"), "400 "),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{plain}\r\n"), "400 "),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{plain}\r\n"), "400 "),
        (format!("GET / HTTP/1.1\nHost: a\r\n{plain}\r\n"), "400 "),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{plain}\n"), "400 "),
        (format!("GET / HTTP/1.1\r\nHost:\r\n{plain}\r\n"), "400 "),
        (format!("GET / HTTP/1.1\r\nHost: a/b\r\n{plain}\r\n"), "400 "),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}{plain}\r\n"), "400 "),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(8 << 10)), "400 "),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n{plain}\r\n", "y".repeat(8 << 10)), "400 "),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{PLAIN}\r\n"), "400 "),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", plain.replace("13", "12")), "426 "),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\n{plain}\r\n"), "403 "),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nOrigin: null\r\n{plain}\r\n"), "403 "),
        ("\0\0\0\0".to_owned(), "400 "),
    ] {
        expect_refused(&mut rig(&[]), &request, status);
    }
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{plain}\r\n");
    expect_refused(&mut rig(&["mqtt"]), &request, "400 ");
}

#[track_caller]
fn expect_refused(rig: &mut Rig<Server>, request: &str, status: &str) {
    let (mut client, id): (Client, _) = rig.client();
    client.send(request.as_bytes());
    let (answer, end) = rig.read_to_end(&mut client);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    assert!(answer.ends_with("\r\nConnection: close\r\n\r\n"), "{answer}");
    assert_eq!(end, End::Fin, "{request}");
    client.finish();
    rig.expect_end(id, "Local");
}
