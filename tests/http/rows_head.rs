//! Rows 1 to 15: the head of a request.

use waterwheel::http::{Options, Server};

use crate::routes;
use crate::web::Web;

/// Requests of up to so many bytes are cut at each of them.
const MAX_CUT_BYTES: usize = 200;

/// Sends a request with another one behind it, and wants one answer of this status and the end.
#[track_caller]
pub(crate) fn refused(web: &Web, request: impl AsRef<[u8]>, status: u16) {
    let mut client = web.client();
    let mut bytes = request.as_ref().to_vec();
    bytes.extend_from_slice(b"GET /param/second HTTP/1.1\r\nHost: x\r\n\r\n");
    client.send(&bytes);
    let answer = client.answer();
    let shown = String::from_utf8_lossy(request.as_ref()).into_owned();
    assert_eq!(answer.status, status, "{shown:?}: {}", answer.text());
    assert_eq!(answer.field("connection"), Some("close"), "{shown:?}");
    assert!(answer.field("date").is_some(), "{shown:?}");
    client.finish();
    client.expect_end();
    if request.as_ref().len() <= MAX_CUT_BYTES {
        refused_however_cut(web, request.as_ref(), status);
    }
}

/// The same for each way to cut the request in two.
#[track_caller]
fn refused_however_cut(web: &Web, request: &[u8], status: u16) {
    for at in 1..request.len() {
        let mut client = web.client();
        client.send(&request[..at]);
        // What has come may have been refused already.
        let _ = std::io::Write::write_all(&mut client.stream, &request[at..]);
        let answer = client.answer();
        let shown = String::from_utf8_lossy(request);
        assert_eq!(answer.status, status, "{shown:?} cut at {at}: {}", answer.text());
    }
}

#[test]
fn row_1_a_bare_lf_ends_no_line() {
    let web = Web::of(routes);
    for request in [
        "GET / HTTP/1.1\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\n",
        "GET / HTTP/1.1\nHost: x\n\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n",
    ] {
        refused(&web, request, 400);
    }
}

#[test]
fn row_2_a_cr_stands_before_lf_only() {
    let web = Web::of(routes);
    for request in [
        "GET / HTTP/1.1\rHost: x\r\n\r\n",
        "GET /\r HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\r\n\r\n",
        "GET / HTTP/1.1\r\nA\r: b\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\r\n",
    ] {
        refused(&web, request, 400);
    }
}

#[test]
fn row_3_controls_in_a_value() {
    let web = Web::of(routes);
    for byte in (0..=0x1f).chain([0x7f]).filter(|byte| *byte != b'\t') {
        let mut request = b"GET / HTTP/1.1\r\nHost: x\r\nA: b".to_vec();
        request.push(byte);
        request.extend_from_slice(b"c\r\n\r\n");
        refused(&web, request, 400);
    }
    let mut client = web.client();
    client.ask(b"GET / HTTP/1.1\r\nHost: x\r\nA: \tb\tc \xff\r\n\r\n").expect(200, "root");
}

#[test]
fn row_4_empty_lines_before_a_request() {
    let web = Web::of(routes);
    let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for count in 0..=4 {
        let mut client = web.client();
        let lines = "\r\n".repeat(count);
        for _ in 0..2 {
            client.ask(format!("{lines}{request}")).expect(200, "root");
        }
        // One by one.
        let text = format!("{lines}{request}");
        for byte in text.as_bytes() {
            client.send([*byte]);
        }
        client.answer().expect(200, "root");
    }
    refused(&web, format!("{}{request}", "\r\n".repeat(5)), 400);
    refused(&web, format!("\n{request}"), 400);
    refused(&web, format!("\r\n\n{request}"), 400);
    refused(&web, format!("\r\r\n{request}"), 400);
}

#[test]
fn rows_5_to_8_lines_that_are_no_fields() {
    let web = Web::of(routes);
    for line in [
        " Host: x",       // row 5
        "\tA: b",         // row 5
        "A : b",          // row 6
        "A\t: b",         // row 6
        "A: b\r\n c",     // row 7
        "A: b\r\n\tc: d", // row 7
        "A",              // row 8
        ": b",            // row 8
        "A b: c",         // row 8
        "A(: b",          // row 8
        "A\u{e4}: b",     // row 8
        "\0: b",          // row 8
        "A@b: c",         // row 8
    ] {
        refused(&web, format!("GET / HTTP/1.1\r\n{line}\r\nHost: x\r\n\r\n"), 400);
    }
}

