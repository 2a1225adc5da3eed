//! Connections that are cut at every byte of what they say.

use std::io;

use super::*;
use crate::support::Client;

/// What a client says first.
fn hello(config: Arc<rustls::ClientConfig>) -> (ClientConnection, Vec<u8>) {
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    (connection, bytes)
}

/// Has a client and a server talk by hand; what the client has said after its hello, with a word.
fn rest(rig: &mut Rig, client: &mut Client, connection: &mut ClientConnection) -> Vec<u8> {
    while connection.is_handshaking() && !connection.wants_write() {
        rig.turn();
        match client
            .stream
            .set_nonblocking(true)
            .and_then(|()| connection.read_tls(&mut client.stream))
        {
            Ok(_) => {
                connection.process_new_packets().unwrap();
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        client.stream.set_nonblocking(false).unwrap();
    }
    connection.writer().write_all(b"word").unwrap();
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    bytes
}

#[test]
fn a_client_that_ends_at_any_byte_leaves_nothing_behind() {
    let mut rig = rig(Script::echo(), &server());
    let config = Arc::new(foreign(&[&rustls::version::TLS13]));
    let (_, whole) = hello(Arc::clone(&config));
    for at in 0..whole.len() {
        let mut client = Client::connect(rig.addr);
        client.send(&hello(Arc::clone(&config)).1[..at]);
        client.finish();
        rig.read_to_end(&mut client);
    }
    rig.until("all are gone", |rig| rig.reactor.stats().connections == 0);
    assert_eq!(rig.journal.calls(), []);
    let stats = rig.reactor.stats();
    assert_eq!(
        stats.handshakes_failed,
        whole.len() as u64 - 1,
        "all but the one that said nothing"
    );
}

#[test]
fn the_second_flight_and_a_record_cut_at_any_byte_end_as_they_should() {
    let mut rig = rig(Script::echo(), &server());
    let config = Arc::new(foreign(&[&rustls::version::TLS13]));
    let mut at = 0;
    loop {
        let mut client = Client::connect(rig.addr);
        let (mut connection, bytes) = hello(Arc::clone(&config));
        client.send(&bytes);
        let bytes = rest(&mut rig, &mut client, &mut connection);
        if at > bytes.len() {
            break;
        }
        client.send(&bytes[..at]);
        client.finish();
        rig.read_to_end(&mut client);
        at += 1;
    }
    rig.until("all are gone", |rig| rig.reactor.stats().connections <= 1);
    let stats = rig.reactor.stats();
    let opened = rig.journal.opened().len() as u64;
    assert_eq!(stats.accepted, opened);
    assert!(opened > 20 && stats.handshakes_failed > 20, "{stats:?}");
    let whole = rig.journal.count(|call| *call == Call::Data(b"word".to_vec()));
    assert_eq!(whole, 1, "only the last has sent its record whole");
}

/// The other way round: a client of this library whose server ends at any byte.
#[test]
fn a_server_that_ends_at_any_byte_fails_the_connect() {
    // What a server answers, taken from one that lives.
    let mut rig = rig(Script::echo(), &server());
    let config = Arc::new(foreign(&[&rustls::version::TLS13]));
    let mut client = Client::connect(rig.addr);
    client.send(&hello(config).1);
    let answer = rig.read(&mut client, 400);
    let (listener, addr) = support::listener();
    let options = ConnectOptions::default().tls(&super::client(), "localhost");
    let is_failure = |call: &Call| matches!(call, Call::ConnectFailed(..));
    for at in 0..answer.len() {
        rig.connect(addr, 0, &options);
        let mut server = rig.accept_at(&listener);
        server.send(&answer[..at]);
        server.finish();
        rig.until("it fails", |rig| rig.journal.count(is_failure) == at + 1);
        drop(server);
    }
}

/// Half of a record is no message, and that it was cut is told.
#[test]
fn a_record_of_the_server_cut_at_any_byte_is_a_truncation() {
    let truncated = Rc::new(RefCell::new(Vec::new()));
    let notes = Rc::clone(&truncated);
    let mut rig = Rig::new(Script::new().eof(move |conn| {
        notes.borrow_mut().push(conn.is_truncated());
        conn.close();
    }));
    let (listener, addr) = support::listener();
    listener.set_nonblocking(false).unwrap();
    let options = ConnectOptions::default().tls(&super::client(), "localhost");
    let is_word = |call: &Call| *call == Call::Data(b"word".to_vec());
    let mut whole = 1; // until it is known
    for at in 0.. {
        if at > whole {
            break;
        }
        rig.connect(addr, 0, &options);
        let listener = listener.try_clone().unwrap();
        whole = beside(&mut rig, move || {
            let (mut socket, _) = listener.accept().unwrap();
            let config = Arc::new(reload::server_of_rustls());
            let mut connection = rustls::ServerConnection::new(config).unwrap();
            while connection.is_handshaking() || connection.wants_write() {
                connection.complete_io(&mut socket).unwrap();
            }
            connection.writer().write_all(b"word").unwrap();
            let mut record = Vec::new();
            while connection.wants_write() {
                connection.write_tls(&mut record).unwrap();
            }
            socket.write_all(&record[..at]).unwrap();
            record.len()
        });
        rig.until("it has ended", |rig| rig.journal.closes() == at + 1);
        assert_eq!(rig.journal.count(is_word), usize::from(at == whole), "{at} of {whole} bytes");
    }
    assert_eq!(*truncated.borrow(), vec![true; whole + 1]);
}
