//! Row 59: what is compressed on the fly, and what never is.

use flate2::{Decompress, FlushDecompress};
use waterwheel::Written;
use waterwheel::http::{Event, Gzip, Router};

use crate::web::{Answer, Client, Web};

fn page() -> String {
    "waterwheel and waterwheel, ".repeat(200)
}

/// Bytes that cannot be made smaller.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..20_000).map(step).collect()
}

fn web() -> Web {
    Web::of(|| {
        let compressed = Router::new()
            .gzip(Gzip::new())
            .get("/page", |_, _, res| {
                res.header("ETag", "\"a\"");
                res.html(&page());
            })
            .get("/json", |_, _, res| res.json_bytes(page().as_bytes()))
            .get("/typed", |_, _, res| {
                res.header("content-type", "text/css; charset=utf-8").body(page().as_bytes());
            })
            .get("/untyped", |_, _, res| res.body(page().as_bytes()))
            .get("/same", |_, _, res| {
                res.status(304).header("ETag", "\"a\"").empty();
            })
            .get("/same/fixed", |_, _, res| {
                res.header("Cache-Control", "no-transform").header("ETag", "\"a\"");
                res.status(304).empty();
            })
            .get("/small", |_, _, res| res.html("small"))
            .get("/image", |_, _, res| res.bytes("image/png", page().as_bytes()))
            .get("/noise", |_, _, res| res.bytes("text/plain", &noise()))
            .get("/large", |_, _, res| res.text(&page().repeat(100)))
            .get("/part", |_, _, res| {
                res.status(206).header("Content-Range", "bytes 0-5399/9999");
                res.html(&page());
            })
            .get("/fixed", |_, _, res| {
                res.header("Cache-Control", "private, No-Transform");
                res.html(&page());
            })
            .get("/coded", |_, _, res| {
                res.header("Content-Encoding", "x");
                res.html(&page());
            })
            .get("/varies", |_, _, res| {
                res.header("Vary", "Cookie, accept-encoding");
                res.html(&page());
            })
            .get("/stream", |_, _, res| {
                res.header("Content-Type", "text/event-stream");
                res.stream(None);
                res.write(page().as_bytes());
                res.end();
            })
            .post("/late", |_, _, res| {
                res.collect(9_999, |_, _, res| res.html(&page()));
            });
        Router::new().nest("/z", compressed).get("/page", |_, _, res| res.html(&page()))
    })
}

/// A server whose answers in pieces are compressed.
fn streaming() -> Web {
    Web::of(|| {
        let routes = Router::new()
            .gzip(Gzip::new().streams(true))
            .get("/pieces", |_, _, res| {
                res.header("Content-Type", "text/plain; charset=utf-8").header("ETag", "\"a\"");
                res.stream(None);
                for piece in page().as_bytes().chunks(11) {
                    assert_eq!(res.write(piece), Written::Below);
                }
                res.end();
            })
            .get("/length", |_, _, res| {
                res.header("Content-Type", "text/plain");
                res.stream(Some(page().len() as u64));
                res.write(page().as_bytes());
                assert_eq!(res.write(b"more"), Written::Closed);
                res.end();
            })
            .get("/short", |_, _, res| {
                res.header("Content-Type", "text/plain");
                res.stream(Some(page().len() as u64));
                res.write(b"less");
                res.end();
            })
            .get("/flushed", |_, _, res| {
                res.header("Content-Type", "text/plain");
                res.stream(None);
                res.write(b"the first part");
                res.flush(); // and the rest never comes
            })
            .get("/large", |_, _, res| {
                res.header("Content-Type", "text/plain");
                res.stream(None);
                res.write(&noise().repeat(20));
                res.end();
            })
            .get("/over", |_, _, res| {
                res.header("Content-Type", "text/plain");
                res.stream(None);
                res.write(page().as_bytes());
                res.end();
                assert_eq!((res.flush(), res.write(b"more")), (Written::Closed, Written::Closed));
            })
            .get("/image", |_, _, res| {
                res.header("Content-Type", "image/png");
                res.stream(None);
                res.write(page().as_bytes());
                res.end();
            })
            .get("/events", |_, _, res| {
                res.header("Content-Type", "text/event-stream");
                res.stream(None);
                res.write(page().as_bytes());
                res.end();
            });
        let events = Gzip::new().streams(true).types(&["text/event-stream", "text/plain"]);
        let events = Router::new().gzip(events).get("/events", |_, _, res| {
            res.events(None);
            res.send_event(&Event::new(&page()));
            res.end();
        });
        routes.nest("/z", events)
    })
}

