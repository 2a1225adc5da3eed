//! Senders that only keep a place.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::parts::offer;
use super::{Place, content, send};
use crate::process::PATIENCE;

/// So often is a second enough that no silence is noticed.
const PERIOD: Duration = Duration::from_millis(200);

/// Sends a piece again and again, until the receiver has had enough; how long that took.
fn drip(mut stream: TcpStream, piece: &'static str) -> JoinHandle<Duration> {
    let start = Instant::now();
    thread::spawn(move || {
        while stream.write_all(piece.as_bytes()).is_ok() && start.elapsed() < PATIENCE {
            thread::sleep(PERIOD); // between two drops
        }
        start.elapsed()
    })
}

/// A sender that has begun, and what it drips: more than it takes calls for patience, or a file of
/// a few bytes a second.
fn drips(addr: SocketAddr) -> [JoinHandle<Duration>; 2] {
    let open = |name, then: &str| {
        let (mut client, answer) = offer(addr, 1_000_000, name);
        assert_eq!(answer, "ok 0 00000000");
        client.send(then);
        client.stream.into_inner()
    };
    [drip(open("patient", ""), "wait\n"), drip(open("slow", "from 0\n"), "x")]
}

#[test]
fn senders_that_drip_do_not_keep_their_places() {
    let place = Place::new();
    let (server, addr) = place.receiver(&["--at-once", "2", "--timeout", "1"]);
    let drips = drips(addr);
    let path = place.file("honest", &content(100_000, 1));
    assert_eq!(send(addr, &[&path]).code, Some(0));
    for drip in drips {
        assert!(drip.join().unwrap() < PATIENCE, "it drips on");
    }
    server.terminate();
    let end = server.end();
    let told = ["patient", "slow"].map(|name| end.errors.contains(&format!("{name} from ")));
    assert_eq!((end.code, told), (Some(1), [true, true]), "{end:?}");
}

#[test]
fn a_sender_that_is_slow_and_not_too_slow_is_received() {
    const PIECES: usize = 12;
    let place = Place::new();
    let (_server, addr) = place.receiver(&["--timeout", "1"]);
    let (mut client, _) = offer(addr, (PIECES * 1_024) as u64, "slow");
    client.send("from 0\n");
    for _ in 0..PIECES {
        client.send([b'x'; 1_024]); // five times the least rate
        thread::sleep(PERIOD);
    }
    client.send("sum -\n");
    assert_eq!(super::answer_of(&mut client), "done");
}
