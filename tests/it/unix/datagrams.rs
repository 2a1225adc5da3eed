//! Datagrams over Unix sockets: what is received, what becomes of what is sent, and that nobody
//! holds up anybody.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::udp::SendStatus;
use waterwheel::unix::{UnixAddr, UnixDatagramOptions, UnixDatagramSocket};
use waterwheel::{Conn, ListenOptions, OnPanic, Reactor, ReactorOptions};

use super::Folder;
use super::post::{Post, Told, client_at};
use crate::support::Client;

fn options() -> UnixDatagramOptions {
    UnixDatagramOptions::default()
}

#[test]
fn a_datagram_comes_back_by_path() {
    let folder = Folder::new();
    let (server, client) = (folder.path("server"), folder.path("client"));
    let mut post = Post::echo();
    let id = post.bind(&server);
    let client_socket = client_at(&client);
    for bytes in [&b"hello"[..], b"", b"again"] {
        client_socket.send_to(bytes, &server).unwrap();
        assert_eq!(post.answer(&client_socket), bytes);
    }
    let from = Some(UnixAddr::path(&client));
    assert_eq!(
        post.datagrams(),
        [&b"hello"[..], b"", b"again"].map(|bytes| (from.clone(), bytes.to_vec(), false))
    );
    assert_eq!(post.with(id, |socket| socket.local_addr()), Some(UnixAddr::path(&server)));
    assert_eq!(post.with(id, |socket| socket.peer_addr()), None);
    assert!(post.reactor.context().socket(id).is_none(), "it is no UDP socket");
    let stats = post.stats();
    assert_eq!((stats.datagrams_received, stats.datagrams_sent), (3, 3));
    assert_eq!((stats.datagram_bytes_received, stats.datagram_bytes_sent), (10, 10));
    assert_eq!(post.count(&Told::BatchEnd), 3);
}

#[cfg(target_os = "linux")]
#[test]
fn a_datagram_comes_back_by_abstract_name() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let name = format!("ww-dgram-{}", std::process::id());
    let mut post = Post::echo();
    post.bind(format!("@{name}"));
    let of = |name: &str| SocketAddr::from_abstract_name(name).unwrap();
    let client = UnixDatagram::bind_addr(&of(&format!("{name}-client"))).unwrap();
    client.set_nonblocking(true).unwrap();
    client.send_to_addr(b"hello", &of(&name)).unwrap();
    assert_eq!(post.answer(&client), b"hello");
    let (from, ..) = post.datagrams().remove(0);
    assert_eq!(from, Some(UnixAddr::from(format!("@{name}-client"))));
    let error = Post::refusal_of(&UnixAddr::from(format!("@{name}")));
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
    drop(post);
    assert!(client.send_to_addr(b"hello", &of(&name)).is_err());
}

#[test]
fn senders_are_told_apart_with_and_without_a_name() {
    let folder = Folder::new();
    let server = folder.path("server");
    let mut post = Post::quiet();
    post.bind(&server);
    let nameless = UnixDatagram::unbound().unwrap();
    let clients = ["a", "b"].map(|name| client_at(&folder.path(name)));
    let mut expected = Vec::new();
    // Runs of one, and changes of each kind.
    for who in [0, 0, 2, 2, 1, 0, 1, 2, 1] {
        let bytes = [who as u8];
        match clients.get(who) {
            Some(client) => client.send_to(&bytes, &server).unwrap(),
            None => nameless.send_to(&bytes, &server).unwrap(),
        };
        let name = ["a", "b"].get(who).map(|name| UnixAddr::path(folder.path(name)));
        expected.push((name, bytes.to_vec(), false));
    }
    post.expect_datagrams(expected.len());
    assert_eq!(post.datagrams(), expected);
}

#[test]
fn a_longer_one_is_cut_and_told() {
    let folder = Folder::new();
    let server = folder.path("server");
    let mut post = Post::quiet();
    post.bind_with(&server, options().max_datagram_bytes(4));
    let client = UnixDatagram::unbound().unwrap();
    for bytes in [&b"four"[..], b"five!", b""] {
        client.send_to(bytes, &server).unwrap();
    }
    post.expect_datagrams(3);
    let expected = [(&b"four"[..], false), (b"five", true), (b"", false)];
    assert_eq!(post.datagrams(), expected.map(|(bytes, is_cut)| (None, bytes.to_vec(), is_cut)));
    assert_eq!(post.stats().datagrams_truncated, 1);
}

