//! Echoes over WebSocket, against the server in the process and against peers with a script.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::LOAD;
#[cfg(feature = "web")]
use crate::json::Json;
use crate::process::{End, PATIENCE, Process};

const SHORT: [&str; 5] = ["--json", "--duration", "0.3", "--warmup", "0"];

fn run(args: &[&str]) -> End {
    Process::start(LOAD, &[&["ws"], args].concat()).end()
}

#[track_caller]
#[cfg(feature = "web")]
fn figure(report: &Json, key: &str) -> u64 {
    report.at(&["figures", key]).whole()
}

#[test]
#[cfg(feature = "web")]
fn each_mode_speaks_with_the_server_in_the_process() {
    for args in [
        &["closed", "--connections", "5"][..],
        &["closed", "--connections", "5", "--depth", "8", "--size", "126"],
        &["closed", "--connections", "2", "--size", "70001"],
        &["closed", "--connections", "2", "--size", "1"],
        &["open", "--connections", "5", "--rate", "1000"],
        &["storm", "--in-flight", "5"],
        &["storm", "--in-flight", "5", "--close", "reset"],
    ] {
        let end = run(&[args, &SHORT].concat());
        assert_eq!(end.code, Some(0), "{end:?}");
        let report = Json::parse(&end.output.join("\n"));
        assert_eq!(figure(&report, "unanswered"), 0, "{args:?}");
        assert!(report.at(&["latency", "exchange", "count"]).whole() > 0, "{args:?}");
    }
}

#[test]
#[cfg(feature = "web")]
fn held_connections_answer_in_the_end() {
    let args = ["hold", "--connections", "20", "--active", "2", "--json", "--duration", "0.3"];
    let end = run(&args);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(figure(&Json::parse(&end.output.join("\n")), "woken"), 18);
}

/// A peer that answers the handshake of each connection with `hello`, reads a message of a byte,
/// and sends what `echo` makes of that byte.
fn peer(hello: &'static str, echo: fn(u8) -> Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr: SocketAddr = listener.local_addr().unwrap();
    // It ends with the test program.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream, hello, echo));
        }
    });
    format!("ws://{addr}/")
}

/// Reads the request of the handshake.
fn read_head(stream: &mut TcpStream) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(())
}

fn serve(mut stream: TcpStream, hello: &str, echo: fn(u8) -> Vec<u8>) -> Option<()> {
    read_head(&mut stream)?;
    stream.write_all(hello.as_bytes()).ok()?;
    loop {
        let mut frame = [0; 7]; // a head of two bytes, a mask, and a byte
        stream.read_exact(&mut frame).ok()?;
        if frame[0] == 0x88 {
            return stream.read_exact(&mut [0]).ok(); // a Close, which it does not answer
        }
        assert_eq!(frame[..2], [0x82, 0x81], "a whole binary message of one byte, masked");
        stream.write_all(&echo(frame[6] ^ frame[2])).ok()?;
    }
}

const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[test]
fn a_message_may_come_back_in_fragments_with_a_pong_between() {
    let to = peer(AGREED, |byte| vec![0x02, 0, 0x8a, 0, 0x00, 1, byte, 0x80, 0]);
    let end = run(&[&["closed", &to, "--connections", "1", "--size", "1"], &SHORT[..]].concat());
    assert_eq!(end.code, Some(0), "{end:?}");
}

/// What comes back, the kind of the error, and what the peer sends.
type Case = (&'static str, fn(u8) -> Vec<u8>);

#[test]
fn what_comes_back_otherwise_than_it_was_sent_is_told() {
    let cases: [Case; 9] = [
        ("wrong bytes", |byte| vec![0x82, 1, !byte]),
        ("wrong length", |_| vec![0x82, 0]),
        ("wrong length", |byte| vec![0x82, 2, byte, byte]),
        ("malformed frame", |byte| vec![0x81, 1, byte]),
        ("malformed frame", |byte| vec![0xc2, 1, byte]),
        ("malformed frame", |byte| vec![0x82, 0x81, 0, 0, 0, 0, byte]),
        ("malformed frame", |byte| vec![0x82, 126, 0, 1, byte]),
        ("malformed frame", |byte| vec![0x82, 1, byte, 0x82, 1, byte]),
        ("closed by the server: 1001", |_| vec![0x88, 2, 0x03, 0xe9]),
    ];
    for (kind, echo) in cases {
        let to = peer(AGREED, echo);
        let args = ["closed", &to, "--connections", "1", "--size", "1"];
        let end = run(&[&args[..], &SHORT].concat());
        assert_eq!(end.code, Some(1), "{kind}: {end:?}");
        let text = end.output.join("\n");
        assert!(text.contains(&format!("\"kind\": \"{kind}\"")), "{kind}: {end:?}");
    }
}

#[test]
fn a_storm_wants_its_close_answered() {
    // This peer goes when it is told to.
    let to = peer(AGREED, |byte| vec![0x82, 1, byte]);
    let end = run(&[&["storm", &to, "--in-flight", "1", "--size", "1"], &SHORT[..]].concat());
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.output.join("\n").contains("\"kind\": \"no Close\""), "{end:?}");
}

