//! Clients and servers that mean no good.

use super::*;
use crate::support::Client;

#[test]
fn what_follows_close_notify_is_ignored() {
    let script = Script::new().eof(|conn| {
        conn.write(b"bye");
        conn.close();
    });
    let mut rig = rig(script, &server());
    let addr = rig.addr;
    let mut client = Client::connect(addr);
    let name = ServerName::try_from("localhost").unwrap();
    let config = Arc::new(foreign(rustls::ALL_VERSIONS));
    let mut tls = ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    while tls.is_handshaking() {
        while tls.wants_write() {
            tls.write_tls(&mut client.stream).unwrap();
        }
        rig.turn();
        client.stream.set_nonblocking(true).unwrap();
        if tls.read_tls(&mut client.stream).is_ok() {
            tls.process_new_packets().unwrap();
        }
        client.stream.set_nonblocking(false).unwrap();
    }
    tls.writer().write_all(b"word").unwrap();
    tls.send_close_notify();
    while tls.wants_write() {
        tls.write_tls(&mut bytes).unwrap();
    }
    bytes.extend([0; 50_000]);
    client.send(&bytes);
    rig.until("it is open", |rig| !rig.journal.opened().is_empty());
    let id = rig.journal.last();
    rig.expect_end(id, "Peer");
    assert_eq!(rig.journal.data_of(id), b"word");
}

/// Key updates, tickets, empty records: whatever a peer says again and again is bounded.
#[test]
fn a_flood_of_key_updates_ends() {
    let mut rig = rig(Script::echo(), &server());
    let addr = rig.addr;
    beside(&mut rig, move || {
        let mut stream = dial(addr, &Arc::new(foreign(&[&rustls::version::TLS13])), "localhost");
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        for _ in 0..100 {
            stream.conn.refresh_traffic_keys().unwrap();
            if stream.flush().is_err() {
                return;
            }
        }
        let _ = stream.write_all(b"y");
        assert!(stream.read(&mut [0]).is_err());
    });
    let id = rig.journal.last();
    let (reason, _) = rig.end_of(id);
    assert!(reason.contains("InvalidData"), "{reason}");
}