#[test]
fn one_that_exceeds_the_send_buffer_is_too_long() {
    let folder = Folder::new();
    let (server, client) = (folder.path("server"), folder.path("client"));
    let mut post = Post::quiet();
    post.bind(&server);
    let id = post.bind_with(&client, options().send_buffer_bytes(Some(10_000)));
    let connected = post.connect(&server, options().send_buffer_bytes(Some(10_000)));
    let (server, long) = (UnixAddr::path(server), vec![0; 100_000]);
    assert_eq!(post.with(id, |socket| socket.send_to(&server, &long)), SendStatus::TooLong);
    assert_eq!(post.with(connected, |socket| socket.send(&long)), SendStatus::TooLong);
    assert_eq!(post.with(id, |socket| socket.send_to(&server, b"short")), SendStatus::Sent);
    assert_eq!(post.expect_datagrams(1), [b"short"]);
}

#[test]
fn a_receiver_that_is_gone_fails_and_the_socket_lives() {
    let folder = Folder::new();
    let mut post = Post::echo();
    let server = folder.path("server");
    let id = post.bind(&server);
    drop(UnixDatagram::bind(folder.path("dead")).unwrap());
    let send = |post: &mut Post, name: &str| {
        let to = UnixAddr::path(folder.path(name));
        post.with(id, |socket| socket.send_to(&to, b"hello"))
    };
    assert_eq!(send(&mut post, "dead"), SendStatus::Failed(ErrorKind::ConnectionRefused));
    assert_eq!(send(&mut post, "nobody"), SendStatus::Failed(ErrorKind::NotFound));
    let bad = UnixAddr::from("");
    let status = post.with(id, |socket| socket.send_to(&bad, b"hello"));
    assert_eq!(status, SendStatus::Failed(ErrorKind::InvalidInput));
    let status = post.with(id, |socket| socket.send(b"hello"));
    assert_eq!(status, SendStatus::Closed, "it has no peer");
    let client = client_at(&folder.path("client"));
    client.send_to(b"hello", &server).unwrap();
    assert_eq!(post.answer(&client), b"hello");
}

