//! How a connection goes: as over TCP, but for resets.

use std::io::IoSlice;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use waterwheel::Written;
use waterwheel::unix::UnixListenOptions;

use super::{Folder, client_at, client_of, rig_at};
use crate::support::{Call, Client, End, Rig, Script, pattern};

#[test]
fn the_peers_end_comes_after_all_bytes_and_the_answer_still_leaves() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let bytes = pattern(5 << 20);
    let sent = bytes.clone();
    let mut rig = rig_at(
        &path,
        Script::new().eof(move |conn| {
            assert!(conn.write(&sent).is_accepted());
            conn.close();
        }),
    );
    let (mut client, id) = client_at(&mut rig, &path);
    client.send(b"all");
    client.finish();
    let (received, end) = rig.read_to_end(&mut client);
    assert!(received == bytes);
    assert_eq!(end, End::Fin);
    rig.expect_end(id, "Peer");
    assert_eq!(rig.journal.data_of(id), b"all");
}

#[test]
fn after_our_end_the_handler_goes_on_reading() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut rig = rig_at(
        &path,
        Script::new().open(|conn| {
            conn.write(b"question");
            conn.shutdown_write();
        }),
    );
    let (mut client, id) = client_at(&mut rig, &path);
    assert_eq!(rig.read_to_end(&mut client), (b"question".to_vec(), End::Fin));
    for round in 1..=3 {
        client.send(b"answer");
        rig.until("more", |rig| rig.journal.data_of(id).len() == 6 * round);
        rig.expect_quiet();
    }
    client.finish();
    rig.expect_end(id, "Peer");
}

#[test]
fn our_close_lets_the_peer_have_everything_whatever_it_still_sends() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let bytes = pattern(2 << 20);
    let sent = bytes.clone();
    let mut rig = rig_at(
        &path,
        Script::new().open(move |conn| {
            assert!(conn.write(&sent).is_accepted());
            conn.close();
        }),
    );
    let (mut client, id) = client_at(&mut rig, &path);
    client.send(b"not wanted any more");
    let (received, end) = rig.read_to_end(&mut client);
    assert!(received == bytes);
    assert_eq!(end, End::Fin);
    assert_eq!(rig.journal.closes(), 0, "it waits for the peer's end");
    client.send(b"nor this");
    client.finish();
    rig.expect_end(id, "Local");
    assert!(rig.journal.data_of(id).is_empty());
}

#[test]
fn big_transfers_go_both_ways_whole_and_in_order() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut rig = rig_at(&path, Script::echo());
    let (mut client, id) = client_at(&mut rig, &path);
    let bytes = pattern(20 << 20);
    let (mut sent, mut received) = (0, Vec::new());
    rig.until("all back", |_| {
        // Pieces of many sizes, longer and shorter than a read.
        let piece = (sent * 7) % 300_000 + 1;
        sent += client.try_send(&bytes[sent..(sent + piece).min(bytes.len())]);
        received.extend(client.try_read(100_000).unwrap());
        received.len() == bytes.len()
    });
    assert!(received == bytes);
    client.finish();
    rig.expect_end(id, "Peer");
}

#[test]
fn output_queues_and_drains_when_the_peer_is_slow() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let bytes = pattern(8 << 20);
    let sent = bytes.clone();
    let mut rig = rig_at(
        &path,
        Script::new().open(move |conn| {
            assert_eq!(conn.write(&sent), Written::Above);
            assert!(conn.pending_bytes() > 0, "the kernel took all at once");
        }),
    );
    let (mut client, _) = client_at(&mut rig, &path);
    rig.expect_quiet();
    assert!(!rig.journal.has(&Call::Drain));
    let received = rig.read(&mut client, bytes.len());
    assert!(received == bytes);
    rig.until("drained", |rig| rig.journal.has(&Call::Drain));
}

#[test]
fn many_connections_each_get_their_own() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut rig = rig_at(&path, Script::echo());
    let mut clients: Vec<_> = (0..200).map(|_| client_at(&mut rig, &path).0).collect();
    for round in 0..3 {
        for (index, client) in clients.iter_mut().enumerate() {
            client.send(format!("{round}/{index};").as_bytes());
        }
        for (index, client) in clients.iter_mut().enumerate() {
            rig.expect(client, format!("{round}/{index};").as_bytes());
        }
    }
    drop(clients);
    rig.until("all closed", |rig| rig.journal.closes() == 200);
}

