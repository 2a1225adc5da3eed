//! Rows 16 to 21, 50 and 51: the target and the host.

use crate::routes;
use crate::rows_head::refused;
use crate::web::Web;

#[test]
fn row_16_a_target_in_absolute_form() {
    let web = Web::of(routes);
    let mut client = web.client();
    let get = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    client.ask(get("http://a.example:80/host", "a.example:80")).expect(200, "a.example:80");
    client.ask(get("HTTPS://A.example/param/x?y", "a.example")).expect(200, "x");
    client.ask(get("http://a.example", "a.example")).expect(200, "root");
    client.ask(get("http://a.example?x", "a.example")).expect(200, "root");
    client.ask("GET http://b/host HTTP/1.0\r\n\r\n").expect(200, "b");
    refused(&web, get("http://a.example/", "b.example"), 400);
    refused(&web, get("http://a.example/", "a.example:81"), 400);
    refused(&web, get("http://u@a.example/", "u@a.example"), 400);
    refused(&web, get("http://a%zz/", "a%zz"), 400);
}

#[test]
fn row_17_connect_and_targets_in_authority_form() {
    let web = Web::of(routes);
    refused(&web, "GET a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n", 400);
    refused(&web, "CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n", 501);
    refused(&web, "GET param/x HTTP/1.1\r\nHost: x\r\n\r\n", 400);
}

#[test]
fn row_18_the_asterisk_is_for_options() {
    let web = Web::of(routes);
    refused(&web, "GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    refused(&web, "OPTIONS ** HTTP/1.1\r\nHost: x\r\n\r\n", 400);
}

#[test]
fn row_19_bytes_that_must_be_escaped() {
    let web = Web::of(routes);
    for target in ["/#a", "/a\\b", "/\"", "/<", "/>", "/?a#b", "/\u{e4}", "/?\u{e4}", "/a\x7f"] {
        refused(&web, format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
    }
    refused(&web, b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    refused(&web, b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400);
}

#[test]
fn rows_20_and_21_the_host() {
    let web = Web::of(routes);
    refused(&web, "GET / HTTP/1.1\r\n\r\n", 400);
    refused(&web, "GET / HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n", 400);
    refused(&web, "GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400);
    for host in [
        "", " ", "a,b", "u@h", "a/b", "a:x", "a:99999", "[::1", "a b", "http://a", "\u{e4}", "%",
        "a%4", "%zz", ".", "..", ".a", "a..b", "a..",
    ] {
        refused(&web, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400);
    }
    let mut client = web.client();
    for host in ["a", "a.example:8080", "a.example.", "[::1]:80", "127.0.0.1"] {
        client.ask(format!("GET /host HTTP/1.1\r\nHost: {host}\r\n\r\n")).expect(200, host);
    }
    let answer = web.client().ask("GET /host HTTP/1.0\r\n\r\n").expect(200, "-");
    assert_eq!(answer.field("connection"), Some("close"));
}

#[test]
fn row_50_escapes() {
    let web = Web::of(routes);
    for target in ["/%", "/%4", "/%zz", "/a%", "/%00", "/a%00b", "/?a=%", "/?%g0", "/%ff"] {
        refused(&web, format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
    }
    let mut client = web.client();
    client.get("/param/%61%20%c3%a4").expect(200, "a \u{e4}");
    client.get("/query?a=%26+b&c&=d&&e=%ff").expect(200, "a=& b;c=;=d;e=\u{fffd}");
}

#[test]
fn row_51_dot_segments() {
    let web = Web::of(routes);
    let mut client = web.client();
    for (target, path) in [
        ("/path/a/./b", "/path/a/b"),
        ("/path/a/../b", "/path/b"),
        ("/x/../path/a", "/path/a"),
        ("/path/%2e%2e/path/a", "/path/a"),
        ("/path/a//b", "/path/a//b"),
        ("/path/a%2fb", "/path/a%2Fb"),
        ("/path/a%252e", "/path/a%2e"),
    ] {
        client.get(target).expect(200, path);
    }
    for target in ["/..", "/a/../../b", "/%2E%2e/", "/path/../../x"] {
        refused(&web, format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
    }
}