/// What comes behind the end is refused, and spoils nothing that was before it.
#[test]
fn an_answer_that_has_ended_is_whole_whatever_is_written_behind_it() {
    let web = streaming();
    let mut client = web.client();
    for _ in 0..2 {
        let answer = ask(&mut client, "GET", "/over", "gzip");
        assert_eq!(unpack(&answer), page());
    }
}

#[test]
fn an_answer_in_pieces_is_compressed_where_that_is_asked_for() {
    let web = streaming();
    let mut client = web.client();
    for (path, length) in [("/pieces", None), ("/length", None)] {
        let answer = ask(&mut client, "GET", path, "gzip");
        assert_eq!(unpack(&answer), page());
        assert!(answer.body.len() < 500, "{}", answer.body.len());
        assert_eq!(answer.field("content-length"), length);
        assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
    }
    assert_eq!(ask(&mut client, "GET", "/pieces", "gzip").field("etag"), Some("W/\"a\""));
    let head = ask(&mut client, "HEAD", "/pieces", "gzip");
    assert_eq!(head.field("content-encoding"), Some("gzip"), "{}", head.head);
    let plain = ask(&mut client, "GET", "/pieces", "br");
    assert_eq!(plain.field("content-encoding"), None);
    assert_eq!(plain.field("vary"), Some("Accept-Encoding"));
    assert_eq!(plain.body, page().as_bytes());
    // What does not get smaller, and is more than the compressor's room.
    let large = ask(&mut client, "GET", "/large", "gzip");
    assert_eq!(unpack_bytes(&large), noise().repeat(20));
    for path in ["/image", "/events", "/z/events"] {
        let answer = ask(&mut client, "GET", path, "gzip");
        assert_eq!(answer.field("content-encoding"), None, "{path}");
        assert_eq!(answer.field("vary"), None, "{path}");
    }
}

#[track_caller]
fn ask(client: &mut Client, method: &str, path: &str, accepted: &str) -> Answer {
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {accepted}\r\n\
         Content-Length: 0\r\n\r\n"
    ));
    if method == "HEAD" { client.answer_to_head() } else { client.answer() }
}

#[track_caller]
fn unpack_bytes(answer: &Answer) -> Vec<u8> {
    assert_eq!(answer.field("content-encoding"), Some("gzip"), "{}", answer.head);
    let mut text = Vec::with_capacity(1 << 20);
    let mut gzip = Decompress::new_gzip(15);
    gzip.decompress_vec(&answer.body, &mut text, FlushDecompress::Finish).unwrap();
    assert_eq!(gzip.total_in(), answer.body.len() as u64);
    text
}

#[track_caller]
fn unpack(answer: &Answer) -> String {
    String::from_utf8(unpack_bytes(answer)).unwrap()
}

