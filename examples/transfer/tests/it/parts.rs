//! Parts that others write to, lock, link or exchange meanwhile.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use super::{BTreeSet, Client, Path, Place, SocketAddr, answer_of, fs};
use crate::process::PATIENCE;

/// An offer, and the answer to it.
#[track_caller]
pub(super) fn offer(addr: SocketAddr, length: u64, name: &str) -> (Client, String) {
    let mut client = Client::connect(addr);
    client.send(format!("put {length} {name}\n"));
    let answer = answer_of(&mut client);
    (client, answer)
}

/// Sends a first piece of a new file, until it is in its part.
#[track_caller]
pub(super) fn begin(addr: SocketAddr, length: u64, name: &str, piece: &str, part: &Path) -> Client {
    let (mut client, answer) = offer(addr, length, name);
    assert_eq!(answer, "ok 0 00000000");
    client.send(format!("from 0\n{piece}"));
    let start = Instant::now();
    while fs::metadata(part).map_or(0, |part| part.len()) != piece.len() as u64 {
        assert!(start.elapsed() < PATIENCE, "it is not written");
        thread::yield_now();
    }
    client
}

#[test]
fn two_receivers_do_not_write_one_part() {
    let place = Place::new();
    let (_one, first) = place.receiver(&[]);
    let (_two, second) = place.receiver(&[]);
    let mut client = begin(first, 10, "file", "hello", &place.to("file.part"));
    let (_, answer) = offer(second, 10, "file");
    assert_eq!(answer, "no cannot write file.part: somebody else is writing it");
    client.send("worldsum -\n");
    assert_eq!(answer_of(&mut client), "done");
    assert_eq!(fs::read(place.to("file")).unwrap(), b"helloworld");
    assert_eq!(place.received(), BTreeSet::from(["file".to_owned()]));
}

#[test]
#[cfg(target_os = "linux")] // whose usual file systems tell them apart
fn two_names_that_differ_in_the_case_of_letters_are_two_files() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&[]);
    let mut upper = begin(addr, 10, "A.bin", "hello", &place.to("A.bin.part"));
    let mut lower = begin(addr, 10, "a.bin", "HELLO", &place.to("a.bin.part"));
    upper.send("worldsum -\n");
    lower.send("WORLDsum -\n");
    for (mut client, name, whole) in
        [(upper, "A.bin", b"helloworld"), (lower, "a.bin", b"HELLOWORLD")]
    {
        assert_eq!(answer_of(&mut client), "done");
        assert_eq!(fs::read(place.to(name)).unwrap(), whole);
    }
}

/// As two names are where the file system does not tell them apart: one part by two names.
#[test]
fn two_names_of_one_file_are_not_received_at_once() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&[]);
    let mut client = begin(addr, 10, "A.bin", "hello", &place.to("A.bin.part"));
    fs::hard_link(place.to("A.bin.part"), place.to("a.bin.part")).unwrap();
    let (_, answer) = offer(addr, 10, "a.bin");
    assert_eq!(answer, "no cannot write a.bin.part: somebody else is writing it");
    fs::remove_file(place.to("a.bin.part")).unwrap();
    client.send("worldsum -\n");
    assert_eq!(answer_of(&mut client), "done");
    assert_eq!(place.received(), BTreeSet::from(["A.bin".to_owned()]));
}

#[test]
fn two_names_with_one_part_are_received_one_by_one() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&[]);
    let long = "n".repeat(255);
    let other = format!("{}~{:08x}", &long[..241], crc32fast::hash(long.as_bytes()));
    let part = place.to(&format!("{other}.part"));
    let mut client = begin(addr, 10, &long, "hello", &part);
    let (_, answer) = offer(addr, 10, &other);
    assert_eq!(answer, "no a file of that name is being received");
    client.send("worldsum -\n");
    assert_eq!(answer_of(&mut client), "done");
    assert_eq!(fs::read(place.to(&long)).unwrap(), b"helloworld");
}

#[test]
fn a_part_that_is_another_file_too_is_begun_anew() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&["--force"]);
    // As after a crash, and as somebody may do who wants a file outside to be written to.
    fs::write(place.to("saved"), b"hello world").unwrap();
    fs::write(place.from("outside"), b"hello world").unwrap();
    for (kept, name) in [(place.to("saved"), "saved"), (place.from("outside"), "other")] {
        let part = place.to(&format!("{name}.part"));
        fs::hard_link(&kept, &part).unwrap();
        let mut client = begin(addr, 11, name, "HELLO", &part);
        assert_eq!(fs::read(&kept).unwrap(), b"hello world");
        client.send(" WORLDsum -\n");
        assert_eq!(answer_of(&mut client), "done");
        assert_eq!(fs::read(place.to(name)).unwrap(), b"HELLO WORLD");
    }
    assert_eq!(fs::read(place.from("outside")).unwrap(), b"hello world");
    assert_eq!(place.received(), ["other".to_owned(), "saved".to_owned()].into());
}

#[test]
fn a_link_that_takes_the_place_of_a_part_is_not_followed() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&["--force"]);
    let (outside, part) = (place.from("outside"), place.to("file.part"));
    fs::write(&outside, b"outside").unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Any of these may find that the receiver has been quicker.
            while !is_over.load(Ordering::Relaxed) {
                let _ = fs::write(place.from("part"), b"hi");
                let _ = fs::rename(place.from("part"), &part);
                let _ = symlink(&outside, place.from("link"));
                let _ = fs::rename(place.from("link"), &part);
            }
        });
        for _ in 0..2_000 {
            let (mut client, answer) = offer(addr, 2, "file");
            if answer.starts_with("ok ") {
                client.send("from 0\nhisum -\n");
                answer_of(&mut client);
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read(&outside).unwrap(), b"outside");
}

#[test]
fn a_part_that_was_changed_meanwhile_gets_no_name() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&[]);
    let exchange = |part: &Path| {
        fs::write(place.from("new"), b"HELLO").unwrap();
        fs::rename(place.from("new"), part).unwrap();
    };
    type Change<'a> = &'a dyn Fn(&Path);
    let changes: [(&str, Change<'_>); 3] = [
        ("cut", &|part| fs::write(part, b"he").unwrap()),
        ("exchanged", &exchange),
        ("removed", &|part| fs::remove_file(part).unwrap()),
    ];
    for (name, change) in changes {
        let part = place.to(&format!("{name}.part"));
        let mut client = begin(addr, 5, name, "hello", &part);
        change(&part);
        client.send("sum -\n");
        let reason = format!("no somebody else has changed {name}.part meanwhile");
        assert_eq!(answer_of(&mut client), reason);
    }
    // What others have put there is theirs.
    assert_eq!(place.received(), BTreeSet::from(["exchanged.part".to_owned()]));
}

#[test]
fn an_offer_alone_removes_no_part() {
    let place = Place::new();
    let (server, addr) = place.receiver(&[]);
    fs::write(place.to("big.part"), b"twenty bytes of it..").unwrap();
    let (client, answer) = offer(addr, 10, "big");
    assert_eq!(answer, "ok 0 00000000");
    drop(client);
    let (client, answer) = offer(addr, 10, "new");
    assert_eq!(answer, "ok 0 00000000");
    drop(client);
    server.terminate();
    server.end();
    assert_eq!(fs::read(place.to("big.part")).unwrap(), b"twenty bytes of it..");
    assert_eq!(place.received(), BTreeSet::from(["big.part".to_owned()]));
}