#[test]
fn an_abort_ends_the_stream_and_breaks_it_if_something_was_not_read() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut rig = rig_at(&path, Script::new());
    let (mut client, id) = client_at(&mut rig, &path);
    rig.reactor.context().conn(id).unwrap().write(b"so far");
    rig.expect(&mut client, b"so far");
    rig.reactor.context().conn(id).unwrap().abort();
    rig.expect_end(id, "Local");
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));

    let (mut client, id) = client_at(&mut rig, &path);
    rig.reactor.context().conn(id).unwrap().pause_reading();
    client.send(b"unread");
    rig.turn();
    rig.reactor.context().conn(id).unwrap().abort();
    rig.expect_end(id, "Local");
    let (bytes, end) = rig.read_to_end(&mut client);
    assert!(bytes.is_empty());
    assert_eq!(end, if cfg!(target_os = "linux") { End::Reset } else { End::Fin });
}

#[test]
fn a_peer_that_is_gone_is_noticed_by_a_write() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut rig = rig_at(&path, Script::new().eof(|_| {}));
    let (client, id) = client_at(&mut rig, &path);
    drop(client);
    rig.until("eof", |rig| rig.journal.has(&Call::Eof));
    rig.expect_quiet();
    rig.reactor.context().conn(id).unwrap().write(b"into the void");
    assert_eq!(rig.end_of(id), ("Reset".to_owned(), 13));
}

#[test]
fn an_idle_limit_ends_it() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut rig = Rig::new(Script::echo());
    let options = UnixListenOptions::default().idle_timeout(Duration::from_millis(20));
    rig.reactor.listen_unix(&path, rig.service, options).unwrap();
    let (mut client, id) = client_at(&mut rig, &path);
    rig.expect_end(id, "Idle");
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
}

#[test]
fn unconsumed_input_comes_again_and_a_pause_holds() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut rig = rig_at(
        &path,
        Script::new().data(|conn, input| {
            let whole = input.len() / 4 * 4;
            conn.write(&input[..whole]);
            whole
        }),
    );
    let (mut client, id) = client_at(&mut rig, &path);
    for piece in ["ab", "cde", "fghi"] {
        client.send(piece.as_bytes());
        rig.expect_quiet();
    }
    rig.expect(&mut client, b"abcdefgh");
    rig.reactor.context().conn(id).unwrap().pause_reading();
    client.send(b"jkl");
    rig.expect_quiet();
    rig.reactor.context().conn(id).unwrap().resume_reading();
    rig.expect(&mut client, b"ijkl");
}

#[test]
fn a_cap_refuses_as_with_tcp() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut rig = Rig::new(Script::echo());
    let options = UnixListenOptions::default().max_connections(Some(1));
    rig.reactor.listen_unix(&path, rig.service, options).unwrap();
    let (_first, _) = client_at(&mut rig, &path);
    let mut second = client_of(UnixStream::connect(&path).unwrap());
    assert_eq!(rig.read_to_end(&mut second), (Vec::new(), End::Fin));
    assert_eq!(rig.reactor.stats().refused, 1);
}

/// A read stops at descriptors that were sent along, although more has come behind them. Nothing
/// is answered: what the peer reads may bring another event.
#[test]
fn bytes_behind_descriptors_are_not_left_behind() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut rig = rig_at(&path, Script::new());
    let (mut client, id) = client_at(&mut rig, &path);
    let mut all = Vec::new();
    for _ in 0..5 {
        client.send(b"before");
        send_with_descriptor(&client, b"with");
        send_with_descriptor(&client, b"with");
        client.send(b"behind");
        all.extend_from_slice(b"beforewithwithbehind");
        rig.until("all of it", |rig| rig.journal.data_of(id) == all);
        rig.expect_quiet();
    }
    client.finish();
    rig.expect_end(id, "Peer");
}

#[track_caller]
fn send_with_descriptor(client: &Client, bytes: &[u8]) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let descriptors = [client.stream.as_fd()];
    let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut along = SendAncillaryBuffer::new(&mut room);
    assert!(along.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = sendmsg(&client.stream, &[IoSlice::new(bytes)], &mut along, SendFlags::empty());
    assert_eq!(sent.unwrap(), bytes.len());
}
