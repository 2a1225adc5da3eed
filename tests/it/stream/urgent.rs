//! TCP urgent data: what stands behind it is read without another byte from the peer, and the
//! urgent byte itself is left out, as recv(2) does.

use socket2::SockRef;

use waterwheel::{Conn, ListenOptions};

use crate::support::{Client, Rig, Script, Server};

/// So often the segments and the events must fall into place.
const ROUNDS: usize = 100;

/// How a client sends `abc`, an urgent `!` and `def`.
#[derive(Clone, Copy, Debug)]
enum Segments {
    One,
    Several,
}

fn send(client: &mut Client, segments: Segments) {
    let is_corked = matches!(segments, Segments::One);
    SockRef::from(&client.stream).set_tcp_cork(is_corked).unwrap();
    client.send(b"abc");
    assert_eq!(SockRef::from(&client.stream).send_out_of_band(b"!").unwrap(), 1);
    client.send(b"def");
    SockRef::from(&client.stream).set_tcp_cork(false).unwrap();
}

#[test]
fn bytes_behind_urgent_data_come_without_another_byte() {
    for segments in [Segments::One, Segments::Several] {
        let mut rig = Rig::new(Script::echo());
        let (mut client, _) = rig.client();
        for _ in 0..ROUNDS {
            send(&mut client, segments);
            rig.expect(&mut client, b"abcdef");
        }
        // The fast path goes on behind it.
        client.send(b"ghi");
        rig.expect(&mut client, b"ghi");
        rig.expect_quiet();
    }
}

/// The reactor reads between any two segments.
#[test]
fn bytes_behind_urgent_data_come_however_segments_and_events_meet() {
    let server = Server::start(|reactor| {
        let echo = reactor.register(Script::echo());
        reactor.listen("127.0.0.1:0", echo, ListenOptions::default())
    });
    for segments in [Segments::One, Segments::Several] {
        let mut client = Client::connect(server.addr);
        for _ in 0..20 * ROUNDS {
            send(&mut client, segments);
            client.expect(b"abcdef");
        }
    }
    server.stop();
}

#[test]
fn a_new_connection_may_begin_with_urgent_data() {
    for segments in [Segments::One, Segments::Several] {
        let mut rig = Rig::new(Script::echo());
        for _ in 0..ROUNDS {
            let mut client = Client::connect(rig.addr);
            send(&mut client, segments);
            rig.expect(&mut client, b"abcdef");
            client.reset();
        }
    }
}

#[test]
fn bytes_behind_urgent_data_outlast_a_pause() {
    let handler = Script::echo().open(|conn: &mut Conn<'_>| conn.pause_reading());
    let mut rig = Rig::new(handler);
    for segments in [Segments::One, Segments::Several] {
        let (mut client, id) = rig.client();
        send(&mut client, segments);
        rig.expect_quiet();
        rig.reactor.context().conn(id).unwrap().resume_reading();
        rig.expect(&mut client, b"abcdef");
    }
}

#[test]
fn an_urgent_byte_with_nothing_around_it_is_no_data() {
    let mut rig = Rig::new(Script::echo());
    let (mut client, id) = rig.client();
    assert_eq!(SockRef::from(&client.stream).send_out_of_band(b"!").unwrap(), 1);
    rig.expect_quiet();
    assert!(rig.journal.data_of(id).is_empty());
    client.send(b"abc");
    rig.expect(&mut client, b"abc");
}
