//! The proxy as a process, between clients and servers that do what a test wants.
#![cfg(unix)]

mod health;
mod max_forwards;
#[path = "../../../../tests/examples/process.rs"]
mod process;
#[path = "../../../../tests/examples/servers.rs"]
mod servers;

use std::io::{BufReader, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use process::{PATIENCE, Process};
use servers::{Client, expect_clean_end};

const PROXY: &str = env!("CARGO_BIN_EXE_reverse_proxy");

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A proxy with these servers behind it, and more options.
#[track_caller]
fn serve(behind: &[SocketAddr], more: &[&str]) -> (Process, SocketAddr) {
    let addrs: Vec<_> = behind.iter().map(ToString::to_string).collect();
    let mut args: Vec<&str> = addrs.iter().flat_map(|addr| ["--to", addr]).collect();
    args.extend(more);
    Process::serve(PROXY, &args)
}

/// A place to listen, and its address.
fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// The next connection, as a peer with which to talk.
#[track_caller]
fn accept(listener: &TcpListener) -> Client {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Client { stream: BufReader::new(stream) }
}

/// The lines of a head.
#[track_caller]
fn head(peer: &mut Client) -> Vec<String> {
    std::iter::from_fn(|| Some(peer.line()).filter(|line| !line.is_empty())).collect()
}

fn has(head: &[String], line: &str) -> bool {
    head.iter().any(|found| found == line)
}

#[test]
fn a_message_passes_without_what_is_of_its_connection() {
    let (listener, behind) = listen();
    let (server, addr) = serve(&[behind], &["--every", "0"]);
    let mut client = Client::connect(addr);
    client.send(
        "POST /a/../b?c HTTP/1.1\r\nHost: x\r\nConnection: x-mine\r\nX-Mine: 1\r\nX-Other: 2\r\n\
         X-Forwarded-For: 9.9.9.9\r\nTE: trailers\r\nContent-Length: 5\r\n\r\nhello",
    );
    let mut upstream = accept(&listener);
    let request = head(&mut upstream);
    assert_eq!(request[0], "POST /a/../b?c HTTP/1.1");
    let wanted =
        ["X-Other: 2", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: x", "Content-Length: 5"];
    assert!(wanted.iter().all(|line| has(&request, line)), "{request:?}");
    let text = request.join("\n");
    assert!(!["Mine", "mine", "9.9.9.9", "TE:"].iter().any(|own| text.contains(own)), "{text}");
    upstream.expect("hello");
    upstream.send(
        "HTTP/1.1 201 Created\r\nConnection: x-own\r\nX-Own: 1\r\nX-Kept: 2\r\n\
         Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
         Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    let answer = head(&mut client);
    assert_eq!(answer[0], "HTTP/1.1 201 Created");
    let kept = ["X-Kept: 2", "Set-Cookie: a=1", "Set-Cookie: b=2"];
    assert!(kept.iter().all(|line| has(&answer, line)), "{answer:?}");
    assert!(!has(&answer, "X-Own: 1"), "{answer:?}");
    client.expect("3\r\nabc\r\n0\r\n\r\n");
    // Both connections are kept. What is compressed stays so.
    client.send(
        "PUT /z HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nzipp",
    );
    assert!(has(&head(&mut upstream), "Content-Encoding: gzip"));
    upstream.expect("zipp");
    upstream.send(OK);
    assert_eq!(head(&mut client)[0], "HTTP/1.1 200 OK");
    client.expect("ok");
    client.send("HEAD http://y?z HTTP/1.1\r\nHost: y\r\n\r\n");
    let request = head(&mut upstream);
    assert_eq!(request[0], "HEAD /?z HTTP/1.1");
    assert!(has(&request, "X-Forwarded-Host: y"), "{request:?}");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    assert!(has(&head(&mut client), "Content-Length: 2"));
    // About the whole server.
    for target in ["*", "http://x"] {
        client.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(head(&mut upstream)[0], "OPTIONS * HTTP/1.1");
        upstream.send("HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n");
        assert!(has(&head(&mut client), "Allow: GET"));
    }
    drop((client, upstream));
    expect_clean_end(server);
}

/// One that was rewritten would be of another page than the one a filter before the proxy has seen.
#[test]
fn a_target_passes_as_it_is_also_with_an_address_within_it() {
    let (listener, behind) = listen();
    let (server, addr) = serve(&[behind], &["--every", "0"]);
    let mut client = Client::connect(addr);
    let mut upstream = None;
    for (sent, wanted) in [
        ("/login?next=http://other/admin", "/login?next=http://other/admin"),
        ("/to/http://other/admin", "/to/http://other/admin"),
        ("//other/admin", "//other/admin"),
        ("http://x/a?b=http://other/admin", "/a?b=http://other/admin"),
        ("http://x?b=http://other/admin", "/?b=http://other/admin"),
        ("http://x", "/"),
    ] {
        client.send(format!("GET {sent} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let upstream = upstream.get_or_insert_with(|| accept(&listener));
        assert_eq!(head(upstream)[0], format!("GET {wanted} HTTP/1.1"));
        upstream.send(OK);
        assert_eq!(head(&mut client)[0], "HTTP/1.1 200 OK");
        client.expect("ok");
    }
    expect_end(server);
}

/// Programs that read fields as variables take an underscore for a dash.
#[test]
fn a_field_that_a_server_could_take_for_one_of_the_proxys_does_not_pass() {
    let (listener, behind) = listen();
    let (server, addr) = serve(&[behind], &["--every", "0"]);
    let mut client = Client::connect(addr);
    client.send(
        "GET / HTTP/1.1\r\nHost: x\r\nX_Forwarded_For: 9.9.9.9\r\nX-Real_IP: 9.9.9.9\r\n\
         X-Forwarded-Port: 999\r\nX-Forwarded_Prefix: /999\r\nx-forwarded-ssl: 999\r\n\
         X-Forwarded: 1\r\nTransfer_Encoding: chunked\r\nX_Own: 1\r\n\r\n",
    );
    let mut upstream = accept(&listener);
    let request = head(&mut upstream);
    let text = request.join("\n");
    assert!(!["9.9.9.9", "999", "chunked"].iter().any(|own| text.contains(own)), "{text}");
    assert!(has(&request, "X_Own: 1") && has(&request, "X-Forwarded: 1"), "{text}");
    upstream.send(OK);
    assert_eq!(head(&mut client)[0], "HTTP/1.1 200 OK");
    expect_end(server);
}

/// What listens on both versions gets addresses of version 4 as such of version 6.
#[test]
fn a_client_is_named_by_its_address_whatever_was_listened_on() {
    let (listener, behind) = listen();
    let to = behind.to_string();
    let args = ["--to", &to, "--every", "0", "--listen", "[::]:0"];
    let process = Process::start(PROXY, &args);
    let line = process.line();
    let port = line.rsplit(':').next().unwrap().parse::<u16>().expect(&line);
    let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut upstream = accept(&listener);
    let request = head(&mut upstream);
    assert!(has(&request, "X-Forwarded-For: 127.0.0.1"), "{request:?}");
    expect_end(process);
}

#[test]
fn the_server_behind_is_told_how_a_request_came() {
    let (listener, behind) = listen();
    let (server, addr) = serve(&[behind], &[]);
    for version in ["1.0", "1.1"] {
        let mut client = Client::connect(addr);
        client.send(format!("GET / HTTP/{version}\r\nHost: x\r\n\r\n"));
        let mut upstream = accept(&listener);
        let request = head(&mut upstream);
        assert!(has(&request, &format!("Via: {version} waterwheel")), "{request:?}");
    }
    expect_end(server);
}

#[test]
fn bodies_pass_as_they_come_and_are_held_back() {
    const TOTAL: usize = 64 << 20;
    let (listener, behind) = listen();
    let (server, addr) = serve(&[behind], &["--every", "0"]);
    let mut client = Client::connect(addr);
    client.send("POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    let mut upstream = accept(&listener);
    assert!(has(&head(&mut upstream), "Transfer-Encoding: chunked"));
    // The client has not finished.
    upstream.expect("5\r\nfirst\r\n");
    // Nobody reads behind: the client cannot go on for ever.
    client.stream.get_ref().set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
    let mut sent = 0;
    let rest = loop {
        assert!(sent < TOTAL, "{sent} bytes were taken, and nobody has read them");
        match std::io::Write::write(client.stream.get_mut(), &chunk) {
            Ok(count) if count == chunk.len() => sent += 0x10000,
            Ok(count) => break count,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
                break 0;
            }
        }
    };
    let reader = std::thread::spawn(move || {
        let mut body = Vec::new();
        let mut room = vec![0; 1 << 16];
        while !body.ends_with(b"\r\n0\r\n\r\n") {
            let count = upstream.stream.read(&mut room).unwrap();
            assert!(count > 0, "the body is cut");
            body.extend_from_slice(&room[..count]);
        }
        upstream.send(OK);
        (upstream, body.iter().filter(|&&byte| byte == b'x').count())
    });
    client.stream.get_ref().set_write_timeout(Some(PATIENCE)).unwrap();
    if rest > 0 {
        client.send(&chunk[rest..]);
        sent += 0x10000;
    }
    client.send("0\r\n\r\n");
    assert_eq!(head(&mut client)[0], "HTTP/1.1 200 OK");
    client.expect("ok");
    let (upstream, count) = reader.join().unwrap();
    assert_eq!(count, sent);
    drop((client, upstream));
    expect_clean_end(server);
}

/// An answer that a client has held back would wait for that client to read on.
#[test]
fn a_client_that_goes_amid_an_answer_frees_the_connection_behind() {
    let (listener, behind) = listen();
    let (server, addr) = serve(&[behind], &["--every", "0", "--timeout", "60"]);
    let mut client = Client::connect(addr);
    client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut upstream = accept(&listener);
    head(&mut upstream);
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    // Nobody reads, until the proxy does not either.
    upstream.stream.get_ref().set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let piece = vec![b'x'; 1 << 16];
    let mut sent = 0;
    while std::io::Write::write(upstream.stream.get_mut(), &piece).is_ok() {
        sent += 1;
        assert!(sent < 10_000, "the answer is not held back");
    }
    drop(client);
    upstream.stream.get_ref().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let end = upstream.stream.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    expect_end(server);
}

#[test]
fn a_100_comes_from_behind_and_the_body_waits_for_it() {
    let (listener, behind) = listen();
    let (server, addr) = serve(&[behind], &["--every", "0"]);
    let ask = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let mut client = Client::connect(addr);
    client.send(ask);
    let mut upstream = accept(&listener);
    assert!(has(&head(&mut upstream), "Expect: 100-continue"));
    let stream = client.stream.get_ref();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(client.stream.read(&mut [0; 1]).is_err(), "the server behind has said nothing so far");
    client.stream.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n");
    client.expect("HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body");
    upstream.expect("body");
    upstream.send(OK);
    assert_eq!(head(&mut client)[0], "HTTP/1.1 200 OK");
    client.expect("ok");
    // One that does not want the body.
    client.send(ask);
    head(&mut upstream);
    upstream.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let answer = head(&mut client);
    assert_eq!(answer[0], "HTTP/1.1 403 Forbidden");
    assert!(has(&answer, "Connection: close"), "{answer:?}");
    client.expect("no");
    upstream.expect_end();
    drop((client, upstream));
    expect_clean_end(server);
}

/// A server of HTTP/1.1 that is as old as the field.
#[test]
fn a_body_does_not_wait_for_a_server_that_never_says_100() {
    let (listener, behind) = listen();
    let (server, addr) = serve(&[behind], &["--every", "0", "--timeout", "600"]);
    let mut client = Client::connect(addr);
    client
        .send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody");
    let mut upstream = accept(&listener);
    head(&mut upstream);
    upstream.expect("body");
    upstream.send(OK);
    client.expect("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(head(&mut client)[0], "HTTP/1.1 200 OK");
    client.expect("ok");
    drop((client, upstream));
    expect_clean_end(server);
}

#[test]
fn a_client_that_goes_within_its_body_takes_the_request_with_it() {
    let (listener, behind) = listen();
    let (server, addr) = serve(&[behind], &["--every", "0"]);
    let mut client = Client::connect(addr);
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nfirst");
    let mut upstream = accept(&listener);
    head(&mut upstream);
    upstream.expect("first");
    drop(client);
    let end = upstream.stream.read(&mut [0; 1]);
    assert!(end.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionReset), "{end:?}");
    drop(upstream);
    expect_clean_end(server);
}

#[test]
fn a_tunnel_begins_when_the_server_behind_agrees() {
    let (listener, behind) = listen();
    let (server, addr) = serve(&[behind], &["--every", "0"]);
    let ask = "GET /t HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\nearly ";
    let mut client = Client::connect(addr);
    client.send(ask);
    let mut upstream = accept(&listener);
    let request = head(&mut upstream);
    assert!(has(&request, "Connection: Upgrade") && has(&request, "Upgrade: shout"), "{request:?}");
    upstream.send(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shout\r\n\
         X-Key: 7\r\n\r\nFIRST ",
    );
    let answer = head(&mut client);
    assert_eq!(answer[0], "HTTP/1.1 101 Switching Protocols");
    assert!(has(&answer, "Upgrade: shout") && has(&answer, "X-Key: 7"), "{answer:?}");
    client.expect("FIRST ");
    upstream.expect("early ");
    client.send("hello");
    upstream.expect("hello");
    client.finish();
    upstream.expect_end();
    upstream.send("AND BYE");
    drop(upstream);
    client.expect("AND BYE");
    client.expect_end();
    // One that does not agree.
    let mut client = Client::connect(addr);
    client.send(ask.trim_end_matches("early "));
    let mut upstream = accept(&listener);
    head(&mut upstream);
    upstream.send(OK);
    assert_eq!(head(&mut client)[0], "HTTP/1.1 200 OK");
    client.expect("ok");
    drop((client, upstream));
    expect_clean_end(server);
}

#[test]
fn an_answer_without_a_body_keeps_both_connections() {
    let (listener, behind) = listen();
    let (server, addr) = serve(&[behind], &["--every", "0"]);
    let mut client = Client::connect(addr);
    let mut upstream = None;
    for answer in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let upstream = upstream.get_or_insert_with(|| accept(&listener));
        head(upstream);
        upstream.send(answer);
        assert_eq!(head(&mut client)[0], answer.lines().next().unwrap());
        if answer.ends_with("\r\n0\r\n\r\n") {
            client.expect("0\r\n\r\n");
        }
    }
    drop((client, upstream));
    expect_clean_end(server);
}

/// Requests of HTTP/2 in a tunnel would reach the server behind unseen.
#[test]
fn no_tunnel_is_asked_for_http_2() {
    let (listener, behind) = listen();
    let (server, addr) = serve(&[behind], &["--every", "0"]);
    let mut client = Client::connect(addr);
    let mut upstream = None;
    for connection in ["upgrade, http2-settings", "upgrade"] {
        client.send(format!(
            "GET /t HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\nUpgrade: H2C\r\n\
             HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        ));
        let upstream = upstream.get_or_insert_with(|| accept(&listener));
        let request = head(upstream);
        let text = request.join("\n").to_ascii_lowercase();
        assert!(
            !["h2c", "http2-settings", "upgrade"].iter().any(|own| text.contains(own)),
            "{text}"
        );
        upstream.send(OK);
        assert_eq!(head(&mut client)[0], "HTTP/1.1 200 OK");
        client.expect("ok");
    }
    drop((client, upstream));
    expect_clean_end(server);
}

#[test]
fn a_websocket_passes() {
    let (echo, behind) = Process::serve("ws_echo", &[]);
    let (server, addr) = serve(&[behind], &["--every", "0"]);
    let client = Process::start("ws_echo", &["--connect", &addr.to_string(), "hello", "and bye"]);
    assert_eq!((client.line(), client.line()), ("hello".to_owned(), "and bye".to_owned()));
    assert!(client.line().starts_with("closed with 1000"));
    assert_eq!(client.end().code, Some(0));
    expect_clean_end(server);
    expect_clean_end(echo);
}

#[test]
fn curl_uploads_and_downloads_through_it() {
    let Ok(version) = Command::new("curl").arg("--version").output() else {
        return println!("skipped: curl is not installed");
    };
    assert!(version.status.success());
    let (web, behind) = Process::serve("web", &["--echo"]);
    let (server, addr) = serve(&[behind], &["--every", "0"]);
    let curl = |args: &[&str], path: &str| {
        let url = format!("http://{addr}{path}");
        let output = Command::new("curl").args(["-sS", "-m", "20"]).args(args).arg(url).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    assert_eq!(curl(&[], "/user/42"), b"{\"id\":42,\"name\":\"user-42\"}");
    assert_eq!(curl(&[], "/bulk").len(), 1 << 20);
    let file = std::env::temp_dir().join(format!("waterwheel-proxy-{}", std::process::id()));
    std::fs::write(&file, vec![b'y'; 900_000]).unwrap();
    let data = format!("@{}", file.display());
    assert_eq!(curl(&["--data-binary", &data], "/len"), b"900000");
    let chunked = ["-H", "Transfer-Encoding: chunked", "--data-binary", &data];
    assert_eq!(curl(&chunked, "/len"), b"900000");
    let expecting = ["-H", "Expect: 100-continue", "-T", file.to_str().unwrap()];
    assert_eq!(curl(&expecting, "/echoed"), vec![b'y'; 900_000]);
    assert!(curl(&["-I"], "/user/1").starts_with(b"HTTP/1.1 200 OK\r\n"));
    std::fs::remove_file(file).unwrap();
    expect_clean_end(server);
    web.terminate();
    web.end();
}

#[test]
fn what_fails_is_told_apart() {
    let (listener, behind) = listen();
    let (server, addr) = serve(&[behind], &["--every", "0", "--timeout", "0.3"]);
    let ask = |client: &mut Client| client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut client = Client::connect(addr);
    ask(&mut client);
    let silent = accept(&listener);
    let answer = head(&mut client);
    assert_eq!(answer[0], "HTTP/1.1 504 Gateway Timeout", "it says nothing");
    drop(silent);
    client.expect("the server behind has no answer\n");
    for answer in ["HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "", "HTTP/1.1 200 OK\r\nCont"] {
        ask(&mut client);
        let mut upstream = accept(&listener);
        head(&mut upstream);
        upstream.send(answer);
        upstream.finish();
        assert_eq!(head(&mut client)[0], "HTTP/1.1 502 Bad Gateway", "{answer:?}");
        client.expect("the server behind has no answer\n");
    }
    // A status that there is not, in one piece and in two.
    for rest in ["", "in parts"] {
        ask(&mut client);
        let mut upstream = accept(&listener);
        head(&mut upstream);
        let length = 4 + rest.len();
        upstream.send(format!("HTTP/1.1 700 Odd\r\nContent-Length: {length}\r\n\r\nbody"));
        assert_eq!(head(&mut client)[0], "HTTP/1.1 502 Bad Gateway");
        client.expect("body");
        upstream.send(rest);
        client.expect(rest);
    }
    // An answer that is cut is cut for the client too.
    ask(&mut client);
    let mut upstream = accept(&listener);
    head(&mut upstream);
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart");
    head(&mut client);
    client.expect("part");
    drop(upstream);
    assert_eq!(client.stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    drop(listener);
    let mut client = Client::connect(addr);
    ask(&mut client);
    assert_eq!(head(&mut client)[0], "HTTP/1.1 502 Bad Gateway", "nobody listens");
    drop(client);
    expect_clean_end(server);
}

fn expect_end(server: Process) {
    server.terminate();
    server.end();
}

#[test]
fn a_command_line_that_is_wrong_is_told_in_a_line() {
    let (code, text) = servers::failure(PROXY, &[]);
    assert_eq!((code, text.contains("--to")), (Some(2), true), "{text}");
    // All servers would look as if they were down.
    for path in ["health", "", "/a b", "/a#b", "http://x/"] {
        let args = ["--to", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--check", path];
        let (code, text) = servers::failure(PROXY, &args);
        assert_eq!((code, text.contains("--check")), (Some(2), true), "{text}");
    }
}
