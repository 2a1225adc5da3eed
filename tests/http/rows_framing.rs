//! Rows 22 to 46, 55 and 58: where a message ends, and what follows it.

use waterwheel::http::{Body, Flow, Response, Router, Server};

use crate::routes;
use crate::rows_head::refused;
use crate::web::Web;

fn post(fields: &str, body: &str) -> String {
    format!("POST /echo HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n{body}")
}

#[test]
fn rows_22_to_24_lengths() {
    let web = Web::of(routes);
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -0",
        "Content-Length: 0x5",
        "Content-Length: 5_0",
        "Content-Length: 1e3",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: 05",
        "Content-Length: 00",
        "Content-Length: 10000000000000000000",
        "Content-Length: 99999999999999999999",
        "Content-Length: \u{665}",
    ] {
        refused(&web, post(fields, "hello"), 400);
    }
    let mut client = web.client();
    client.ask(post("Content-Length: 5", "hello")).expect(200, "hello");
    client.ask(post("Content-Length: \t5 \t", "hello")).expect(200, "hello");
    client.ask(post("Content-Length: 0", "")).expect(200, "");
    client.ask(post("cONTENT-lENGTH: 1", "x")).expect(200, "x");
}

#[test]
fn row_25_a_declared_length_over_the_limit() {
    let web = Web::of(routes);
    let mut client = web.client();
    client.send(post("Content-Length: 1048577", ""));
    let answer = client.answer();
    assert_eq!(answer.status, 413);
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(answer.text().contains("1048576"), "{}", answer.text());
    // The answer has come although the body goes on, and no reset takes it away.
    for _ in 0..16 {
        client.send([b'x'; 64 << 10]);
    }
    client.finish();
    client.expect_end();
}

#[test]
fn rows_26_to_28_transfer_codings() {
    let web = Web::of(routes);
    refused(
        &web,
        "POST /echo HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    );
    for coding in [
        "chunked, chunked",
        ",chunked",
        "chunked,",
        "xchunked",
        "chunked;q=1",
        "\u{b}chunked",
        "identity",
        "identity, chunked",
        "chunked, gzip",
        "gzip",
        "",
        "\"chunked\"",
        "chunked identity",
        "cow",
    ] {
        refused(&web, post(&format!("Transfer-Encoding: {coding}"), "0\r\n\r\n"), 400);
    }
    for coding in ["gzip, chunked", "deflate,chunked", "br, gzip, chunked"] {
        refused(&web, post(&format!("Transfer-Encoding: {coding}"), "0\r\n\r\n"), 501);
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked";
    refused(&web, post(twice, "0\r\n\r\n"), 400);
    let mut client = web.client();
    client.ask(post("transfer-ENCODING: CHUNKED", "1\r\nx\r\n0\r\n\r\n")).expect(200, "x");
}

#[test]
fn row_29_an_underscore_is_no_dash() {
    let web = Web::of(routes);
    let mut client = web.client();
    client.ask(post("Transfer_Encoding: chunked\r\nContent_Length: 5", "")).expect(200, "");
    client.expect_alive();
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked", body)
}

#[test]
fn rows_30_to_34_malformed_chunks() {
    let web = Web::of(routes);
    for body in [
        "\r\nx",
        "g\r\n",
        "-1\r\nx\r\n0\r\n\r\n",
        "+1\r\nx\r\n0\r\n\r\n",
        "0x1\r\nx\r\n0\r\n\r\n",
        "1_0\r\nx\r\n0\r\n\r\n",
        " 1\r\nx\r\n0\r\n\r\n",
        "00000000000000001\r\nx\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nx\r\n0\r\n\r\n",
        "1\nx\r\n0\r\n\r\n",
        "1\rxx\r\n0\r\n\r\n",
        "1;a\nb\r\nx\r\n0\r\n\r\n",
        "1;a\rb\r\nx\r\n0\r\n\r\n",
        "1;a=\"\r\n\"\r\nx\r\n0\r\n\r\n",
        "1;a\0\r\nx\r\n0\r\n\r\n",
        "1;\r\nx\r\n0\r\n\r\n",
        "1;=a\r\nx\r\n0\r\n\r\n",
        "1;a=\r\nx\r\n0\r\n\r\n",
        "1;a=\"b\r\nx\r\n0\r\n\r\n",
        "1 ;a\r\nx\r\n0\r\n\r\n",
        "1 \r\nx\r\n0\r\n\r\n",
        "1; a\r\nx\r\n0\r\n\r\n",
        "1\r\nxx\r\n0\r\n\r\n",
        "1\r\nx\n0\r\n\r\n",
        "1\r\nx0\r\n\r\n",
        "1\r\nx\r\n0\r\n\n",
        "1\r\nx\r\n0\r\nA\r\n\r\n",
        "1\r\nx\r\n0\r\nA : b\r\n\r\n",
        "1\r\nx\r\n0\r\nA: b\n\r\n",
    ] {
        let mut client = web.client();
        client.send(chunked(body));
        let answer = client.answer();
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.text());
        assert_eq!(answer.field("connection"), Some("close"), "{body:?}");
        client.finish();
        client.expect_end();
    }
}

#[test]
fn row_32_valid_extensions_are_ignored_within_their_limits() {
    let web = Web::of(routes);
    let mut client = web.client();
    for extension in [";a", ";a=b", ";a=\"b;\\\"c\"", ";a;b=c;d", ";a=\"\""] {
        client.ask(chunked(&format!("1{extension}\r\nx\r\n0{extension}\r\n\r\n"))).expect(200, "x");
    }
    let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(255));
    client.ask(chunked(&long)).expect(200, "x");
    refused(&web, chunked(&format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(300))), 400);
    let piece = format!("1;{}\r\nx\r\n", "a".repeat(250));
    refused(&web, chunked(&format!("{}0\r\n\r\n", piece.repeat(70))), 400);
}

