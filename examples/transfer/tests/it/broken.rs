//! Transfers that end too soon, in every way that can be brought about.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::parts::begin;
use super::{
    BTreeSet, Client, End, File, Place, Process, SocketAddr, answer_of, content, fs, send, text,
};
use crate::SEND_FILE;
use crate::process::PATIENCE;

/// A number below `most`, by chance that is the same each time.
struct Dice(u32);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % most
    }
}

/// What a transfer that broke off may leave: a part that is a part, under a name that says so.
#[track_caller]
fn expect_no_half_file(place: &Place, name: &str, whole: &[u8]) {
    place.expect_nothing_outside();
    let part = format!("{name}.part");
    for found in place.received() {
        assert_eq!(found, part, "a file that is not whole");
        let bytes = fs::read(place.to(&part)).unwrap();
        assert!(whole.starts_with(&bytes), "a part that is of something else");
    }
}

/// Sends it in full, whatever is there; the one before may not be known to be gone.
#[track_caller]
fn expect_whole_in_the_end(place: &Place, addr: SocketAddr, path: &str, whole: &[u8]) {
    for _ in 0..200 {
        let end = send(addr, &[path]);
        if end.code == Some(0) {
            break;
        }
        assert!(end.errors.contains("a file of that name is being received"), "{end:?}");
        thread::sleep(Duration::from_millis(20)); // before asking again
    }
    let name = path.rsplit('/').next().unwrap();
    assert!(fs::read(place.to(name)).unwrap() == whole, "it is another file");
    assert_eq!(place.received(), BTreeSet::from([name.to_owned()]));
}

#[test]
fn senders_that_break_off_leave_no_half_file_and_are_continued() {
    const LENGTH: usize = 300_000;
    const ROUNDS: u32 = 60;
    let place = Place::new();
    let (server, addr) = place.receiver(&[]);
    let mut dice = Dice(7);
    let mut resumed = 0;
    for round in 0..ROUNDS {
        let name = format!("file {round}");
        let whole = content(LENGTH, round);
        let path = place.file(&name, &whole);
        let mut client = Client::connect(addr);
        client.send(format!("put {LENGTH} {name}\n"));
        // A line that was cut is an offer of nothing.
        let cut = dice.below(LENGTH + 2);
        if answer_of(&mut client) != "ok 0 00000000" {
            panic!("a new file is not welcome");
        }
        client.send("from 0\n");
        client.send(&whole[..cut.min(LENGTH)]);
        match round % 4 {
            0 => SockRef::from(client.stream.get_ref()).set_linger(Some(Duration::ZERO)).unwrap(),
            1 => client.finish(),
            2 => {
                // All of it, and a checksum that is another.
                client.send(&whole[cut.min(LENGTH)..]);
                client.send("sum 00000000\n");
                let answer = answer_of(&mut client);
                assert!(answer.starts_with("no the checksum is "), "{answer}");
            }
            _ => client.send([&whole[cut.min(LENGTH)..], b"sum nothing\n"].concat()),
        }
        drop(client);
        expect_no_half_file(&place, &name, &whole);
        expect_whole_in_the_end(&place, addr, &path, &whole);
        fs::remove_file(place.to(&name)).unwrap();
        fs::remove_file(place.from(&name)).unwrap();
        resumed += u32::from(round % 4 != 2);
    }
    server.terminate();
    let end = server.end();
    assert_eq!(end.code, Some(1));
    let lines = end.errors.lines().filter(|line| !line.contains("is being received"));
    assert_eq!(lines.count() as u32, ROUNDS, "{}", end.errors);
    let continued = end.output.iter().filter(|line| line.contains("resumed at")).count() as u32;
    assert!(continued > resumed / 2 && continued <= resumed, "{continued} of {resumed}");
}

