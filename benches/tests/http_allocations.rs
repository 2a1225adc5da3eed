//! What an HTTP request allocates, counted: nothing, for a head of ordinary size and an answer of
//! known length. Here, because counting wants an allocator of its own.

mod counting;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use waterwheel::http::{self, Router, Server};
use waterwheel::{ListenOptions, Reactor};

use counting::allocated;

const FIELDS: &str = "Host: 127.0.0.1:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate\r\n\
    Connection: keep-alive\r\nCookie: a=b; c=d\r\nCache-Control: no-cache\r\n\
    Upgrade-Insecure-Requests: 1\r\nPriority: u=1\r\n";

/// Sends these requests again and again, and counts while the loop serves them.
fn allocations(requests: &str, answer_bytes: usize) -> u64 {
    let routes = Router::new()
        .get("/plaintext", |_, _, res| res.text("Hello, World!"))
        .get("/user/{id}", |_, req, res| res.text(req.param("id")))
        .get("/made", |_, req, res| res.text(&format!("{}!!!", req.path())))
        .post("/sum", |_, _, res| res.collect(10, |_, _, res| res.text("not read")));
    let mut reactor = Reactor::new().unwrap();
    let web = reactor.register(Server::new((), routes));
    let options = ListenOptions::default().limits(http::limits());
    let addr = reactor.listen("127.0.0.1:0", web, options).unwrap();
    let mut client = TcpStream::connect(addr).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut answers = vec![0; answer_bytes];
    let mut counted = 0;
    let patience = Instant::now() + Duration::from_secs(10);
    for round in 0..200 {
        client.write_all(requests.as_bytes()).unwrap();
        let mut received = 0;
        while received < answers.len() {
            let before = allocated();
            reactor.run_once(Some(Duration::ZERO)).unwrap();
            let made = allocated() - before;
            // The first requests find room.
            counted += if round >= 100 { made } else { 0 };
            received += client.read(&mut answers[received..]).unwrap_or(0);
            assert!(Instant::now() < patience, "no answer");
        }
        assert!(answers.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
    counted
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n\r\n";

#[test]
fn a_request_allocates_nothing() {
    let small = "GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
    assert_eq!(allocations(small, HEAD.len() + 13), 0);
    assert_eq!(allocations(&small.repeat(16), 16 * (HEAD.len() + 13)), 0);
    let browser = format!("GET /user/1234567890123 HTTP/1.1\r\n{FIELDS}\r\n");
    assert_eq!(allocations(&browser, HEAD.len() + 13), 0);
    let users: String = (0..33)
        .map(|user| format!("GET /user/{:013} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n", user))
        .collect();
    assert_eq!(allocations(&users, 33 * (HEAD.len() + 13)), 0, "a path that is another each time");
    let asked = "POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(allocations(asked, HEAD.len() - 1 + 8), 0, "a body that is there already");
    let made = "GET /made HTTP/1.1\r\nHost: x\r\n\r\n";
    assert!(allocations(made, HEAD.len() - 1 + 8) >= 100, "the count counts");
}
