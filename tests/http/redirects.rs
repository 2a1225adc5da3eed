//! Redirections that the client follows.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use waterwheel::Reactor;
use waterwheel::http::{Call, Client, ClientOptions, Method, Redirects};

use crate::client_bodies::{outcome, read_until, serve, until};

/// A server that answers each path with what `paths` says, and else with the request.
fn redirecting(paths: &'static [(&'static str, u16, &'static str)], other: String) -> SocketAddr {
    serve(move |mut stream, _| {
        let other = other.clone();
        thread::spawn(move || {
            loop {
                let head = read_until(&mut stream, b"\r\n\r\n");
                let Some(path) = head.split(' ').nth(1) else { return };
                let length = head.split("Content-Length: ").nth(1);
                let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                let answer = match paths.iter().find(|(known, ..)| *known == path) {
                    Some((_, status, location)) => {
                        let location = location.replace("OTHER", &other);
                        format!(
                            "HTTP/1.1 {status} X\r\nLocation: {location}\r\n\
                                 Content-Length: 0\r\n\r\n"
                        )
                    }
                    None => {
                        let seen = head + &String::from_utf8(body).unwrap();
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{seen}", seen.len())
                    }
                };
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
    })
}

/// A server that redirects, another one, and a client that follows between them.
struct RedirectRig {
    reactor: Reactor,
    follow: Redirects,
    other: SocketAddr,
}

impl RedirectRig {
    fn new() -> Self {
        let other = redirecting(&[], String::new());
        let first = redirecting(
            &[
                ("/301", 301, "/end?x"),
                ("/302", 302, "end"),
                ("/303", 303, "./a/../end"),
                ("/307", 307, "/end"),
                ("/308", 308, "/end#fragment"),
                ("/two", 302, "/301"),
                ("/loop", 302, "/loop"),
                ("/other", 307, "http://OTHER/there"),
                ("/away", 302, "http://127.0.0.1:1/"),
                ("/bad", 302, "ftp://x/"),
                ("/none", 304, "/end"),
            ],
            other.to_string(),
        );
        let mut reactor = Reactor::new().unwrap();
        let options = ClientOptions::default();
        let a = Client::register(&mut reactor, first, options.clone()).unwrap();
        let b = Client::register(&mut reactor, other, options).unwrap();
        let follow = Redirects::from(&format!("http://{first}"), a).unwrap();
        let follow = follow.to(&format!("http://{other}"), b).unwrap().max(2);
        Self { reactor, follow, other }
    }

    #[track_caller]
    fn send(&mut self, call: Call) -> Result<(u16, String), String> {
        let (sender, outcomes) = mpsc::channel();
        self.follow.send(&mut self.reactor.context(), call, move |answer, _| {
            sender.send(outcome(answer)).unwrap();
        });
        let outcome = until(&mut self.reactor, |_| outcomes.try_recv().ok());
        outcome.map(|(status, body)| (status, String::from_utf8(body).unwrap()))
    }
}

#[test]
fn redirections_are_followed_within_what_the_program_allows() {
    let mut rig = RedirectRig::new();
    let other = rig.other;
    let mut send = |call: Call| rig.send(call);
    let post = |path: &str| {
        Call::post(path).header("Content-Type", "text/x").header("A", "b").body(b"BODY".to_vec())
    };
    for (path, method, has_body) in [
        ("/301", "GET /end?x ", false),
        ("/302", "GET /end ", false),
        ("/303", "GET /end ", false),
        ("/307", "POST /end ", true),
        ("/308", "POST /end ", true),
        ("/two", "GET /end?x ", false),
        ("/straight", "POST /straight ", true),
    ] {
        let (status, seen) = send(post(path)).unwrap();
        assert_eq!(status, 200);
        assert!(seen.starts_with(method), "{path}: {seen}");
        assert!(seen.contains("\r\nA: b\r\n"), "{seen}");
        assert_eq!(seen.ends_with("\r\n\r\nBODY"), has_body, "{path}: {seen}");
        assert_eq!(seen.contains("Content-Type: text/x"), has_body, "{path}: {seen}");
        assert_eq!(seen.contains("Content-Length"), has_body, "{path}: {seen}");
    }
    for (method, path, wanted) in [
        (Method::Put, "/302", "PUT /end "),
        (Method::Put, "/303", "GET /end "),
        (Method::Delete, "/301", "DELETE /end?x "),
    ] {
        assert!(send(Call::new(method, path)).unwrap().1.starts_with(wanted), "{path}");
    }
    let secrets = |path: &str| {
        let call = Call::get(path).header("Authorization", "secret").header("cookie", "secret");
        call.header("Proxy-Authorization", "secret").header("B", "c")
    };
    let (_, seen) = send(secrets("/other")).unwrap();
    assert!(seen.contains("\r\nB: c\r\n") && !seen.contains("secret"), "{seen}");
    assert!(seen.contains(&format!("\r\nHost: {other}\r\n")), "{seen}");
    let (_, seen) = send(secrets("/301")).unwrap();
    assert_eq!(seen.matches("secret").count(), 3, "{seen}");
    for (path, why) in
        [("/loop", "more of them"), ("/away", "has not named"), ("/bad", "malformed")]
    {
        let error = send(Call::get(path)).unwrap_err();
        assert!(error.contains(why), "{path}: {error}");
    }
    assert_eq!(send(Call::get("/none")).unwrap().0, 304);
    let streamed = Call::post("/307").stream_body(Some(1), |upload, cx| {
        upload.write(cx, b"x");
        upload.end(cx);
    });
    assert!(send(streamed).unwrap_err().contains("streamed"));
}

/// The request that follows one for another protocol is a plain one, which a server must not take
/// for the beginning of that.
#[test]
fn what_follows_a_request_for_another_protocol_asks_for_none() {
    let mut rig = RedirectRig::new();
    for call in [Call::get("/303"), Call::post("/302"), Call::post("/301")] {
        let (_, seen) = rig.send(call.header("A", "b").upgrade("shout", |_, _| ())).unwrap();
        assert!(seen.starts_with("GET /end") && seen.contains("\r\nA: b\r\n"), "{seen}");
        assert!(!seen.to_lowercase().contains("upgrade"), "{seen}");
    }
    let error = rig.send(Call::get("/302").upgrade("shout", |_, _| ())).unwrap_err();
    assert!(error.contains("another protocol"), "{error}");
}

#[test]
fn no_redirection_leads_from_https_to_http() {
    let addr = redirecting(&[("/", 302, "http://OTHER/x")], "a.example".to_owned());
    let mut reactor = Reactor::new().unwrap();
    let client = Client::register(&mut reactor, addr, ClientOptions::default()).unwrap();
    let follow = Redirects::from("https://a.example", client).unwrap();
    let follow = follow.to("http://a.example", client).unwrap();
    let (sender, outcomes) = mpsc::channel();
    follow.send(&mut reactor.context(), Call::get("/"), move |answer, _| {
        sender.send(outcome(answer)).unwrap();
    });
    let outcome = until(&mut reactor, |_| outcomes.try_recv().ok());
    assert!(outcome.unwrap_err().contains("from https to http"));
    assert!(Redirects::from("a.example", client).is_err());
}
