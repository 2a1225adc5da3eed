//! How many writes it takes to say something.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use waterwheel::tls::rustls::pki_types::ServerName;
use waterwheel::tls::rustls::{self, ClientConnection, Stream};

use super::support::Script;
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

#[test]
fn an_answer_leaves_together_with_the_tickets_before_it_and_the_end_behind_it() {
    let script = Script::new().data(|conn, bytes| {
        conn.write(b"answer");
        conn.close();
        bytes.len()
    });
    let mut rig = rig(script, &server());
    let addr = rig.addr;
    let answer = beside(&mut rig, move || {
        let (mut connection, mut socket) = begin(addr);
        shake_hands(&mut connection, &mut socket);
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
    });
    assert_eq!(answer, b"answer");
    assert_eq!(rig.reactor.stats().writes, 2, "the server's flight, and all the rest");
}

/// The tickets leave at once, although nothing is said behind them.
#[test]
fn tickets_do_not_wait_for_an_answer() {
    let mut rig = rig(Script::new(), &server());
    let addr = rig.addr;
    beside(&mut rig, move || {
        let (mut connection, mut socket) = begin(addr);
        shake_hands(&mut connection, &mut socket);
        while connection.wants_write() {
            connection.write_tls(&mut socket).unwrap();
        }
        while connection.tls13_tickets_received() == 0 {
            assert_ne!(connection.read_tls(&mut socket).unwrap(), 0);
            connection.process_new_packets().unwrap();
        }
    });
}
