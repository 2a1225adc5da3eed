//! Files that are known already, compared with the disk beside the loop.

use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;
use std::{fs, time};

use waterwheel::ListenOptions;
use waterwheel::http::{self, Files, Request, Response, Router, Server};
use waterwheel::offload::{Offload, OffloadOptions};

use crate::files::{Dir, ask};
use crate::web::{Client, Web};

/// A file is taken for what it was for a second.
const STALE: Duration = Duration::from_millis(1_100);

/// A server whose one thread waits, from a request of `/block` on, until the sender is dropped;
/// `/queued` says how many jobs wait for it.
fn blocked_by_gate(dir: &Dir, max_queued: usize) -> (Web, Sender<()>) {
    let (open, gate) = mpsc::channel::<()>();
    let (root, listen) = (dir.path().to_owned(), ListenOptions::default().limits(http::limits()));
    let web = Web::serve_in(listen, move |reactor| {
        let options = OffloadOptions::default().threads(1).max_queued(max_queued);
        let offload = Offload::new(reactor, options).unwrap();
        let files = Files::new(root).offload(&offload);
        let (counted, mut gate) = (offload.clone(), Some(gate));
        let block = move |(): &mut (), _: &Request<'_>, res: &mut Response<'_, ()>| {
            let gate = gate.take().expect("it is blocked once");
            let (begun, has_begun) = mpsc::channel();
            let work = move |(): &mut ()| {
                begun.send(()).unwrap();
                assert!(gate.recv().is_err());
            };
            offload.run_alone((), work).unwrap();
            has_begun.recv().unwrap();
            res.text("blocked\n");
        };
        let queued = move |(): &mut (), _: &Request<'_>, res: &mut Response<'_, ()>| {
            res.text(&counted.stats().queued.to_string());
        };
        Server::new(
            (),
            Router::new().files("/s", files).get("/block", block).get("/queued", queued),
        )
    });
    (web, open)
}

fn text(client: &mut Client, path: &str) -> String {
    let answer = ask(client, "GET", path, "");
    assert_eq!(answer.status, 200, "{path}");
    answer.text().to_owned()
}

/// Has a file taken into memory, changes it, and blocks the thread.
fn changed(dir: &Dir, client: &mut Client) {
    for _ in 0..2 {
        // The second one takes what the first has found into the cache.
        assert_eq!(text(client, "/s/x"), "old");
    }
    dir.write_at("new", "new", 30);
    fs::rename(dir.path().join("new"), dir.path().join("x")).unwrap();
    thread::sleep(STALE);
    assert_eq!(text(client, "/block"), "blocked\n");
}

#[test]
fn one_request_waits_for_a_comparison_and_the_others_are_answered() {
    let dir = Dir::new();
    dir.write("x", "old");
    let (web, open) = blocked_by_gate(&dir, 10);
    let (mut first, mut other) = (web.client(), web.client());
    changed(&dir, &mut other);
    first.send("GET /s/x HTTP/1.1\r\nHost: x\r\n\r\n");
    let begun = time::Instant::now();
    while text(&mut other, "/queued") != "1" {
        assert!(begun.elapsed() < Duration::from_secs(60), "it waits for no thread");
    }
    for _ in 0..3 {
        assert_eq!(text(&mut other, "/s/x"), "old", "as it was in memory");
    }
    assert_eq!(text(&mut other, "/queued"), "1");
    drop(open);
    assert_eq!(first.answer().text(), "new");
    assert_eq!(text(&mut other, "/s/x"), "new");
}

#[test]
fn a_known_file_is_served_as_it_was_if_no_thread_can_be_asked() {
    let dir = Dir::new();
    dir.write("x", "old");
    dir.write("y", "unknown");
    let (web, open) = blocked_by_gate(&dir, 1);
    let (mut waits, mut other) = (web.client(), web.client());
    changed(&dir, &mut other);
    waits.send("GET /s/y HTTP/1.1\r\nHost: x\r\n\r\n");
    let begun = time::Instant::now();
    while text(&mut other, "/queued") != "1" {
        assert!(begun.elapsed() < Duration::from_secs(60), "it waits for no thread");
    }
    assert_eq!(text(&mut other, "/s/x"), "old");
    drop(open);
    assert_eq!(waits.answer().text(), "unknown");
}
