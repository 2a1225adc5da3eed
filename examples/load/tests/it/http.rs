//! Requests of HTTP, against the server in the process and against peers with a script.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::LOAD;
use crate::json::Json;
use crate::process::{End, PATIENCE, Process};

const SHORT: [&str; 5] = ["--json", "--duration", "0.3", "--warmup", "0"];

fn run(args: &[&str]) -> End {
    Process::start(LOAD, &[&["http"], args].concat()).end()
}

/// A short run that must succeed.
#[track_caller]
fn report(args: &[&str]) -> Json {
    let end = run(&[args, &SHORT].concat());
    assert_eq!(end.code, Some(0), "{end:?}");
    Json::parse(&end.output.join("\n"))
}

#[track_caller]
fn figure(report: &Json, key: &str) -> u64 {
    report.at(&["figures", key]).whole()
}

/// A short run of one connection that must fail, with this kind of error.
#[track_caller]
fn failure(args: &[&str], kind: &str) -> String {
    let one: &[&str] = match args.contains(&"storm") {
        true => &["--in-flight", "1"],
        false => &["--connections", "1"],
    };
    let end = run(&[args, one, &SHORT].concat());
    assert_eq!(end.code, Some(1), "{end:?}");
    let text = end.output.join("\n");
    assert!(text.contains(&format!("\"kind\": \"{kind}\"")), "{kind}: {end:?}");
    text
}

/// A peer that answers the requests of each connection with these bytes, one after another, and
/// closes behind the last. It goes on with the last of them where `repeats` says so.
fn peer(answers: &'static [&'static str], repeats: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    // It ends with the test program.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream, answers, repeats, usize::MAX));
        }
    });
    addr
}

/// Writes pieces of so many bytes at the most.
fn serve(mut stream: TcpStream, answers: &[&str], repeats: bool, piece: usize) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut held = Vec::new();
    let last = answers.last().filter(|_| repeats).into_iter().cycle();
    for answer in answers.iter().chain(last) {
        let end = loop {
            if let Some(at) = held.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let mut bytes = [0; 4096];
            match stream.read(&mut bytes) {
                Ok(count @ 1..) => held.extend_from_slice(&bytes[..count]),
                _ => return,
            }
        };
        held.drain(..end);
        let mut pieces = answer.as_bytes().chunks(piece);
        if pieces.try_for_each(|piece| stream.write_all(piece)).is_err() {
            return;
        }
    }
}

fn url(addr: SocketAddr) -> String {
    format!("http://{addr}/")
}

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
#[cfg(feature = "web")]
fn each_mode_asks_the_server_in_the_process() {
    for args in [
        &["closed", "--connections", "5"][..],
        &["closed", "--connections", "5", "--pipeline", "8"],
        &["open", "--connections", "5", "--rate", "1000"],
        &["open", "--connections", "2", "--rate", "1000", "--depth", "4"],
        &["storm", "--in-flight", "5"],
        &["closed", "--connections", "2", "--body", "hello", "--expect", "hello"],
        &["closed", "--connections", "2", "--size", "300000", "--method", "PUT"],
        &["closed", "--connections", "2", "--method", "HEAD"],
        &["closed", "--connections", "2", "--expect", "Hello, World!", "--header", "X-A: b"],
    ] {
        let report = report(args);
        assert_eq!(figure(&report, "unanswered"), 0, "{args:?}");
        assert_eq!(figure(&report, "wrong"), 0, "{args:?}");
        assert!(report.at(&["latency", "exchange", "count"]).whole() > 0, "{args:?}");
    }
}

#[test]
#[cfg(feature = "web")]
fn held_connections_are_kept_ones_and_answer_in_the_end() {
    let args = ["http", "hold", "--connections", "20", "--active", "2", "--json"];
    let end = Process::start(LOAD, &[&args[..], &["--duration", "0.3"]].concat()).end();
    assert_eq!(end.code, Some(0), "{end:?}");
    let report = Json::parse(&end.output.join("\n"));
    assert_eq!(figure(&report, "woken"), 18);
    assert_eq!(figure(&report, "unanswered"), 0);
}

#[test]
#[cfg(feature = "web")]
fn the_server_ends_each_connection_where_that_is_asked() {
    for args in [
        &["closed", "--connections", "3"][..],
        &["open", "--connections", "3", "--rate", "300"],
        &["storm", "--in-flight", "3"],
    ] {
        let report = report(&[args, &["--close", "server"]].concat());
        assert_eq!(figure(&report, "unanswered"), 0, "{args:?}");
        if args[0] != "storm" {
            assert!(figure(&report, "reconnects") > 0, "{args:?}");
            assert_eq!(figure(&report, "connections"), 3, "{args:?}");
        }
    }
}