#[test]
fn row_9_the_request_line_has_two_spaces_and_no_more() {
    let web = Web::of(routes);
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET\u{b}/ HTTP/1.1",
        "GET /\u{c}HTTP/1.1",
        "GET / HTTP/1.1\t",
        "GET / a HTTP/1.1",
    ] {
        refused(&web, format!("{line}\r\nHost: x\r\n\r\n"), 400);
    }
}

#[test]
fn rows_10_and_11_versions() {
    let web = Web::of(routes);
    for line in [
        "GET /",
        "GET / ",
        "GET / http/1.1",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTP/1.",
        "GET / HTTP/1",
        "GET / HTTP/.1",
        "GET / HTTP 1.1",
        "GET / HTTQ/1.1",
        "GET / HTTP/1,1",
    ] {
        refused(&web, format!("{line}\r\nHost: x\r\n\r\n"), 400);
    }
    for version in ["1.2", "1.9", "2.0", "3.0", "9.9"] {
        refused(&web, format!("GET / HTTP/{version}\r\nHost: x\r\n\r\n"), 505);
    }
}

#[test]
fn row_12_methods_that_are_unknown_or_not_here() {
    let web = Web::of(routes);
    for method in ["PROPFIND", "FOO", "get", "Get", "G!"] {
        refused(&web, format!("{method} / HTTP/1.1\r\nHost: x\r\n\r\n"), 501);
    }
    let mut client = web.client();
    let answer = client.ask("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD, OPTIONS")));
    let answer = client.ask("GET /len HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((answer.status, answer.field("allow")), (405, Some("POST, OPTIONS")));
    let answer = client.ask("OPTIONS /len HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((answer.status, answer.field("allow")), (204, Some("POST, OPTIONS")));
    assert_eq!(answer.field("content-length"), None);
    let answer = client.ask("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(answer.status, 204);
    client.expect_alive();
}

#[test]
fn row_13_a_method_of_more_than_32_bytes() {
    let web = Web::of(routes);
    refused(&web, format!("{} / HTTP/1.1\r\nHost: x\r\n\r\n", "A".repeat(32)), 501);
    refused(&web, format!("{} / HTTP/1.1\r\nHost: x\r\n\r\n", "A".repeat(33)), 400);
}

#[test]
fn row_14_other_protocols() {
    let web = Web::of(routes);
    refused(&web, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03secret\r\n\r\n";
    let mut client = web.client();
    client.send(hello);
    let answer = client.answer();
    assert_eq!(answer.status, 400);
    assert!(!answer.text().contains("secret"));
    client.finish();
    client.expect_end();
}

#[test]
fn row_15_heads_that_are_too_large() {
    let web = Web::of(routes);
    let mut client = web.client();
    let path = format!("/path/{}", "a".repeat(7_994));
    client.get(&path).expect(200, &path);
    refused(&web, format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(8_192)), 414);
    let mut client = web.client();
    client.send(format!("GET /{}", "a".repeat(20_000)));
    assert_eq!(client.answer().status, 414);
    let field = "a".repeat(16 << 10);
    refused(&web, format!("GET / HTTP/1.1\r\nHost: x\r\nA: {field}\r\n\r\n"), 431);
    refused(&web, format!("GET / HTTP/1.1\r\nHost: x\r\nA: {field}"), 431);
    let fields = |count| "A: b\r\n".repeat(count);
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", fields(99));
    web.client().ask(request).expect(200, "root");
    refused(&web, format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", fields(100)), 431);
}

#[test]
fn row_15_without_limits_a_head_that_comes_byte_by_byte_is_served() {
    let options = Options::default().max_target_bytes(usize::MAX).max_head_bytes(usize::MAX);
    let web = Web::serve(|| Server::new((), routes()).with_options(options));
    let path = format!("/path/{}", "a".repeat(300));
    let mut client = web.client();
    for byte in format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes() {
        client.send([byte]);
    }
    client.answer().expect(200, &path);
}

#[test]
fn a_head_that_comes_byte_by_byte_is_served() {
    let web = Web::of(routes);
    let mut client = web.client();
    for _ in 0..3 {
        for byte in b"GET /param/a HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n" {
            client.send([*byte]);
        }
        client.answer().expect(200, "a");
    }
}