#[test]
fn senders_that_are_killed_leave_no_half_file() {
    const LENGTH: usize = 20_000_000;
    let place = Place::new();
    let (_server, addr) = place.receiver(&[]);
    let whole = content(LENGTH, 1);
    let path = place.file("file", &whole);
    let mut dice = Dice(11);
    for _ in 0..20 {
        let sender = Process::start(SEND_FILE, &["--connect", &addr.to_string(), &path]);
        wait_for_part(&place, dice.below(LENGTH));
        drop(sender); // with SIGKILL
        if place.to("file").exists() {
            assert!(fs::read(place.to("file")).unwrap() == whole);
            fs::remove_file(place.to("file")).unwrap();
        } else {
            expect_no_half_file(&place, "file", &whole);
        }
    }
    expect_whole_in_the_end(&place, addr, &path, &whole);
}

#[test]
fn receivers_that_are_killed_leave_no_half_file() {
    const LENGTH: usize = 20_000_000;
    let place = Place::new();
    let whole = content(LENGTH, 1);
    let path = place.file("file", &whole);
    let mut dice = Dice(13);
    for _ in 0..15 {
        let (server, addr) = place.receiver(&[]);
        let sender = Process::start(SEND_FILE, &["--connect", &addr.to_string(), &path]);
        wait_for_part(&place, dice.below(LENGTH));
        drop(server); // with SIGKILL
        let end = sender.end();
        if place.to("file").exists() {
            assert!(fs::read(place.to("file")).unwrap() == whole);
            fs::remove_file(place.to("file")).unwrap();
            let _ = fs::remove_file(place.to("file.part"));
        } else {
            assert_eq!((end.code, end.errors.lines().count()), (Some(1), 1), "{end:?}");
            expect_no_half_file(&place, "file", &whole);
        }
    }
    let (_server, addr) = place.receiver(&[]);
    expect_whole_in_the_end(&place, addr, &path, &whole);
}

/// Waits until the part has so many bytes, or is none any more.
fn wait_for_part(place: &Place, length: usize) {
    let start = std::time::Instant::now();
    while start.elapsed() < PATIENCE && !place.to("file").exists() {
        let part = fs::metadata(place.to("file.part"));
        if part.is_ok_and(|part| part.len() as usize >= length) {
            return;
        }
        thread::yield_now();
    }
}

#[test]
fn a_part_of_another_file_is_not_continued() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&[]);
    let whole = content(100_000, 1);
    let path = place.file("file", &whole);
    for other in [content(50_000, 2), content(100_000, 2), content(200_000, 1), whole.clone()] {
        fs::write(place.to("file.part"), &other).unwrap();
        expect_whole_in_the_end(&place, addr, &path, &whole);
        fs::remove_file(place.to("file")).unwrap();
    }
}

/// A receiver that takes the offer, and then reads no more than it is told to.
fn lazy_receiver(most: usize) -> (SocketAddr, thread::JoinHandle<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut byte = [0];
        while byte[0] != b'\n' {
            stream.read_exact(&mut byte).unwrap();
        }
        stream.write_all(b"ok 0 00000000\n").unwrap();
        let mut bytes = vec![0; most];
        stream.read_exact(&mut bytes).unwrap();
        stream
    });
    (addr, thread)
}