#[test]
fn connected_sockets_talk_both_ways() {
    let folder = Folder::new();
    let server = folder.path("server");
    let mut post = Post::echo();
    post.bind(&server);
    let mut other = Post::quiet();
    let source = UnixAddr::path(folder.path("client"));
    let id = other.connect(&server, options().source(Some(source.clone())));
    assert_eq!(other.with(id, |socket| socket.send(b"hello")), SendStatus::Sent);
    // By its name it is the same.
    let to = UnixAddr::path(&server);
    assert_eq!(other.with(id, |socket| socket.send_to(&to, b"again")), SendStatus::Sent);
    post.expect_datagrams(2);
    assert_eq!(other.expect_datagrams(2), [b"hello", b"again"]);
    let names = other.with(id, |socket| (socket.local_addr(), socket.peer_addr()));
    assert_eq!(names, (Some(source.clone()), Some(to.clone())));
    assert_eq!(other.datagrams()[0].0, Some(to));
    assert_eq!(post.datagrams()[0].0, Some(source));
    // Nobody else may send to it.
    let stranger = UnixDatagram::unbound().unwrap();
    let error = stranger.send_to(b"me too", folder.path("client")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    drop(other);
    assert!(!folder.path("client").exists());
}

/// A peer that connects elsewhere throws away what it has not read; Linux tells who has sent it.
#[cfg(target_os = "linux")]
#[test]
fn a_peer_that_turns_away_is_told_and_heard_of_again() {
    let folder = Folder::new();
    let (ours, others) = (folder.path("ours"), folder.path("others"));
    let (peer, _other) = (client_at(&folder.path("peer")), client_at(&others));
    let mut post = Post::quiet();
    let source = Some(UnixAddr::path(&ours));
    let id = post.connect(&folder.path("peer"), options().source(source));
    for round in 1..4 {
        peer.connect(&ours).unwrap();
        assert_eq!(post.with(id, |socket| socket.send(b"unread")), SendStatus::Sent);
        peer.connect(&others).unwrap();
        let reset = Told::Error(ErrorKind::ConnectionReset);
        post.until("an error", |post| post.count(&reset) == round);
        peer.send_to(b"hello", &ours).unwrap();
        post.expect_datagrams(round);
        assert_eq!(post.stats().timers_fired, 0, "no event came");
    }
}

#[test]
fn a_connected_socket_without_a_name_sends_and_gets_no_answer() {
    let folder = Folder::new();
    let server = folder.path("server");
    let mut post = Post::echo();
    post.bind(&server);
    let id = post.connect(&server, options());
    assert_eq!(post.with(id, |socket| socket.local_addr()), None);
    assert_eq!(post.with(id, |socket| socket.send(b"hello")), SendStatus::Sent);
    post.expect_datagrams(1);
    assert_eq!(post.datagrams(), [(None, b"hello".to_vec(), false)]);
}

#[cfg(target_os = "linux")]
#[test]
fn the_system_finds_a_name() {
    let folder = Folder::new();
    let server = folder.path("server");
    let mut post = Post::echo();
    post.bind(&server);
    let mut other = Post::quiet();
    let id = other.connect(&server, options().autobind(true));
    let name = other.with(id, |socket| socket.local_addr()).expect("a name");
    assert_eq!(name.as_abstract_name().map(<[u8]>::len), Some(5), "{name}");
    assert_eq!(other.with(id, |socket| socket.send(b"hello")), SendStatus::Sent);
    post.expect_datagrams(1);
    assert_eq!(post.datagrams()[0].0, Some(name));
    assert_eq!(other.expect_datagrams(1), [b"hello"]);
}

#[cfg(target_os = "linux")]
#[test]
fn the_kernel_vouches_for_each_sender() {
    let folder = Folder::new();
    let server = folder.path("server");
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    let mut post = Post::new(move |socket, _, _| log.borrow_mut().push(socket.credentials()));
    post.bind_with(&server, options().credentials(true).max_datagram_bytes(4));
    let client = client_at(&folder.path("client"));
    let nameless = UnixDatagram::unbound().unwrap();
    for socket in [&client, &nameless] {
        socket.send_to(b"hello", &server).unwrap();
    }
    post.expect_datagrams(2);
    let name = Some(UnixAddr::path(folder.path("client")));
    let cut = b"hell".to_vec();
    assert_eq!(post.datagrams(), [(name, cut.clone(), true), (None, cut, true)]);
    for who in seen.borrow().iter() {
        let who = who.expect("Linux tells");
        assert_eq!((who.uid, who.pid), (super::own_uid(), Some(std::process::id())));
    }
    // Not asked, not told.
    let other = folder.path("other");
    post.bind(&other);
    client.send_to(b"hello", &other).unwrap();
    post.expect_datagrams(3);
    assert_eq!(seen.borrow().last(), Some(&None));
}

/// A path may fill the system's room for it, without a zero at its end: nobody can send there.
#[cfg(target_os = "linux")]
#[test]
fn a_sender_with_the_longest_name_of_all_is_received() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, socket};
    let folder = Folder::new();
    for credentials in [false, true] {
        let server = folder.path(if credentials { "a" } else { "b" });
        let mut post = Post::quiet();
        post.bind_with(&server, options().credentials(credentials));
        let fill = "x".repeat(108 - folder.0.as_os_str().len() - 2);
        let name = folder.path(&format!("{}{fill}", u8::from(credentials)));
        let client = socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
        bind(&client, &SocketAddrUnix::new(&name).unwrap()).unwrap();
        UnixDatagram::from(client).send_to(b"hello", &server).unwrap();
        post.expect_datagrams(1);
        assert_eq!(post.datagrams(), [(None, b"hello".to_vec(), false)]);
        assert_eq!(post.stats().panics, 0);
    }
}

/// Descriptors that are sent along are not taken, and harm nothing.
#[cfg(target_os = "linux")]
#[test]
fn descriptors_that_come_along_are_closed() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::os::fd::AsFd;
    let folder = Folder::new();
    for credentials in [false, true] {
        let server = folder.path(if credentials { "a" } else { "b" });
        let mut post = Post::quiet();
        post.bind_with(&server, options().credentials(credentials));
        let client = UnixDatagram::unbound().unwrap();
        client.connect(&server).unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let fds = [theirs.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        let parts = [std::io::IoSlice::new(b"take it")];
        sendmsg(&client, &parts, &mut ancillary, SendFlags::empty()).unwrap();
        drop(theirs);
        post.expect_datagrams(1);
        // The other end is closed: nobody holds it.
        let mut buffer = [0];
        assert_eq!(std::io::Read::read(&mut &ours, &mut buffer).unwrap(), 0);
    }
}

