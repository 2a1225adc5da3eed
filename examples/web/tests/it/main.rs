//! The web server as a process: its routes, its options, its end; and clients that others wrote.
#![cfg(unix)]

#[cfg(feature = "db")]
mod accounts;
mod clients;
#[path = "../../../../tests/balancer/peers.rs"]
mod peers;
#[path = "../../../../tests/examples/process.rs"]
mod process;
mod roll;
#[path = "../../../../tests/examples/servers.rs"]
mod servers;
#[path = "../../../../tests/balancer/stats.rs"]
mod stats;
mod uploads;

use std::io::Read;

use process::Process;
use servers::{Client, expect_clean_end};

const WEB: &str = env!("CARGO_BIN_EXE_web");

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// The lines of its fields, in lower case.
    fields: Vec<String>,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn expect(&self, status: u16, body: impl AsRef<[u8]>) {
        let told = (self.status, self.body.escape_ascii().to_string());
        assert_eq!(told, (status, body.as_ref().escape_ascii().to_string()), "{:?}", self.fields);
    }

    fn has(&self, field: &str) -> bool {
        self.fields.iter().any(|line| line == field)
    }
}

/// Writes a request with a body.
fn ask(client: &mut Client, method: &str, target: &str, body: &[u8]) {
    let length = body.len();
    client
        .send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
    client.send(body);
}

/// Reads an answer with a body of known length.
#[track_caller]
fn answer(client: &mut Client) -> Answer {
    let line = client.line();
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.expect(&line).parse().expect(&line);
    let mut fields = Vec::new();
    loop {
        let line = client.line().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        fields.push(line);
    }
    let length = fields.iter().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap_or("0").parse().unwrap()];
    client.stream.read_exact(&mut body).unwrap();
    Answer { status, fields, body }
}

#[track_caller]
fn exchange(client: &mut Client, method: &str, target: &str, body: &[u8]) -> Answer {
    ask(client, method, target, body);
    answer(client)
}

#[test]
fn it_does_what_every_server_does() {
    servers::expect_a_server(WEB, false);
}

