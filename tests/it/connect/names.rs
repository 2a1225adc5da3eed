//! Names where a server listens, and looked up for a handler.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use waterwheel::udp::{DatagramSocket, UdpOptions};
use waterwheel::{Conn, Context, HandlerKey, ListenOptions, Reactor};

type Answers = Rc<RefCell<Vec<Result<Vec<SocketAddr>, ErrorKind>>>>;

/// Closures that cross threads cannot hold what a test looks at, so the handler does.
struct Asker(Answers);

impl waterwheel::Handler for Asker {
    type State = ();

    fn on_accept(&mut self, _: &waterwheel::Peer) -> Option<()> {
        None
    }

    fn on_data(&mut self, _: &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

fn note(asker: &mut Asker, cx: &mut Context<'_>, answer: std::io::Result<Vec<SocketAddr>>) {
    asker.0.borrow_mut().push(answer.map_err(|error| error.kind()));
    cx.stop();
}

fn asker() -> (Reactor, HandlerKey<Asker>, Answers) {
    let mut reactor = Reactor::new().unwrap();
    let answers = Answers::default();
    let key = reactor.register(Asker(answers.clone()));
    (reactor, key, answers)
}

#[test]
fn a_server_listens_where_a_name_says() {
    for place in [("localhost", 0), ("127.0.0.1", 0), ("::1", 0)] {
        let mut reactor = Reactor::new().unwrap();
        let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
            conn.write(input);
            conn.close();
            input.len()
        });
        let addr = reactor.listen(place, echo, ListenOptions::default()).unwrap();
        assert!(addr.ip().is_loopback(), "{addr}");
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.write_all(b"who").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        while !client.is_finished() {
            reactor.run_once(Some(Duration::from_millis(5))).unwrap();
        }
        assert_eq!(client.join().unwrap(), "who");
    }
}

#[test]
fn of_several_addresses_the_first_that_will_do_is_bound() {
    let mut reactor = Reactor::new().unwrap();
    let sink = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
    // The first is of no machine: it is kept for documents (RFC 5737).
    let places: Vec<SocketAddr> =
        ["192.0.2.1:0", "127.0.0.1:0"].map(|addr| addr.parse().unwrap()).to_vec();
    let addr = reactor.listen(places.clone(), sink, ListenOptions::default()).unwrap();
    assert_eq!(addr.ip(), places[1].ip());
    let error = reactor.listen(&places[..1], sink, ListenOptions::default()).unwrap_err();
    assert!(error.to_string().contains("192.0.2.1"), "{error}");
}

#[test]
fn datagrams_go_where_a_name_says() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let mut reactor = Reactor::new().unwrap();
    let sink = reactor.register(|_: &mut DatagramSocket<'_>, _: SocketAddr, _: &[u8]| {});
    let to = ("127.0.0.1".to_owned(), port);
    let (id, _) = reactor.connect_udp(to, sink, UdpOptions::default()).unwrap();
    assert!(reactor.context().socket(id).unwrap().send(b"hello").is_accepted());
    let mut bytes = [0; 16];
    assert_eq!(server.recv(&mut bytes).unwrap(), 5);
    let (_, addr) = reactor.bind_udp("localhost:0", sink, UdpOptions::default()).unwrap();
    assert!(addr.ip().is_loopback() && addr.port() != 0, "{addr}");
    // No callback waits for a name.
    let options = UdpOptions::default();
    let error = reactor.context().connect_udp("localhost:1", sink, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("localhost:1 is a name"), "{error}");
}

#[test]
fn a_handler_gets_the_addresses_of_a_name() {
    let (mut reactor, key, answers) = asker();
    reactor.resolve(("localhost", 80), key, note);
    assert!(answers.borrow().is_empty(), "no callback within a call");
    reactor.run().unwrap();
    let addrs = answers.take().remove(0).unwrap();
    assert!(!addrs.is_empty());
    assert!(addrs.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 80), "{addrs:?}");
}

#[test]
fn what_is_no_name_is_answered_too_and_after_the_call() {
    let addr = SocketAddr::from(([127, 0, 0, 1], 80));
    for (text, expected) in [
        ("127.0.0.1:80", Ok(vec![addr])),
        ("no port", Err(ErrorKind::InvalidInput)),
        ("unix:/tmp/x", Err(ErrorKind::InvalidInput)),
    ] {
        let (mut reactor, key, answers) = asker();
        reactor.resolve(text, key, note);
        assert!(answers.borrow().is_empty(), "no callback within a call");
        reactor.run().unwrap();
        assert_eq!(answers.take(), [expected], "{text}");
    }
}

/// A machine without a name server may get no answer.
#[test]
fn an_unknown_name_is_told_by_its_kind() {
    let (mut reactor, key, answers) = asker();
    reactor.resolve("nobody.invalid:80", key, note);
    reactor.run().unwrap();
    let kind = answers.take().remove(0).unwrap_err();
    assert!([ErrorKind::NotFound, ErrorKind::TimedOut].contains(&kind), "{kind:?}");
    let error = reactor.resolve_now("nobody.invalid:80").unwrap_err();
    assert!(error.to_string().contains("nobody.invalid"), "{error}");
}

#[test]
fn a_reactor_that_has_stopped_answers_nothing() {
    let (mut reactor, key, answers) = asker();
    reactor.resolve(("localhost", 80), key, note);
    drop(reactor);
    assert!(answers.borrow().is_empty());
    assert_eq!(Rc::strong_count(&answers), 1, "the handler is gone");
}