#[test]
fn a_flood_stops_neither_timers_nor_connections() {
    let folder = Folder::new();
    let server = folder.path("server");
    let mut post = Post::quiet();
    let id = post.bind_with(&server, options().receive_budget(2));
    let echo = post.reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
        conn.write(input);
        input.len()
    });
    let addr = post.reactor.listen("127.0.0.1:0", echo, ListenOptions::default()).unwrap();
    let flooder = UnixDatagram::unbound().unwrap();
    flooder.set_nonblocking(true).unwrap();
    let flood = || while flooder.send_to(b"more", &server).is_ok() {};
    let mut client = Client::connect(addr);
    client.send(b"hello");
    let timer = post.with(id, |socket| socket.set_timer(Duration::from_millis(5), 0));
    let mut answer = Vec::new();
    post.until("a timer and an answer", |post| {
        let before = post.stats().datagrams_received;
        flood();
        post.turn();
        assert!(post.stats().datagrams_received <= before + 4, "an event and a ready socket");
        flood();
        if answer.len() < 5 {
            answer.extend(client.try_read(5).unwrap());
        }
        answer == b"hello" && post.count(&Told::Timer(timer)) == 1
    });
    assert!(post.count(&Told::BatchEnd) > 1);
}

#[test]
fn a_panic_costs_one_datagram() {
    let folder = Folder::new();
    let server = folder.path("server");
    let mut post = Post::new(|socket, from, bytes| {
        assert_ne!(bytes, b"bad", "as planned");
        socket.send_to(from.unwrap(), bytes);
    });
    post.bind(&server);
    let client = client_at(&folder.path("client"));
    for bytes in [&b"one"[..], b"bad", b"two"] {
        client.send_to(bytes, &server).unwrap();
    }
    assert_eq!(post.answer(&client), b"one");
    assert_eq!(post.answer(&client), b"two");
    assert_eq!(post.stats().panics, 1);
    drop(post);
    assert!(!server.exists());
}

#[test]
fn a_panic_that_goes_on_removes_the_file() {
    let folder = Folder::new();
    let server = folder.path("server");
    let options = ReactorOptions::default().on_panic(OnPanic::Unwind);
    let mut reactor = Reactor::with_options(options).unwrap();
    let bad = |_: &mut UnixDatagramSocket<'_>, _: Option<&UnixAddr>, _: &[u8]| panic!("planned");
    let service = reactor.register(bad);
    reactor.bind_unix_datagrams(&server, service, UnixDatagramOptions::default()).unwrap();
    UnixDatagram::unbound().unwrap().send_to(b"hello", &server).unwrap();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || reactor.run())).unwrap_err();
    assert!(!server.exists());
}

#[test]
fn callbacks_bind_connect_and_close() {
    let folder = Folder::new();
    let (first, second) = (folder.path("first"), folder.path("second"));
    let bound = Rc::new(Cell::new(None));
    let (seen, path) = (Rc::clone(&bound), second.clone());
    let mut post = Post::quiet();
    let service = post.service;
    let opener = post.reactor.register(
        move |socket: &mut UnixDatagramSocket<'_>, _: Option<&UnixAddr>, _: &[u8]| {
            let mut cx = socket.context();
            let id = cx.bind_unix_datagrams(&path, service, &UnixDatagramOptions::default());
            seen.set(Some(id.unwrap()));
            let options = UnixDatagramOptions::default();
            let id = cx.connect_unix_datagrams(&path, service, &options).unwrap();
            cx.unix_socket(id).unwrap().send(b"hello");
            socket.close();
        },
    );
    post.reactor.bind_unix_datagrams(&first, opener, UnixDatagramOptions::default()).unwrap();
    UnixDatagram::unbound().unwrap().send_to(b"open", &first).unwrap();
    assert_eq!(post.expect_datagrams(1), [b"hello"]);
    assert!(!first.exists());
    let id = bound.get().unwrap();
    post.with(id, |socket| socket.close());
    post.expect_told(&Told::Close(id));
    assert!(!second.exists());
}

#[cfg(feature = "sim")]
#[test]
fn a_simulated_world_has_none() {
    let mut sim = waterwheel::sim::Simulation::new(1, waterwheel::sim::Faults::none());
    sim.host("server", |reactor| {
        let nothing = |_: &mut UnixDatagramSocket<'_>, _: Option<&UnixAddr>, _: &[u8]| {};
        let service = reactor.register(nothing);
        let error = reactor.bind_unix_datagrams("x", service, options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let error = reactor.connect_unix_datagrams("x", service, options()).unwrap_err();
        assert!(error.to_string().contains("simulated world has no Unix sockets"), "{error}");
        Ok(())
    })
    .unwrap();
}