#[test]
fn a_server_that_does_not_agree_ends_the_run() {
    for (hello, why) in [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404, not 101"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "no answer of HTTP"),
        (
            "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: c2s=\r\n\r\n",
            "its Sec-WebSocket-Accept is not that of the key",
        ),
    ] {
        for mode in ["closed", "open", "storm", "hold"] {
            let end = run(&[mode, &peer(hello, |_| Vec::new()), "--duration", "0.3"]);
            assert_eq!(end.code, Some(1), "{end:?}");
            assert!(end.errors.contains(why), "{mode}: {end:?}");
        }
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (args, text) in [
        (&["ws", "udp"][..], "WebSocket is not spoken over UDP"),
        (&["ws", "http://127.0.0.1:1/"], "ws is not what the URL begins with"),
        (&["http", "ws://127.0.0.1:1/"], "http is not what the URL begins with"),
        (&["ws", "--tls", "ws://127.0.0.1:1/"], "exclude each other"),
        (&["ws", "--method", "GET"], "--method is for http"),
        (&["ws", "--header", "Sec-WebSocket-Key: a"], "the handshake has it"),
        (&["ws", "storm", "--close", "server"], "--close server is for http"),
    ] {
        let end = Process::start(LOAD, args).end();
        assert_eq!(end.code, Some(2), "{end:?}");
        assert!(end.errors.contains(text), "{end:?}");
    }
}

#[test]
#[cfg(feature = "web")]
fn the_table_and_the_page_have_the_url() {
    let path = std::env::temp_dir().join(format!("ww-load-ws-{}.html", std::process::id()));
    let args = ["--duration", "0.2", "--warmup", "0", "--html", path.to_str().unwrap()];
    let end = run(&[&args[..], &["--connections", "2", "--header", "Origin: http://a"]].concat());
    assert_eq!(end.code, Some(0), "{end:?}");
    let page = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    for text in [&end.output.join("\n"), &page] {
        for told in ["ws closed", "64-byte messages", "ws://localhost/"] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }
}

/// A peer that sends a Ping in one segment with its answer to the handshake. It echoes nothing
/// before the Pong has come.
fn pinging_peer() -> String {
    let hello = [AGREED.as_bytes(), &[0x89, 1, b'?']].concat();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = move |mut stream: TcpStream, hello: &[u8]| -> Option<()> {
        read_head(&mut stream)?;
        stream.write_all(hello).ok()?;
        let (mut held, mut has_pong) = (Vec::new(), false);
        loop {
            let mut frame = [0; 7]; // a head of two bytes, a mask, and a byte
            stream.read_exact(&mut frame).ok()?;
            match frame[0] {
                0x8a => has_pong = true,
                _ => held.extend([0x82, 1, frame[6] ^ frame[2]]),
            }
            if has_pong {
                stream.write_all(&std::mem::take(&mut held)).ok()?;
            }
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let hello = hello.clone();
            thread::spawn(move || serve(stream, &hello));
        }
    });
    format!("ws://{addr}/")
}

#[test]
fn a_ping_behind_the_handshake_is_answered() {
    let modes = [
        &["closed", "--connections", "2"][..],
        &["open", "--rate", "100", "--connections", "2"],
        &["hold", "--active", "1", "--connections", "2"],
        &["storm", "--in-flight", "2", "--close", "reset"],
    ];
    for args in modes {
        let to = pinging_peer();
        let more = ["--size", "1", "--json", "--duration", "0.3"];
        let end = run(&[args, &[&to], &more].concat());
        assert_eq!(end.code, Some(0), "{args:?}: {end:?}");
    }
}