#[test]
fn a_request_that_was_not_answered_is_sent_again_on_the_next_connection() {
    // Of four in flight the first two are answered, and the end is announced.
    const LAST: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let to = url(peer(&[HELLO, LAST], false));
    for args in [&["closed", "--pipeline", "4"][..], &["open", "--pipeline", "4", "--rate", "400"]]
    {
        let report = report(&[args, &[&to, "--connections", "2"]].concat());
        assert_eq!(figure(&report, "unanswered"), 0, "{args:?}");
        assert!(figure(&report, "reconnects") > 1, "{args:?}");
    }
}

/// A server that stands still once, for a fifth of a second: a closed loop asks one request in that
/// time, and an open one knows of all that were due.
#[test]
fn a_stall_is_in_the_latency_of_all_requests_that_were_due() {
    const STALL: Duration = Duration::from_millis(200);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = url(listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                serve(stream.try_clone().unwrap(), &[HELLO; 50], false, usize::MAX);
                thread::sleep(STALL);
                serve(stream, &[HELLO], true, usize::MAX);
            });
        }
    });
    let args = ["--rate", "500", "--connections", "1", "--duration", "0.5", "--warmup", "0"];
    let end = run(&[&["open", &to, "--json"], &args[..]].concat());
    assert_eq!(end.code, Some(0), "{end:?}");
    let report = Json::parse(&end.output.join("\n"));
    assert_eq!(figure(&report, "offered"), 250);
    // 100 of the 250 were due in the stall; a tenth of all waited for more than half of it.
    let Json::Number(p90) = report.at(&["latency", "exchange", "p90_us"]) else { panic!() };
    assert!(*p90 > 100_000.0, "{end:?}");
}

#[test]
fn the_url_says_what_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = vec![0; 4096];
        let count = stream.read(&mut bytes).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    });
    let to = "http://a.example:81/b?c=%20d#e";
    let args = [to, "--connect", &addr.to_string(), "--connections", "1"];
    run(&[&args[..], &["--method", "PATCH", "--body", "xyz", "--header", "X-A:  1 "]].concat());
    let asked = "PATCH /b?c=%20d HTTP/1.1\r\nHost: a.example:81\r\nX-A: 1\r\n\
                 Content-Length: 3\r\n\r\nxyz";
    assert_eq!(peer.join().unwrap(), asked);
}

#[test]
fn right_answers_in_every_framing_are_taken() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                           2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n";
    const INTERIM: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                           HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let to = url(peer(&[HELLO, CHUNKED, INTERIM, CHUNKED, HELLO], true));
    let report = report(&[&to, "--connections", "2", "--expect", "hello", "--pipeline", "3"]);
    assert!(figure(&report, "messages") > 5);
    // One that ends with its connection.
    let to = url(peer(&["HTTP/1.0 200 OK\r\n\r\nhello"], false));
    let args: [&[&str]; 2] = [&["closed", "--connections", "2"], &["storm", "--in-flight", "2"]];
    for args in args {
        self::report(&[args, &[&to, "--expect", "hello"]].concat());
    }
}

#[test]
fn answers_may_come_a_byte_at_a_time() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                           2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    const SLOWLY: [&str; 4] = [CHUNKED, HELLO, CHUNKED, HELLO];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = url(listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || serve(stream, &SLOWLY, true, 1));
        }
    });
    let report = report(&[&to, "--expect", "hello", "--connections", "1", "--pipeline", "2"]);
    assert!(figure(&report, "messages") > 4);
}

#[test]
fn wrong_answers_are_told_and_the_connection_goes_on() {
    for (second, kind) in [
        ("HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\nhello", "status 503"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "status 204"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhell", "wrong length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhallo", "wrong body"),
    ] {
        let answers: &'static [&'static str] = Box::leak(Box::new([HELLO, second, HELLO]));
        let to = url(peer(answers, true));
        for mode in ["closed", "open"] {
            let text = failure(&[mode, &to], kind);
            let report = Json::parse(&text);
            assert_eq!(figure(&report, "wrong"), 1, "{text}");
            assert_eq!(figure(&report, "unanswered"), 0, "{text}");
            assert!(report.at(&["latency", "exchange", "count"]).whole() > 2, "{text}");
        }
    }
}

#[test]
fn malformed_answers_end_the_connection() {
    for (answer, told) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            "Content-Length",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", "Content-Length"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello", "Transfer-Encoding"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\n", "no size of a chunk"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n", "longer than"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!", "without a request"),
        ("HTPP/1.1 200 OK\r\n\r\n", "its head"),
    ] {
        let answers: &'static [&'static str] = Box::leak(Box::new([HELLO, answer]));
        let text = failure(&["closed", &url(peer(answers, true))], "malformed answer");
        assert!(text.contains(told), "{answer:?}: {text}");
    }
}

#[test]
fn cut_answers_are_told_as_such() {
    for (answer, missing) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "3 bytes of its body came, 2"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "no last chunk"),
    ] {
        let answers: &'static [&'static str] = Box::leak(Box::new([HELLO, answer]));
        let to = url(peer(answers, false));
        for mode in ["closed", "open"] {
            assert!(failure(&[mode, &to], "cut answer").contains(missing), "{answer:?}");
        }
        let answers: &'static [&'static str] = Box::leak(Box::new([answer]));
        failure(&["storm", &url(peer(answers, false))], "cut answer");
    }
    // One that reads a request and ends without a word has lost it.
    failure(&["closed", &url(peer(&[HELLO, ""], false))], "lost: closed by the peer");
}