#[test]
fn row_35_a_million_chunks_of_one_byte() {
    let web = Web::of(routes);
    let mut client = web.client();
    client.send(post("Transfer-Encoding: chunked", ""));
    let some = "1\r\nx\r\n".repeat(1_000);
    for _ in 0..1_000 {
        // The server ends it, and need not read on.
        if std::io::Write::write_all(&mut client.stream, some.as_bytes()).is_err() {
            break;
        }
    }
    assert_eq!(client.answer().status, 400);
    // As many chunks as a body may have that is small: not an attack.
    let body = format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(10_000));
    web.client().ask(chunked(&body)).expect(200, &"x".repeat(10_000));
}

struct Trailers(Vec<String>);

impl Body<()> for Trailers {
    fn on_chunk(&mut self, _: &mut (), _: &[u8], _: &mut Response<'_, ()>) -> Flow {
        Flow::More
    }

    fn on_trailer(&mut self, _: &mut (), name: &str, value: &[u8]) {
        self.0.push(format!("{name}={}", String::from_utf8_lossy(value)));
    }

    fn on_end(&mut self, _: &mut (), res: &mut Response<'_, ()>) {
        res.text(&self.0.join(";"));
    }
}

#[test]
fn row_36_trailers() {
    let web =
        Web::of(|| Router::new().post("/echo", |_, _, res| res.receive(Trailers(Vec::new()))));
    let mut client = web.client();
    let fields = "A: b\r\nHost: y\r\nContent-Length: 9\r\nX-Sum:  1 \r\nAuthorization: z\r\n\
        Content-Type: t\r\nTransfer-Encoding: chunked\r\n";
    client.ask(chunked(&format!("1\r\nx\r\n0\r\n{fields}\r\n"))).expect(200, "A=b;X-Sum=1");
    client.ask(chunked("0\r\n\r\n")).expect(200, "");
    let many = "A: b\r\n".repeat(101);
    refused(&web, chunked(&format!("0\r\n{many}\r\n")), 431);
    let long = "a".repeat(17 << 10);
    refused(&web, chunked(&format!("0\r\nA: {long}\r\n\r\n")), 431);
}

#[test]
fn row_37_a_body_is_framed_whatever_the_method() {
    let web = Web::of(routes);
    let mut client = web.client();
    for method in ["GET", "DELETE", "OPTIONS"] {
        let path = if method == "GET" { "/" } else { "/echo" };
        let hidden = "GET /param/hidden HTTP/1.1\r\nHost: x\r\n\r\n";
        let length = hidden.len();
        let fields = format!("Host: x\r\nContent-Length: {length}");
        let answer = client.ask(format!("{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n{hidden}"));
        assert_eq!(answer.status, 200, "{method}");
        assert_ne!(answer.text(), "hidden");
        client.get("/param/next").expect(200, "next");
    }
}

