//! How files are sent: whole and in order, in how many writes and packets, and cut short.

use std::fs::File;
use std::thread;
use std::time::Duration;

use waterwheel::http::{Files, Router};

use crate::files::{Dir, ask};
use crate::web::Web;

#[test]
fn large_files_are_whole_in_order_and_in_parts() {
    let dir = Dir::new();
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 7) as u8).collect();
    dir.write("large", &content);
    dir.write("small", "small");
    dir.write("edge", &content[..16 << 10]);
    dir.write("over", &content[..(16 << 10) + 1]);
    dir.write("nothing", "");
    let web = dir.serve(|files| files);
    let mut client = web.client();
    for name in ["large", "small", "edge", "large", "over", "nothing", "small"] {
        client.send(format!("GET /s/{name} HTTP/1.1\r\nHost: x\r\n\r\n"));
    }
    assert!(client.answer().body == content);
    client.answer().expect(200, "small");
    assert!(client.answer().body == content[..16 << 10]);
    assert!(client.answer().body == content);
    assert!(client.answer().body == content[..(16 << 10) + 1]);
    client.answer().expect(200, "");
    client.answer().expect(200, "small");
    let fields = "Range: bytes=1000000-2999999\r\n";
    assert!(ask(&mut client, "GET", "/s/large", fields).body == content[1_000_000..]);
    let head = ask(&mut client, "HEAD", "/s/large", "");
    assert_eq!(head.field("content-length"), Some("3000000"));
    client.get("/s/small").expect(200, "small");
    let answer = web.tell("GET /s/large HTTP/1.0\r\n\r\n");
    assert!(answer.len() > content.len() / 2); // lossy text
}

#[test]
fn a_file_that_turns_out_shorter_is_a_reset() {
    let dir = Dir::new();
    dir.write("x", vec![0; 30_000_000]);
    let web = dir.serve(|files| files);
    let mut client = web.client();
    client.send("GET /s/x HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(client.head().contains("Content-Length: 30000000\r\n"));
    File::options().write(true).open(dir.path().join("x")).unwrap().set_len(29_999_999).unwrap();
    client.expect_reset();
    // The cache has it as it was for a second; then it is what it is.
    thread::sleep(Duration::from_millis(1_100));
    let head = ask(&mut web.client(), "HEAD", "/s/x", "");
    assert_eq!(head.field("content-length"), Some("29999999"));
}

#[test]
fn an_answer_can_be_a_file() {
    let dir = Dir::new();
    let content = vec![7; 100_000];
    dir.write("x", &content);
    let path = dir.path().join("x");
    let web = Web::of(move || {
        Router::new()
            .get("/part/{count}", move |_, req, res| {
                let count: u64 = req.param("count").parse().unwrap();
                let file = File::open(&path).unwrap();
                if let Err(error) = res.header("X-A", "b").file("x/y", file, 1..=count) {
                    res.status(500).text(&error.kind().to_string());
                }
            })
            .get("/folder", |_, _, res| {
                let file = File::open(std::env::temp_dir()).unwrap();
                assert!(res.file("x/y", file, ..).is_err());
                res.status(204).empty();
            })
    });
    let mut client = web.client();
    for count in [10, 16 << 10, (16 << 10) + 1, 99_999] {
        let answer = client.get(&format!("/part/{count}"));
        assert_eq!((answer.status, answer.body.len()), (200, count));
        assert_eq!((answer.field("x-a"), answer.field("content-type")), (Some("b"), Some("x/y")));
        client.send(format!("HEAD /part/{count} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let length = client.answer_to_head().field("content-length").map(str::to_owned);
        assert_eq!(length, Some(count.to_string()));
    }
    assert_eq!(client.get("/part/100000").status, 500);
    #[cfg(unix)]
    assert_eq!(client.get("/folder").status, 204);
}

#[test]
fn a_small_file_and_its_head_are_one_write() {
    let dir = Dir::new();
    dir.write("ten", "0123456789");
    dir.write("edge", vec![b'e'; 16 << 10]);
    let root = dir.path().to_owned();
    let web = Web::of(move || {
        Router::new().files("/s", Files::new(root)).get("/writes", |_, _, res| {
            let writes = res.context().stats().writes;
            res.text(&writes.to_string());
        })
    });
    let mut client = web.client();
    let mut writes = || client.get("/writes").text().parse::<u64>().unwrap();
    let before = writes();
    assert_eq!(writes(), before + 1); // that of the first answer
    for name in ["ten", "edge"] {
        let before = client.get("/writes").text().parse::<u64>().unwrap();
        client.get(&format!("/s/{name}"));
        let after = client.get("/writes").text().parse::<u64>().unwrap();
        assert_eq!(after, before + 2, "{name}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_head_of_a_large_file_leaves_with_its_first_bytes() {
    use std::io::Read;
    let dir = Dir::new();
    dir.write("large", vec![b'x'; 200_000]);
    let web = dir.serve(|files| files);
    let mut client = web.client();
    let mut buffer = vec![0; 256 << 10];
    for _ in 0..50 {
        client.send("GET /s/large HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut count = client.stream.read(&mut buffer).unwrap();
        let head = buffer[..count].windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert!(count > head, "the head came alone");
        while count < head + 200_000 {
            count += client.stream.read(&mut buffer).unwrap();
        }
    }
}

/// A page for what is not found is no answer of 200, which clients and caches would believe.
#[test]
fn a_status_that_was_set_is_that_of_the_file() {
    let dir = Dir::new();
    dir.write("404.html", "nothing here");
    dir.write("large.html", vec![b'x'; 100_000]);
    let root = dir.path().to_owned();
    let web = Web::of(move || {
        let (mut small, mut large) = (Files::new(&root), Files::new(&root));
        Router::new()
            .get("/large", move |_, req, res| {
                res.status(503);
                large.serve("large.html", req, res);
            })
            .get("/{status}", move |_, req, res| {
                res.status(req.param("status").parse().unwrap());
                small.serve("404.html", req, res);
            })
    });
    let mut client = web.client();
    let whole = ask(&mut client, "GET", "/404", "").expect(404, "nothing here");
    let tag = format!("If-None-Match: {}\r\n", whole.field("etag").unwrap());
    for fields in ["Range: bytes=0-1\r\n", &tag, "If-Match: \"other\"\r\n"] {
        ask(&mut client, "GET", "/404", fields).expect(404, "nothing here");
        assert_ne!(ask(&mut client, "GET", "/200", fields).status, 200);
    }
    let head = ask(&mut client, "HEAD", "/404", "");
    assert_eq!((head.status, head.field("content-length")), (404, Some("12")));
    let large = ask(&mut client, "GET", "/large", "Range: bytes=0-1\r\n");
    assert_eq!((large.status, large.body.len()), (503, 100_000));
    let none = ask(&mut client, "GET", "/204", "");
    assert_eq!((none.status, none.field("content-length")), (204, None));
    client.get("/404").expect(404, "nothing here");
}
