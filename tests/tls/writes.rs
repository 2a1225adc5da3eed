//! How many writes it takes to say something.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use waterwheel::tls::rustls::pki_types::ServerName;
use waterwheel::tls::rustls::{self, ClientConnection, Stream};
use waterwheel::{ListenOptions, ReactorOptions, TcpOptions};

use super::support::{Journal, Rig, Script};
use super::{beside, foreign, rig, server};

fn begin(addr: SocketAddr) -> (ClientConnection, TcpStream) {
    let config = Arc::new(foreign(&[&rustls::version::TLS13]));
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (ClientConnection::new(config, name).unwrap(), socket)
}

/// Brings a connection up, but for the last flight of the client, which waits in it.
fn shake_hands(connection: &mut ClientConnection, socket: &mut TcpStream) {
    loop {
        while connection.is_handshaking() && connection.wants_write() {
            connection.write_tls(socket).unwrap();
        }
        if !connection.is_handshaking() {
            return;
        }
        connection.read_tls(socket).unwrap();
        connection.process_new_packets().unwrap();
    }
}

/// A question comes together with the last flight of the handshake, or once the tickets for that
/// have come. What comes back, up to the end that is said behind it.
fn ask(rig: &mut Rig, waits_for_tickets: bool) -> Vec<u8> {
    let addr = rig.addr;
    beside(rig, move || {
        let (mut connection, mut socket) = begin(addr);
        shake_hands(&mut connection, &mut socket);
        if waits_for_tickets {
            take_tickets(&mut connection, &mut socket);
        }
        connection.writer().write_all(b"question").unwrap();
        let mut flight = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut flight).unwrap();
        }
        socket.write_all(&flight).unwrap();
        let mut answer = Vec::new();
        let mut stream = Stream::new(&mut connection, &mut socket);
        stream.read_to_end(&mut answer).expect("close_notify comes before FIN");
        answer
    })
}

/// Ends the handshake, and sees what the server says to that.
fn take_tickets(connection: &mut ClientConnection, socket: &mut TcpStream) {
    while connection.wants_write() {
        connection.write_tls(socket).unwrap();
    }
    while connection.tls13_tickets_received() == 0 {
        assert_ne!(connection.read_tls(socket).unwrap(), 0);
        connection.process_new_packets().unwrap();
    }
}

#[test]
fn an_answer_leaves_together_with_the_tickets_before_it_and_the_end_behind_it() {
    let script = Script::new().data(|conn, bytes| {
        conn.write(b"answer");
        conn.close();
        bytes.len()
    });
    let mut rig = rig(script, &server());
    assert_eq!(ask(&mut rig, false), b"answer");
    assert_eq!(rig.reactor.stats().writes, 2, "the server's flight, and all the rest");
}

/// As an answer of HTTP is: else the last bytes of each round number of them cost a write.
#[test]
fn four_records_and_a_head_before_them_are_one_write() {
    let script = Script::new().data(|conn, bytes| {
        conn.write(&[b'h'; 200]);
        conn.write(&[b'b'; 64 << 10]);
        conn.close();
        bytes.len()
    });
    let tcp = TcpOptions::default().send_buffer_bytes(Some(1 << 20));
    let options = ListenOptions::default().tls(&server()).tcp(tcp);
    let mut rig = Rig::with(script, Journal::default(), options, ReactorOptions::default());
    assert_eq!(ask(&mut rig, true).len(), 200 + (64 << 10));
    // The end is asked for when the answer has left.
    assert_eq!(rig.reactor.stats().writes, 4, "the server's flight, tickets, the answer, the end");
}

/// The tickets leave at once, although nothing is said behind them.
#[test]
fn tickets_do_not_wait_for_an_answer() {
    let mut rig = rig(Script::new(), &server());
    let addr = rig.addr;
    beside(&mut rig, move || {
        let (mut connection, mut socket) = begin(addr);
        shake_hands(&mut connection, &mut socket);
        take_tickets(&mut connection, &mut socket);
    });
}