#[test]
fn row_38_the_end_inside_a_request_is_no_request() {
    let web = Web::of(routes);
    assert_eq!(web.tell("GET / HTTP/1.1\r\nHost: x\r\n"), "");
    assert_eq!(web.tell("GET"), "");
    assert_eq!(web.tell(post("Content-Length: 5", "hell")), "");
    assert_eq!(web.tell(chunked("5\r\nhello\r\n")), "");
    assert_eq!(web.tell(chunked("5\r\nhello\r\n0\r\n")), "");
    // What came before the end is served, also in a row.
    let two = "GET /param/a HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2) + "GET ";
    let answers = web.tell(two);
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
}

#[test]
fn row_39_a_handler_cannot_split_an_answer() {
    let web = Web::of(|| {
        Router::new()
            .get("/value", |_, _, res| {
                res.header("X-Name", "a\r\nSet-Cookie: b").text("body");
            })
            .get("/name", |_, _, res| res.header("X\r\nY", "a").text("body"))
            .get("/own", |_, _, res| res.header("Content-Length", "3").text("body"))
            .get("/type", |_, _, res| res.bytes("text/plain\r\nX: y", b"body"))
            .get("/status", |_, _, res| res.status(101).text("body"))
            .get("/redirect", |_, _, res| res.redirect("/\r\nX: y"))
            .get("/try", |_, _, res| {
                let refused = res.try_header("X", "a\nb").is_err();
                res.text(if refused { "refused" } else { "sent" });
            })
    });
    let mut client = web.client();
    for path in ["/value", "/name", "/own", "/type", "/status", "/redirect"] {
        let answer = client.get(path);
        assert_eq!(answer.status, 500, "{path}");
        assert!(!answer.head.contains("Set-Cookie") && !answer.head.contains("X: y"), "{path}");
        assert_ne!(answer.text(), "body");
    }
    client.get("/try").expect(200, "refused");
}

#[test]
fn row_40_answers_without_a_body() {
    let web = Web::of(|| {
        Router::new()
            .get("/204", |_, _, res| res.status(204).text("body"))
            .get("/304", |_, _, res| res.status(304).text("body"))
            .get("/304/empty", |_, _, res| res.status(304).empty())
            .get("/200", |_, _, res| res.text("body"))
            .get("/stream", |_, _, res| {
                res.stream(None);
                res.write(b"body");
                res.end();
            })
            .get("/stream/204", |_, _, res| {
                res.status(204).stream(None);
                res.write(b"body");
                res.end();
            })
    });
    let mut client = web.client();
    let answer = client.get("/204");
    assert_eq!((answer.status, answer.field("content-length")), (204, None));
    let answer = client.get("/304");
    assert_eq!((answer.status, answer.field("content-length")), (304, Some("4")));
    assert_eq!(client.get("/304/empty").field("content-length"), None);
    let answer = client.get("/stream/204");
    assert_eq!((answer.status, answer.field("transfer-encoding")), (204, None));
    for (path, field, value) in
        [("/200", "content-length", "4"), ("/stream", "transfer-encoding", "chunked")]
    {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let answer = client.answer_to_head();
        assert_eq!((answer.status, answer.field(field)), (200, Some(value)), "{path}");
        client.get("/200").expect(200, "body");
    }
}

/// Row 40, where the server answers on its own: RFC 9110, 9.3.2.
#[test]
fn row_40_a_head_request_that_is_refused_gets_no_body() {
    let web = Web::of(routes);
    let chunked = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    for request in [
        "GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\nGET /../x HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        chunked,
    ] {
        let told = web.tell(request);
        let (head, body) = told.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 ") && !body.is_empty(), "{told}");
        let length = format!("\r\nContent-Length: {}\r\n", body.len());
        let request = request.replacen("GET", "HEAD", 1).replacen("POST", "HEAD", 1);
        let told = web.tell(&request);
        assert!(told.contains(&length) && told.ends_with("\r\n\r\n"), "{request}: {told}");
    }
}

