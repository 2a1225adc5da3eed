//! The end of a receiver: what is under way goes on for a while, and nothing is lost untold.

use std::process::Command;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::parts::{begin, offer};
use super::{BTreeSet, Client, File, Place, Process, answer_of, fs};

/// A part so long that it is not read within any test.
const ENDLESS: u64 = 1 << 40;

/// Longer than a receiver may take to end.
const DRAINED: Duration = Duration::from_secs(15);

#[test]
fn what_is_under_way_goes_on_when_a_receiver_is_to_end() {
    let place = Place::new();
    let (server, addr) = place.receiver(&[]);
    let mut client = begin(addr, 10, "file", "hello", &place.to("file.part"));
    let mut idle = Client::connect(addr);
    server.terminate();
    idle.expect_end();
    client.send("worldsum -\n");
    assert_eq!(answer_of(&mut client), "done");
    drop((client, idle));
    let end = server.end();
    assert_eq!((end.code, end.errors.as_str(), end.output.len()), (Some(0), "", 1));
    assert_eq!(fs::read(place.to("file")).unwrap(), b"helloworld");
}

#[test]
fn what_is_under_way_goes_on_when_as_many_as_told_are_there() {
    let place = Place::new();
    let (server, addr) = place.receiver(&["--count", "1"]);
    let mut client = begin(addr, 10, "long", "hello", &place.to("long.part"));
    let (mut other, _) = offer(addr, 2, "short");
    other.send("from 0\nhisum -\n");
    assert_eq!(answer_of(&mut other), "done");
    other.expect_end();
    client.send("worldsum -\n");
    assert_eq!(answer_of(&mut client), "done");
    drop((client, other));
    let end = server.end();
    assert_eq!((end.code, end.errors.as_str(), end.output.len()), (Some(0), "", 2));
}

#[test]
fn transfers_that_do_not_end_are_cut_and_told() {
    let place = Place::new();
    let (server, addr) = place.receiver(&[]);
    let client = begin(addr, 10, "slow", "hello", &place.to("slow.part"));
    File::create(place.to("large.part")).unwrap().set_len(ENDLESS).unwrap();
    let mut large = Client::connect(addr);
    large.send(format!("put {ENDLESS} large\n"));
    let mut idle = Client::connect(addr);
    server.terminate();
    idle.expect_end();
    let start = Instant::now();
    let end = server.end();
    assert!(start.elapsed() < DRAINED, "it has waited for the checksum");
    assert_eq!((end.code, end.output.len()), (Some(1), 0));
    let lines: BTreeSet<_> = end.errors.lines().collect();
    let from = |client: &Client| client.stream.get_ref().local_addr().unwrap();
    let expected = [
        format!(
            "recv_file: slow from {}: broke off after 5 of 10 bytes: the reactor was stopped",
            from(&client)
        ),
        format!(
            "recv_file: large from {}: broke off after 0 of {ENDLESS} bytes: the reactor was \
             stopped",
            from(&large)
        ),
    ];
    assert_eq!(lines, expected.iter().map(String::as_str).collect());
    assert_eq!(fs::read(place.to("slow.part")).unwrap(), b"hello");
}

#[test]
fn a_second_signal_ends_with_a_failure() {
    let place = Place::new();
    let (server, addr) = place.receiver(&[]);
    let _client = begin(addr, 10, "file", "hello", &place.to("file.part"));
    expect_cut(server, &mut Client::connect(addr));
    let (server, addr) = Process::serve("echo", &[]);
    expect_cut(server, &mut Client::connect(addr));
}

/// It drains at the first signal, and is waiting for somebody when the second comes.
#[track_caller]
fn expect_cut(server: Process, idle: &mut Client) {
    server.terminate();
    idle.expect_end();
    let start = Instant::now();
    server.signal("INT");
    assert_eq!(server.end().code, Some(1));
    assert!(start.elapsed() < Duration::from_secs(4), "it has drained to the end");
}

/// What makes a program's first sync take so many seconds; `None` where nothing can.
fn slow_sync(seconds: u32) -> Option<Vec<String>> {
    let delay = format!("inject=fsync:delay_enter={seconds}000000:when=1");
    // It does not stand between the program and whoever has started it.
    let words = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &delay];
    let status = Command::new(words[0]).args(&words[1..]).arg("true").status();
    if !status.is_ok_and(|status| status.success()) {
        println!("skipped: no strace here, or it may not trace");
        return None;
    }
    Some(words.map(str::to_owned).to_vec())
}

#[test]
fn a_file_that_is_being_saved_is_told_of_though_the_time_is_over() {
    // Longer than there is time after the signal.
    let Some(slow) = slow_sync(7) else { return };
    let slow: Vec<_> = slow.iter().map(String::as_str).collect();
    let place = Place::new();
    let (server, addr) = place.receiver_by(&slow, &[]);
    let (mut client, _) = offer(addr, 5, "file");
    client.send("from 0\nhellosum -\n");
    let mut idle = Client::connect(addr);
    server.terminate();
    idle.expect_end();
    let end = server.end();
    assert_eq!((end.code, end.errors.as_str(), end.output.len()), (Some(0), "", 1));
    assert!(end.output[0].starts_with("received file: 5 bytes "), "{:?}", end.output);
    assert_eq!(fs::read(place.to("file")).unwrap(), b"hello");
}

#[test]
fn a_transfer_that_is_tried_again_while_it_is_saved_waits_for_that() {
    let Some(slow) = slow_sync(4) else { return };
    let slow: Vec<_> = slow.iter().map(String::as_str).collect();
    let place = Place::new();
    let (server, addr) = place.receiver_by(&slow, &["--count", "2"]);
    let (mut client, _) = offer(addr, 5, "file");
    client.send("from 0\nhellosum -\n");
    // One waits at most, if it is still there.
    let mut gone = Client::connect(addr);
    gone.send("put 4 file\n");
    let (_, answer) = offer(addr, 5, "file");
    assert_eq!(answer, "no a file of that name is being received");
    SockRef::from(client.stream.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
    drop((client, gone));
    let (mut client, answer) = offer(addr, 5, "file");
    assert_eq!(answer, "ok 5 3610a686");
    client.send("from 5\nsum -\n");
    assert_eq!(answer_of(&mut client), "done");
    drop(client);
    let end = server.end();
    assert!(end.output[0].starts_with("received file: 5 bytes "), "{:?}", end.output);
    assert_eq!(end.output[1..], ["received file: it was there already"]);
}