#[test]
fn a_file_that_shrinks_meanwhile_ends_in_a_reset_and_one_line() {
    let place = Place::new();
    let path = place.sparse("file", 64 << 20);
    let (addr, receiver) = lazy_receiver(100_000);
    let addr = addr.to_string();
    let sender = Process::start(SEND_FILE, &["--connect", &addr, "--no-checksum", &path]);
    let mut stream = receiver.join().unwrap();
    File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    let error = std::io::copy(&mut stream, &mut std::io::sink()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let end = sender.end();
    assert_eq!((end.code, end.errors.lines().count()), (Some(1), 1));
    assert!(end.errors.contains("the file that is being sent was cut short"), "{}", end.errors);
}

#[test]
fn a_receiver_that_gives_up_is_quoted() {
    let place = Place::new();
    let path = place.sparse("file", 64 << 20);
    let (addr, receiver) = lazy_receiver(100_000);
    let sender = Process::start(SEND_FILE, &["--connect", &addr.to_string(), &path]);
    let mut stream = receiver.join().unwrap();
    stream.write_all(b"no I am full \x1b[2J\n").unwrap();
    let end = sender.end();
    let line = format!("send_file: {path}: refused: I am full  [2J\n");
    assert_eq!((end.code, end.errors), (Some(1), line));
}

/// One transfer that the system does not let pass: what both sides say.
#[track_caller]
fn expect_refused_by_system(place: &Place, by: &[&str], length: u64) -> (End, End) {
    let path = place.sparse("file", length);
    let (server, addr) = place.receiver_by(by, &["--count", "1"]);
    let (sent, received) = (send(addr, &[&path]), server.end());
    for end in [&sent, &received] {
        assert_eq!((end.code, end.errors.lines().count()), (Some(1), 1), "{end:?}");
        assert!(end.errors.contains("cannot write file.part: "), "{end:?}");
    }
    (sent, received)
}

/// A shell that allows files of at most 100 blocks, whose signal would end the receiver.
const FILE_LIMIT: [&str; 3] = ["sh", "-c", "ulimit -f 100; exec \"$0\" \"$@\""];

#[test]
fn a_file_that_may_not_grow_ends_in_one_line_on_both_sides() {
    let place = Place::new();
    let (sent, _) = expect_refused_by_system(&place, &FILE_LIMIT, 8 << 20);
    assert!(sent.errors.contains("File too large"), "{sent:?}");
    expect_no_half_file(&place, "file", &vec![0; 8 << 20]);
}

#[test]
fn others_are_received_while_a_file_grows_too_large() {
    let place = Place::new();
    let (server, addr) = place.receiver_by(&FILE_LIMIT, &[]);
    let mut client = begin(addr, 10, "small", "hello", &place.to("small.part"));
    assert_eq!(send(addr, &[&place.sparse("large", 8 << 20)]).code, Some(1));
    client.send("worldsum -\n");
    assert_eq!(answer_of(&mut client), "done");
    drop(client);
    server.terminate();
    assert_eq!(server.end().code, Some(1));
}

#[test]
fn a_full_disk_ends_in_one_line_on_both_sides() {
    let place = Place::new();
    let dir = text(&place.to(""));
    let is_mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs", &dir])
        .output()
        .is_ok_and(|output| output.status.success());
    if !is_mounted {
        println!("skipped: no file system can be mounted here");
        return;
    }
    let _mount = Mount(dir);
    let (sent, _) = expect_refused_by_system(&place, &[], 8 << 20);
    assert!(sent.errors.contains("No space left on device"), "{sent:?}");
    expect_no_half_file(&place, "file", &vec![0; 8 << 20]);
    // With less to send there is room again, after what is there has made way.
    fs::remove_file(place.to("file.part")).unwrap();
    let (_server, addr) = place.receiver(&[]);
    let whole = content(500_000, 3);
    let path = place.file("small", &whole);
    expect_whole_in_the_end(&place, addr, &path, &whole);
}

/// A file system that is mounted as long as this lives.
struct Mount(String);

impl Drop for Mount {
    fn drop(&mut self) {
        // A process may still hold it.
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}

#[test]
fn a_folder_that_may_not_be_written_to_is_said_in_one_line() {
    let place = Place::new();
    // Nobody may write to it, except one who may do everything.
    let by = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let can = Command::new(by[0]).args(&by[1..]).arg("true").output();
    let is_root = can.is_ok_and(|output| output.status.success());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o555);
    fs::set_permissions(place.to(""), mode).unwrap();
    let by = if is_root { &by[..] } else { &[] };
    let (sent, _) = expect_refused_by_system(&place, by, 1_000);
    assert!(sent.errors.contains("Permission denied"), "{sent:?}");
    assert_eq!(place.received(), BTreeSet::new());
}
