//! What a message of WebSocket allocates, counted: nothing, for one that comes in one frame,
//! whether it is answered with itself or published, and nothing for a ping. Here, because
//! counting wants an allocator of its own.

mod counting;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use waterwheel::http::{self, Router, Server};
use waterwheel::ws::{self, Endpoint, Frame, Message, Options, Room, Slow, Socket};
use waterwheel::{ListenOptions, Reactor};

use counting::allocated;

/// Echoes; but what begins with a `p` goes to the room, as the frame that was made before.
struct App {
    room: Room,
    frame: Frame,
}

impl ws::Handler for App {
    type State = ();

    fn on_open(&mut self, (): &mut (), socket: &mut Socket<'_>) {
        self.room.join(socket);
    }

    fn on_message(&mut self, (): &mut (), socket: &mut Socket<'_>, message: Message<'_>) {
        match message.bytes().first() {
            Some(b'p') => {
                self.room.publish(&mut socket.context(), &self.frame, Slow::Skip);
            }
            Some(b'a') => {
                let copy = message.bytes().to_vec();
                socket.send_text(&String::from_utf8_lossy(&copy));
            }
            _ => {
                socket.send(message);
            }
        }
    }
}

const HELLO: &str = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// A frame of a client, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let head = match length {
        0..=125 => vec![first, 0x80 | length as u8],
        _ => vec![first, 0x80 | 126, (length >> 8) as u8, length as u8],
    };
    [&head, &[0; 4][..], payload].concat()
}

/// Sends these frames again and again, and counts while the loop answers with so many bytes.
fn allocations(frames: &[u8], answer_bytes: usize) -> u64 {
    let endpoint = Endpoint::new(Options::default());
    let routes = Router::new().get("/", move |_: &mut App, req, res| {
        endpoint.upgrade(req, res, ());
    });
    let mut reactor = Reactor::new().unwrap();
    let app = App { room: Room::default(), frame: Frame::binary(&[b'p'; 62]) };
    let web = reactor.register(Server::new(app, routes));
    let options = ListenOptions::default().limits(http::limits());
    let addr = reactor.listen("127.0.0.1:0", web, options).unwrap();
    let mut client = TcpStream::connect(addr).unwrap();
    client.set_nonblocking(true).unwrap();
    client.write_all(HELLO.as_bytes()).unwrap();
    let patience = Instant::now() + Duration::from_secs(10);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        reactor.run_once(Some(Duration::ZERO)).unwrap();
        let mut byte = [0];
        head.extend(client.read(&mut byte).map(|count| byte[..count].to_vec()).unwrap_or_default());
        assert!(Instant::now() < patience, "no answer to the handshake");
    }
    let mut answers = vec![0; answer_bytes];
    let mut counted = 0;
    for round in 0..200 {
        client.write_all(frames).unwrap();
        let mut received = 0;
        while received < answers.len() {
            let before = allocated();
            reactor.run_once(Some(Duration::ZERO)).unwrap();
            let made = allocated() - before;
            // The first messages find room.
            counted += if round >= 100 { made } else { 0 };
            received += client.read(&mut answers[received..]).unwrap_or(0);
            assert!(Instant::now() < patience, "no answer");
        }
    }
    counted
}

#[test]
fn a_message_allocates_nothing() {
    let (small, large) = (frame(0x82, &[b'x'; 64]), frame(0x81, &[b'x'; 4_000]));
    assert_eq!(allocations(&small, 66), 0);
    assert_eq!(allocations(&small.repeat(16), 16 * 66), 0);
    assert_eq!(allocations(&large, 4_004), 0);
    assert_eq!(allocations(&frame(0x89, b"are you there"), 15), 0, "a ping");
    let fragments = [frame(0x02, b"xyz"), frame(0x00, b"x"), frame(0x80, b"x")].concat();
    assert_eq!(allocations(&fragments, 7), 0, "fragments that come together");
    assert_eq!(allocations(&frame(0x82, b"p"), 64), 0, "a frame that is published");
    assert!(allocations(&frame(0x81, b"a"), 3) >= 100, "the count counts");
}
