//! Transfers that are tried again, and those who only take the time of a receiver.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use socket2::SockRef;

use super::parts::offer;
use super::{BTreeSet, Client, Duration, File, Place, answer_of, content, fs, send};
use crate::RECV_FILE;
use crate::process::PATIENCE;
use crate::servers::failure;

/// A part so long that it is not read within any test.
const ENDLESS: u64 = 1 << 40;

#[test]
fn a_transfer_that_broke_off_while_its_part_was_read_is_taken_at_once() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&[]);
    File::create(place.to("file.part")).unwrap().set_len(ENDLESS).unwrap();
    let mut gone = Client::connect(addr);
    gone.send(format!("put {ENDLESS} file\n"));
    let (_, answer) = offer(addr, 2, "file");
    assert_eq!(answer, "no a file of that name is being received");
    drop(gone);
    let (mut client, answer) = offer(addr, 2, "file");
    assert_eq!(answer, "ok 0 00000000");
    client.send("from 0\nhisum -\n");
    assert_eq!(answer_of(&mut client), "done");
}

#[test]
fn no_thread_outlives_its_transfer_for_long() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let place = Place::new();
    let (server, addr) = place.receiver(&[]);
    let threads = || fs::read_dir(format!("/proc/{}/task", server.id())).unwrap().count();
    let before = threads();
    for number in 0..50 {
        let part = place.to(&format!("{number}.part"));
        File::create(part).unwrap().set_len(ENDLESS).unwrap();
        let mut client = Client::connect(addr);
        client.send(format!("put {ENDLESS} {number}\n"));
        let start = Instant::now();
        while threads() == before {
            assert!(start.elapsed() < PATIENCE, "no thread begins");
        }
        SockRef::from(client.stream.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        while threads() > before {
            assert!(start.elapsed() < PATIENCE, "{} threads", threads());
        }
    }
}

#[test]
fn a_sender_that_missed_that_its_file_was_saved_hears_it_yet() {
    let place = Place::new();
    let (server, addr) = place.receiver(&[]);
    let whole = content(100_000, 1);
    let path = place.file("file", &whole);
    fs::write(place.to("file"), &whole).unwrap();
    let found = place.to("file").metadata().unwrap();
    for args in [&[path.as_str()][..], &["--no-checksum", &path]] {
        let end = send(addr, args);
        assert_eq!((end.code, end.errors.as_str()), (Some(0), ""));
        assert_eq!(server.line(), "received file: it was there already");
    }
    let identity = |found: &Metadata| (found.ino(), found.mtime(), found.mtime_nsec());
    assert_eq!(identity(&place.to("file").metadata().unwrap()), identity(&found));
    assert_eq!(place.received(), BTreeSet::from(["file".to_owned()]));

    // One that is as long and another is not taken for it, and is not replaced.
    let path = place.file("file", &content(100_000, 2));
    let reason = "there is a file of that name; recv_file --force replaces it";
    let end = send(addr, &[&path]);
    assert_eq!(
        (end.code, end.errors),
        (Some(1), format!("send_file: {path}: refused: {reason}\n"))
    );
    let (mut client, _) = offer(addr, 100_000, "file");
    client.send("from 100000\nsum 00000000\n");
    assert_eq!(answer_of(&mut client), format!("no {reason}"));
    assert!(fs::read(place.to("file")).unwrap() == whole);
}

#[test]
fn what_comes_behind_a_file_is_let_go() {
    let place = Place::new();
    let (server, addr) = place.receiver(&["--count", "1"]);
    let (mut client, _) = offer(addr, 5, "file");
    client.send("from 0\nhellosum 3610a686\nand more");
    assert_eq!(answer_of(&mut client), "done");
    drop(client);
    let end = server.end();
    assert_eq!((end.code, end.errors.as_str(), end.output.len()), (Some(0), "", 1));
}

#[test]
fn strangers_are_no_transfers() {
    let place = Place::new();
    let (server, addr) = place.receiver(&["--count", "1"]);
    for line in ["GET / HTTP/1.1\r", "\u{1b}[2J\u{202e}\"", "\u{0}"] {
        let mut client = Client::connect(addr);
        client.send(format!("{line}\n"));
        assert_eq!(answer_of(&mut client), "no this is not `put LENGTH NAME`");
        client.expect_end();
    }
    let (mut client, _) = offer(addr, 2, "file");
    client.send("from 0\nhisum -\n");
    assert_eq!(answer_of(&mut client), "done");
    drop(client);
    let end = server.end();
    assert_eq!((end.code, end.output.len()), (Some(0), 1), "{end:?}");
    let shown = ["GET / HTTP/1.1", "\\u{1b}[2J\\u{202e}\"", "\\0"];
    assert_eq!(end.errors.lines().count(), shown.len(), "{}", end.errors);
    for (line, shown) in end.errors.lines().zip(shown) {
        assert!(line.starts_with(&format!("recv_file: {shown} from 127.0.0.1:")), "{line}");
        assert!(line.ends_with(": this is not `put LENGTH NAME`"), "{line}");
    }
}

#[test]
fn who_offers_nothing_makes_room() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&["--at-once", "2"]);
    let _silent = Client::connect(addr);
    let mut slow = Client::connect(addr);
    slow.send("pu");
    let path = place.file("file", b"bytes");
    assert_eq!(send(addr, &[&path]).code, Some(0));
}

#[test]
fn limits_of_nothing_are_told_with_what_would_do() {
    for option in ["--count", "--at-once", "--timeout"] {
        let (code, line) = failure(RECV_FILE, &[option, "0"]);
        assert_eq!(code, Some(2));
        assert!(line.contains(&format!("{option} 0 ")) && line.contains("at least 1"), "{line}");
    }
}

#[test]
fn what_fails_is_told_in_one_form() {
    let place = Place::new();
    let (server, addr) = place.receiver(&[]);
    let mut from = Vec::new();
    for (name, then, answer) in [
        ("it's", "from 1\n", "no this is not `from 0`"),
        ("a\u{202e}b", "from 0\nhisum\n", "no this is not `sum SUM`"),
        ("c", "from 0\nh", ""),
    ] {
        let (mut client, _) = offer(addr, 2, name);
        from.push(client.stream.get_ref().local_addr().unwrap());
        client.send(then);
        client.finish();
        assert_eq!(answer_of(&mut client), answer);
        client.expect_end();
    }
    server.terminate();
    let errors = server.end().errors;
    let expected = [
        format!("recv_file: it's from {}: this is not `from 0`", from[0]),
        format!("recv_file: a\\u{{202e}}b from {}: this is not `sum SUM`", from[1]),
        format!("recv_file: c from {}: broke off after 1 of 2 bytes: closed by the peer", from[2]),
    ];
    assert_eq!(errors.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_receiver_that_reads_a_large_part_asks_for_patience() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&[]);
    File::create(place.to("file.part")).unwrap().set_len(ENDLESS).unwrap();
    let mut client = Client::connect(addr);
    client.send(format!("put {ENDLESS} file\n"));
    assert_eq!(client.line(), "wait");
}

#[test]
fn a_receiver_that_is_asked_for_patience_has_it() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&[]);
    let (mut client, _) = offer(addr, 5, "file");
    client.send("wait\nfrom 0\nwait\nwait\nwait\nsum -\n");
    assert_eq!(answer_of(&mut client), "done");
    assert_eq!(fs::read(place.to("file")).unwrap(), b"wait\n");
}