#[test]
fn each_route_answers_on_one_connection() {
    let (server, addr) = Process::serve(WEB, &[]);
    let mut client = Client::connect(addr);
    let hello = exchange(&mut client, "GET", "/plaintext", b"");
    hello.expect(200, "Hello, World!");
    assert!(hello.has("content-type: text/plain; charset=utf-8"), "{hello:?}");
    assert!(hello.fields.iter().any(|line| line.starts_with("date: ")), "{hello:?}");
    let user = exchange(&mut client, "GET", "/user/42", b"");
    user.expect(200, r#"{"id":42,"name":"user-42"}"#);
    assert!(user.has("content-type: application/json"), "{user:?}");
    for id in ["x", "007", "1x", "99999999999999999999"] {
        exchange(&mut client, "GET", &format!("/user/{id}"), b"")
            .expect(404, "a user has a number\n");
    }
    exchange(&mut client, "GET", "/user/0", b"").expect(200, r#"{"id":0,"name":"user-0"}"#);
    exchange(&mut client, "POST", "/len", &vec![7; 300_000]).expect(200, "300000");
    exchange(&mut client, "POST", "/len", b"").expect(200, "0");
    exchange(&mut client, "GET", "/bulk", b"").expect(200, vec![b'x'; 1 << 20]);
    let index = exchange(&mut client, "GET", "/", b"");
    assert!(index.status == 200 && index.body.starts_with(b"<!doctype html>"), "{index:?}");
    assert_eq!(exchange(&mut client, "GET", "/nothing", b"").status, 404);
    let refused = exchange(&mut client, "POST", "/plaintext", b"");
    assert_eq!(refused.status, 405);
    assert!(refused.fields.iter().any(|line| line.starts_with("allow: get")), "{refused:?}");
    drop(client);
    expect_clean_end(server);
}

#[test]
fn with_echo_every_other_path_and_method_sends_the_body_back() {
    let (server, addr) = Process::serve(WEB, &["--echo"]);
    let mut client = Client::connect(addr);
    for (method, target) in
        [("POST", "/plaintext"), ("PUT", "/any/where"), ("DELETE", "/user/1"), ("PATCH", "/%20?q")]
    {
        exchange(&mut client, method, target, b"the body").expect(200, "the body");
    }
    let large: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
    exchange(&mut client, "POST", "/", &large).expect(200, &large);
    exchange(&mut client, "GET", "/nothing", b"").expect(200, "");
    exchange(&mut client, "GET", "/plaintext", b"").expect(200, "Hello, World!");
    exchange(&mut client, "POST", "/len", b"abc").expect(200, "3");
    drop(client);
    expect_clean_end(server);
}

#[test]
fn with_log_each_request_is_a_line_that_forges_nothing() {
    let (server, addr) = Process::serve(WEB, &["--log"]);
    let mut client = Client::connect(addr);
    client.send("GET /user/1?x HTTP/1.1\r\nHost: a\r\nUser-Agent: a\" 200\t\\\r\n\r\n");
    answer(&mut client).expect(200, r#"{"id":1,"name":"user-1"}"#);
    let line = server.line();
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    let told = r#""GET /user/1?x HTTP/1.1" 200 24 "-" "a\" 200\x09\\" "#;
    assert!(line.contains(told), "{line}");
    exchange(&mut client, "POST", "/len", b"abc").expect(200, "3");
    let line = server.line();
    assert!(line.contains(r#""POST /len HTTP/1.1" 200 1 "-" "-" "#), "{line}");
    drop(client);
    assert_eq!(expect_clean_end(server), [""; 0]);
}

#[test]
fn it_goes_on_when_the_reader_of_its_log_has_gone() {
    let args = ["--listen", "127.0.0.1:0", "--log"];
    servers::expect_to_go_on_without_a_reader(WEB, &args, |client| {
        exchange(client, "GET", "/plaintext", b"").expect(200, "Hello, World!");
    });
}

#[test]
fn a_fleet_of_two_serves_and_drains() {
    for args in [&["--threads", "2"][..], &["--threads", "0", "--echo"]] {
        let (server, addr) = Process::serve(WEB, args);
        let mut clients: Vec<_> = (0..8).map(|_| Client::connect(addr)).collect();
        for client in &mut clients {
            exchange(client, "GET", "/plaintext", b"").expect(200, "Hello, World!");
        }
        server.terminate();
        for client in &mut clients {
            client.expect_end();
        }
        drop(clients);
        let end = server.end();
        assert_eq!(end.code, Some(0), "{end:?}");
    }
}

#[test]
fn a_drain_ends_the_idle_at_once_and_serves_what_is_under_way() {
    for args in [&[][..], &["--threads", "2"]] {
        let (server, addr) = Process::serve(WEB, args);
        let [mut idle, mut busy, mut silent] = [(); 3].map(|()| Client::connect(addr));
        exchange(&mut idle, "GET", "/plaintext", b"").expect(200, "Hello, World!");
        busy.send("POST /len HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n");
        busy.send("Content-Length: 6\r\n\r\n");
        busy.expect("HTTP/1.1 100 Continue\r\n\r\n");
        server.terminate();
        idle.expect_end();
        silent.expect_end();
        busy.send("abcdef");
        let answer = answer(&mut busy);
        answer.expect(200, "6");
        assert!(answer.has("connection: close"), "{answer:?}");
        busy.expect_end();
        drop((idle, busy, silent));
        let end = server.end();
        assert_eq!(end.code, Some(0), "{end:?}");
    }
}

#[test]
fn a_drain_serves_a_request_whose_head_has_begun() {
    let (server, addr) = Process::serve(WEB, &[]);
    let [mut late, mut other] = [(); 2].map(|()| Client::connect(addr));
    late.send("GET /user/5 HTTP/1.1\r\nHo");
    // The half of a head is here when a request that was sent after it is answered.
    exchange(&mut other, "GET", "/user/7", b"").expect(200, r#"{"id":7,"name":"user-7"}"#);
    server.terminate();
    other.expect_end();
    late.send("st: a\r\n\r\n");
    let answer = answer(&mut late);
    answer.expect(200, r#"{"id":5,"name":"user-5"}"#);
    assert!(answer.has("connection: close"), "{answer:?}");
    late.expect_end();
    drop((late, other));
    let end = server.end();
    assert_eq!(end.code, Some(0), "{end:?}");
}