#[test]
fn an_end_that_is_not_announced_or_does_not_come_is_told() {
    const LAST: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let to = url(peer(&[HELLO], true));
    for mode in ["closed", "open", "storm"] {
        failure(&[mode, &to, "--close", "server"], "no end announced");
    }
    // This one announces it, and waits for another request.
    let to = url(peer(&[LAST, LAST], true));
    let args = ["storm", "--close", "server", "--in-flight", "1", "--duration", "2.5"];
    let end = run(&[&args[..], &["--warmup", "0", &to]].concat());
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.output.join("\n").contains("timed out"), "{end:?}");
}

#[test]
fn a_first_answer_that_is_expected_otherwise_is_wrong() {
    let to = url(peer(&[HELLO], true));
    failure(&["closed", &to, "--expect", "Hell"], "wrong length");
    failure(&["closed", &to, "--expect", "Hello"], "wrong body");
    failure(&["closed", &to, "--status", "201"], "status 200");
    // Bodies that change are wrong, unless they may.
    const TWO: &[&str] = &[HELLO, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!", HELLO];
    failure(&["closed", &url(peer(TWO, true))], "wrong length");
    report(&[&url(peer(TWO, true)), "--any-body", "--connections", "1"]);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (args, text) in [
        (&["http", "udp"][..], "http is not spoken over UDP"),
        (&["closed", "--method", "GET"], "--method is for http"),
        (&["storm", "--close", "server"], "--close server is for http"),
        (&["http", "--close", "fin"], "in the mode closed --close is server only"),
        (&["http", "hold", "--close", "server"], "--close is not for the mode hold"),
        (&["http", "--close", "server", "--pipeline", "2"], "--close server is with --depth 1"),
        (&["http", "storm", "--pipeline", "2"], "--pipeline is for the modes closed and open"),
        (&["http", "--tls", "http://127.0.0.1:1/"], "exclude each other"),
        (&["http", "--header", "no colon"], "give 'Name: value'"),
        (&["http", "--header", "Connection: close"], "--close server"),
        (&["http", "--body", "a", "--size", "1"], "two bodies"),
        (&["http", "--body", "@/no/such/file"], "/no/such/file"),
        (&["http", "--status", "99"], "from 200 to 599"),
        (&["ftp://a/"], "neither http nor https"),
        (&["http", "http://u@a/"], "a name of a user"),
        (&["http", "closed", "closed"], "a word too many"),
        (&["http", "clsd"], "there is no mode"),
    ] {
        let end = Process::start(LOAD, args).end();
        assert_eq!(end.code, Some(2), "{end:?}");
        assert!(end.errors.contains(text), "{end:?}");
    }
}

#[test]
#[cfg(feature = "web")]
fn the_table_and_the_page_speak_of_requests() {
    let path = std::env::temp_dir().join(format!("ww-load-http-{}.html", std::process::id()));
    let args = ["--duration", "0.2", "--warmup", "0", "--html", path.to_str().unwrap()];
    let end = run(&args);
    assert_eq!(end.code, Some(0), "{end:?}");
    let page = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    for text in [&end.output.join("\n"), &page] {
        for told in ["http closed", "GET http://localhost/", "requests in all", "wrong answers"] {
            assert!(text.contains(told), "{told}: {text}");
        }
        assert!(!text.contains("messages"), "{text}");
    }
}

#[cfg(not(feature = "web"))]
#[test]
fn without_a_server_of_its_own_it_says_how_to_build_it() {
    for (mode, to) in [("http", "http://"), ("ws", "ws://")] {
        let end = Process::start(LOAD, &[mode, "--duration", "0.1"]).end();
        assert_eq!(end.code, Some(1), "{end:?}");
        assert!(end.errors.contains(to), "{end:?}");
        assert!(end.errors.contains("cargo run --release -p load --features web"), "{end:?}");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn https_without_the_feature_says_how_to_build_it() {
    let end = run(&["https://127.0.0.1:1/"]);
    assert_eq!(end.code, Some(2), "{end:?}");
    assert!(end.errors.contains("cargo run --release -p load --features tls"), "{end:?}");
}

#[cfg(all(feature = "tls", feature = "web"))]
#[test]
fn https_is_http_over_tls() {
    let report = report(&["--tls", "--connections", "3", "--pipeline", "2"]);
    assert_eq!(figure(&report, "tls_handshakes"), 3);
    assert_eq!(figure(&report, "wrong"), 0);
    let storm = self::report(&["storm", "--tls", "--in-flight", "2", "--close", "server"]);
    assert!(figure(&storm, "tls_handshakes") > 0);
    let plain = url(peer(&[HELLO], true)).replace("http:", "https:");
    let end = run(&[&plain]);
    assert_eq!(end.code, Some(1), "{end:?}");
}
