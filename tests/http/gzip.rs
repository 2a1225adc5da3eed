//! Row 59: what is compressed on the fly, and what never is.

use flate2::{Decompress, FlushDecompress};
use waterwheel::http::{Gzip, Router};

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

#[track_caller]
fn ask(client: &mut Client, method: &str, path: &str, accepted: &str) -> Answer {
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {accepted}\r\n\
         Content-Length: 0\r\n\r\n"
    ));
    if method == "HEAD" { client.answer_to_head() } else { client.answer() }
}

#[track_caller]
fn unpack(answer: &Answer) -> String {
    assert_eq!(answer.field("content-encoding"), Some("gzip"), "{}", answer.head);
    let mut text = Vec::with_capacity(1 << 20);
    let mut gzip = Decompress::new_gzip(15);
    gzip.decompress_vec(&answer.body, &mut text, FlushDecompress::Finish).unwrap();
    assert_eq!(gzip.total_in(), answer.body.len() as u64);
    String::from_utf8(text).unwrap()
}

#[test]
fn row_59_text_is_compressed_for_clients_that_take_it() {
    let web = web();
    let mut client = web.client();
    for (path, method) in [("/z/page", "GET"), ("/z/json", "GET"), ("/z/late", "POST")] {
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

#[test]
fn row_59_what_is_never_compressed() {
    let web = web();
    let mut client = web.client();
    for (path, status, vary) in [
        ("/page", 200, None), // opt-in by router
        ("/z/small", 200, None),
        ("/z/image", 200, None),
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