#[test]
fn rows_41_and_42_expectations() {
    let web = Web::of(routes);
    let mut client = web.client();
    client.send(post("Content-Length: 5\r\nExpect: 100-continue", ""));
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    client.answer().expect(200, "hello");
    // One that is not read is answered at once, and the connection ends.
    client.send(
        "POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    let answer = client.answer().expect(200, "ignored");
    assert_eq!(answer.field("connection"), Some("close"));
    client.finish();
    client.expect_end();
    refused(&web, post("Content-Length: 5\r\nExpect: a-miracle", "hello"), 417);
    let mut client = web.client();
    client.ask(post("Expect: 100-continue", "")).expect(200, "");
    client.ask(post("Expect: a-miracle", "")).expect(200, "");
    client.send("POST /echo HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    client.send("hi");
    client.answer().expect(200, "hi");
}

#[test]
fn row_45_what_stands_behind_the_last_request_is_ignored() {
    let web = Web::of(routes);
    let mut client = web.client();
    client.send(
        "GET /param/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n\
         GET /param/b HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    let answer = client.answer().expect(200, "a");
    assert_eq!(answer.field("connection"), Some("close"));
    client.finish();
    client.expect_end();
}

#[test]
fn row_46_pipelined_requests_are_answered_in_order() {
    let web = Web::of(routes);
    let mut client = web.client();
    let mut requests = String::new();
    for number in 0..500 {
        requests += &format!("GET /param/{number} HTTP/1.1\r\nHost: x\r\n\r\n");
        requests += &post("Content-Length: 3", &format!("{:03}", number % 1_000));
    }
    client.send(requests);
    for number in 0..500 {
        client.answer().expect(200, &number.to_string());
        client.answer().expect(200, &format!("{number:03}"));
    }
    client.expect_alive();
}

#[test]
fn row_46_thousands_of_requests_at_once_do_not_hold_up_the_others() {
    let web = Web::of(routes);
    // Half a million in 14 MB; no answer is read meanwhile but by a thread of its own.
    let mut flood = web.client();
    let mut reader = flood.stream.try_clone().unwrap();
    let drain = std::thread::spawn(move || {
        let mut total = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match std::io::Read::read(&mut reader, &mut buffer).unwrap() {
                0 => return total,
                count => total += count,
            }
        }
    });
    let some = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(10_000);
    let mut other = web.client();
    for _ in 0..50 {
        flood.send(&some);
        other.get("/").expect(200, "root");
    }
    flood.finish();
    let answer = other.get("/");
    let one = answer.head.len() + answer.body.len();
    assert_eq!(drain.join().unwrap(), 500_000 * one);
}

#[test]
fn row_46_a_turn_begins_so_many_requests_of_a_connection_and_no_more() {
    // Requests in the turn that goes on, and the most there were in one.
    let web = Web::serve(|| {
        let routes = Router::new()
            .get("/", |(turn, count, most): &mut (u64, u32, u32), _, res| {
                let now = res.context().stats().turns;
                *count = if *turn == now { *count + 1 } else { 1 };
                (*turn, *most) = (now, (*most).max(*count));
                res.text("root");
            })
            .get("/most", |(_, _, most), _, res| res.text(&most.to_string()));
        Server::new((0, 0, 0), routes)
    });
    let mut client = web.client();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2_000));
    for _ in 0..2_000 {
        client.answer().expect(200, "root");
    }
    let most: u32 = client.get("/most").text().parse().unwrap();
    // 128 with the event, and as many with what was posted by then.
    assert!((128..=256).contains(&most), "{most} in one turn");
}

#[test]
fn row_55_a_body_that_is_compressed() {
    let web = Web::of(routes);
    let mut client = web.client();
    let answer = client.ask(post("Content-Encoding: gzip\r\nContent-Length: 2", "hi"));
    assert_eq!(answer.status, 415);
    client.ask(post("Content-Encoding: identity\r\nContent-Length: 2", "hi")).expect(200, "hi");
    let web = Web::of(|| {
        Router::new().post("/echo", |_, _, res| {
            res.allow_encoded_body().collect(100, |_, body, res| res.bytes("a/b", body));
        })
    });
    let mut client = web.client();
    client.ask(post("Content-Encoding: gzip\r\nContent-Length: 2", "hi")).expect(200, "hi");
}

#[test]
fn row_58_trace_is_never_answered_with_what_was_sent() {
    let web = Web::of(routes);
    let mut client = web.client();
    let answer = client.ask("TRACE /echo HTTP/1.1\r\nHost: x\r\nCookie: secret\r\n\r\n");
    assert_eq!(answer.status, 405);
    assert!(!answer.text().contains("secret") && answer.field("allow").is_some());
}

#[test]
fn a_request_cut_anywhere_is_the_same_request() {
    let web = Web::of(routes);
    let request = chunked("3;a=\"b\"\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n")
        + "GET /param/next HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut client = web.client();
    for at in 1..request.len() {
        client.send(&request.as_bytes()[..at]);
        client.send(&request.as_bytes()[at..]);
        client.answer().expect(200, "abcde");
        client.answer().expect(200, "next");
    }
}