#[test]
fn a_flush_sends_what_was_written_and_a_cut_answer_is_reset() {
    let web = streaming();
    let mut client = web.client();
    client.send("GET /flushed HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = client.head();
    assert!(head.contains("\r\nContent-Encoding: gzip\r\n"), "{head}");
    let mut text = Vec::with_capacity(100);
    let mut gzip = Decompress::new_gzip(15);
    while text.len() < 14 {
        let mut size = Vec::new();
        while !size.ends_with(b"\r\n") {
            size.extend(client.take(1));
        }
        let size = std::str::from_utf8(&size).unwrap().trim();
        let chunk = client.take(usize::from_str_radix(size, 16).unwrap() + 2);
        gzip.decompress_vec(&chunk[..chunk.len() - 2], &mut text, FlushDecompress::Sync).unwrap();
    }
    assert_eq!(text, b"the first part");
    let mut client = web.client();
    client.send("GET /short HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n");
    client.expect_reset();
}

#[test]
fn row_59_text_is_compressed_for_clients_that_take_it() {
    let web = web();
    let mut client = web.client();
    for (path, method) in
        [("/z/page", "GET"), ("/z/json", "GET"), ("/z/typed", "GET"), ("/z/late", "POST")]
    {
        for accepted in ["gzip", "br, GZIP;q=0.1", "*", "deflate, x-gzip"] {
            let answer = ask(&mut client, method, path, accepted);
            assert_eq!(unpack(&answer), page());
            assert!(answer.body.len() < 500);
            assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
        }
        for accepted in ["", "br", "gzip;q=0", "gzip;q=0, *", "*;q=0", "gzip;q=x"] {
            let answer = ask(&mut client, method, path, accepted).expect(200, &page());
            let fields = (answer.field("vary"), answer.field("content-encoding"));
            assert_eq!(fields, (Some("Accept-Encoding"), None), "{accepted}");
        }
    }
    let strong = ask(&mut client, "GET", "/z/page", "br");
    let weak = ask(&mut client, "GET", "/z/page", "gzip");
    assert_eq!((strong.field("etag"), weak.field("etag")), (Some("\"a\""), Some("W/\"a\"")));
    let head = ask(&mut client, "HEAD", "/z/page", "gzip");
    assert_eq!(head.field("content-encoding"), Some("gzip"));
    assert_eq!(head.field("content-length"), weak.field("content-length"));
    let answer = ask(&mut client, "GET", "/z/varies", "gzip");
    assert_eq!((unpack(&answer), answer.field("vary")), (page(), Some("Cookie, accept-encoding")));
}

/// RFC 9110, 15.4.5: it has the tag and the `Vary` of the answer that it stands for.
#[test]
fn row_59_a_304_names_the_tag_that_the_client_has() {
    let web = web();
    let mut client = web.client();
    for (path, tag, accepted, expected, vary) in [
        ("/z/same", "W/\"a\"", "gzip", "W/\"a\"", Some("Accept-Encoding")),
        ("/z/same", "\"b\", W/\"a\"", "gzip", "W/\"a\"", Some("Accept-Encoding")),
        ("/z/same", "\"a\"", "gzip", "\"a\"", Some("Accept-Encoding")),
        ("/z/same", "W/\"a\"", "br", "\"a\"", Some("Accept-Encoding")),
        ("/z/same/fixed", "W/\"a\"", "gzip", "\"a\"", None),
    ] {
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {accepted}\r\n\
             If-None-Match: {tag}\r\n\r\n"
        ));
        let answer = client.answer();
        let fields = (answer.status, answer.field("etag"), answer.field("vary"));
        assert_eq!(fields, (304, Some(expected), vary), "{path} {tag} {accepted}");
    }
}

#[test]
fn row_59_what_is_never_compressed() {
    let web = web();
    let mut client = web.client();
    for (path, status, vary) in [
        ("/page", 200, None), // opt-in by router
        ("/z/small", 200, None),
        ("/z/image", 200, None),
        ("/z/untyped", 200, None),
        ("/z/large", 200, None),
        ("/z/noise", 200, Some("Accept-Encoding")),
        ("/z/part", 206, None),
        ("/z/fixed", 200, None),
        ("/z/stream", 200, None),
        ("/z/nothing", 404, None),
    ] {
        let answer = ask(&mut client, "GET", path, "gzip");
        let fields = (answer.status, answer.field("content-encoding"), answer.field("vary"));
        assert_eq!(fields, (status, None, vary), "{path}");
    }
    let answer = ask(&mut client, "GET", "/z/coded", "gzip").expect(200, &page());
    assert_eq!(answer.field("content-encoding"), Some("x"));
    assert_eq!(ask(&mut client, "GET", "/z/noise", "gzip").body, noise());
}
