//! Listeners: what accepted sockets inherit, how addresses are shared, what is logged.

// Much of it is for Linux alone.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

mod support;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use support::{Client, End, Rig, Script};
use waterwheel::{Keepalive, ListenOptions, Reactor, TcpOptions};

/// Every option away from the system's default and from the library's.
fn unusual_options() -> TcpOptions {
    let keepalive = Keepalive::default()
        .idle(Duration::from_secs(77))
        .interval(Duration::from_secs(11))
        .probes(7);
    TcpOptions::default()
        .nodelay(true)
        .keepalive(Some(keepalive))
        .user_timeout(Some(Duration::from_millis(12_345)))
        .send_buffer_bytes(Some(30_000))
        .receive_buffer_bytes(Some(20_000))
        .linger(Some(Duration::from_secs(3)))
}

/// A server's side of a connection, looked at from outside the library.
#[cfg(target_os = "linux")]
mod accepted {
    use super::*;
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    /// The socket of this process that is connected to `client`; `None` if the system does not
    /// let a process look at itself.
    pub(super) fn socket_of(client: &Client) -> Option<TcpStream> {
        let process = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
        let wanted = client.addr();
        for entry in std::fs::read_dir("/proc/self/fd").ok()? {
            let number = entry.ok()?.file_name().into_string().ok()?.parse().ok()?;
            match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
                Ok(file) => {
                    let stream = TcpStream::from(file);
                    if stream.peer_addr().is_ok_and(|peer| peer == wanted) {
                        return Some(stream);
                    }
                }
                Err(rustix::io::Errno::BADF) => {} // closed meanwhile by another test
                Err(_) => return None,
            }
        }
        panic!("no socket is connected to {wanted}");
    }

    #[track_caller]
    pub(super) fn expect_unusual_options(socket: &TcpStream) {
        let socket = SockRef::from(socket);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        let seconds = Duration::from_secs;
        assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(77));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(11));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 7);
        let timeout = socket.tcp_user_timeout().unwrap();
        assert_eq!(timeout, Some(Duration::from_millis(12_345)));
        // Linux doubles what is asked for, to account for its bookkeeping.
        assert_eq!(socket.send_buffer_size().unwrap(), 60_000);
        assert_eq!(socket.recv_buffer_size().unwrap(), 40_000);
        assert_eq!(socket.linger().unwrap(), Some(seconds(3)));
    }

    #[test]
    fn an_accepted_socket_has_every_option_of_its_listener() {
        let options = ListenOptions::default().tcp(unusual_options());
        let mut rig = Rig::with_listen(Script::new(), options);
        let (client, _) = rig.client();
        if let Some(socket) = socket_of(&client) {
            expect_unusual_options(&socket);
        }
    }

    #[test]
    fn by_default_an_accepted_socket_sends_at_once_and_probes_a_silent_peer() {
        let mut rig = Rig::new(Script::new());
        let (client, _) = rig.client();
        if let Some(socket) = socket_of(&client) {
            let socket = SockRef::from(&socket);
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), 60);
            assert_eq!(socket.tcp_keepalive_interval().unwrap().as_secs(), 15);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
            assert_eq!(socket.linger().unwrap(), None);
        }
    }

    #[test]
    fn options_that_are_off_stay_off() {
        let tcp = TcpOptions::default().nodelay(false).keepalive(None);
        let mut rig = Rig::with_listen(Script::new(), ListenOptions::default().tcp(tcp));
        let (client, _) = rig.client();
        if let Some(socket) = socket_of(&client) {
            let socket = SockRef::from(&socket);
            assert!(!socket.tcp_nodelay().unwrap());
            assert!(!socket.keepalive().unwrap());
        }
    }

    /// The listener is shared with the test, which accepts from it like the reactor would.
    #[test]
    fn an_adopted_listener_hands_its_new_options_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reactor = Reactor::new().unwrap();
        let service = reactor.register(Script::new());
        let options = ListenOptions::default().tcp(unusual_options());
        let shared = listener.try_clone().unwrap();
        let addr = reactor.adopt(shared, service, options).unwrap();
        let client = Client::connect(addr);
        let (socket, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.addr());
        expect_unusual_options(&socket);
    }
}

#[test]
fn an_adopted_listener_is_served_at_its_own_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap();
    // It came before the reactor did, and must not be missed.
    let mut early = Client::connect(own);
    early.send(b"early");
    let mut rig = Rig::new(Script::echo());
    let addr = rig.reactor.adopt(listener, rig.service, ListenOptions::default());
    assert_eq!(addr.unwrap(), own);
    rig.expect(&mut early, b"early");
    let mut late = Client::connect(own);
    late.send(b"late");
    rig.expect(&mut late, b"late");
}

#[test]
fn port_0_gives_the_real_port() {
    let mut rig = Rig::new(Script::echo());
    assert_ne!(rig.addr.port(), 0);
    let (mut client, _) = rig.client();
    assert_eq!(client.stream.peer_addr().unwrap(), rig.addr);
    client.send(b"there");
    rig.expect(&mut client, b"there");
}

#[test]
fn peers_are_told_by_both_addresses() {
    let (send, asked) = std::sync::mpsc::channel();
    let mut rig = Rig::new(Script::new().accept(move |peer| {
        send.send(*peer).unwrap();
        true
    }));
    let (client, _) = rig.client();
    let peer = asked.recv().unwrap();
    assert_eq!(peer.addr, client.addr());
    assert_eq!(peer.listener, rig.addr);
}

/// The server closes first, so that its side of the connection lingers in TIME_WAIT.
#[cfg(target_os = "linux")]
#[test]
fn an_address_can_be_bound_again_while_old_connections_linger() {
    let mut rig = Rig::new(Script::new().open(|conn| conn.close()));
    let addr = rig.addr;
    let mut client = Client::connect(addr);
    assert_eq!(rig.read_to_end(&mut client).1, End::Fin);
    client.finish();
    rig.until("the end", |rig| rig.journal.closes() == 1);
    drop((rig, client));

    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(Script::new());
    let strict = ListenOptions::default().reuse_address(false);
    let refused = reactor.listen(addr, service, strict).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    let bound = reactor.listen(addr, service, ListenOptions::default());
    assert_eq!(bound.unwrap(), addr);
}

#[cfg(target_os = "linux")]
#[test]
fn two_reactors_share_a_port_and_its_connections() {
    let options = ListenOptions::default().reuse_port(true);
    let mut first = Rig::with_listen(Script::echo(), options.clone());
    let mut second = Reactor::new().unwrap();
    let service = second.register(Script::echo());
    let addr = second.listen(first.addr, service, options).unwrap();
    assert_eq!(addr, first.addr);
    // The kernel chooses by a hash: that 64 connections all go one way has odds of 2 in 2^64.
    let clients: Vec<_> = (0..64).map(|_| Client::connect(addr)).collect();
    first.until("all are accepted", |first| {
        second.run_once(Some(Duration::ZERO)).unwrap();
        first.reactor.stats().accepted + second.stats().accepted == 64
    });
    assert!(first.reactor.stats().accepted > 0, "all went to the second");
    assert!(second.stats().accepted > 0, "all went to the first");
    drop(clients);
}

#[test]
fn without_reuse_port_an_address_is_had_once() {
    let rig = Rig::new(Script::new());
    let mut other = Reactor::new().unwrap();
    let service = other.register(Script::new());
    let options = ListenOptions::default().reuse_port(cfg!(unix));
    let error = other.listen(rig.addr, service, options).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&rig.addr.to_string()), "{error}");
}

/// Whether this machine has an IPv6 loopback.
fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[test]
fn an_ipv6_listener_takes_ipv4_or_leaves_it_as_the_option_says() {
    if !has_ipv6() {
        return;
    }
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    for only_v6 in [false, true] {
        let mut reactor = Reactor::new().unwrap();
        let service = reactor.register(Script::new());
        let options = ListenOptions::default().only_v6(Some(only_v6));
        let port = reactor.listen(any, service, options).unwrap().port();
        let over_v6 = TcpStream::connect((Ipv6Addr::LOCALHOST, port));
        assert!(over_v6.is_ok(), "{over_v6:?}");
        let over_v4 = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        assert_eq!(over_v4.is_err(), only_v6, "{over_v4:?}");
    }
}

#[test]
fn an_ipv4_listener_does_not_mind_the_option_of_ipv6() {
    let options = ListenOptions::default().only_v6(Some(true));
    let mut rig = Rig::with_listen(Script::echo(), options);
    let (mut client, _) = rig.client();
    client.send(b"x");
    rig.expect(&mut client, b"x");
}

/// Keeps what is logged.
struct Capture(Mutex<Vec<String>>);

static CAPTURE: Capture = Capture(Mutex::new(Vec::new()));

impl Capture {
    fn lines_with(&self, text: &str) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| line.contains(text)).cloned().collect()
    }
}

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(format!("{} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

#[cfg(target_os = "linux")]
#[test]
fn a_backlog_that_the_system_caps_is_logged_with_both_numbers() {
    log::set_logger(&CAPTURE).expect("no other test of this file installs a logger");
    log::set_max_level(log::LevelFilter::Warn);
    let cap = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let cap: u32 = cap.trim().parse().unwrap();
    let backlog = |backlog| ListenOptions::default().backlog(Some(backlog));
    let over = Rig::with_listen(Script::new(), backlog(cap + 7));
    let lines = CAPTURE.lines_with(&over.addr.ip().to_string());
    let wanted = |line: &String| {
        line.starts_with("WARN")
            && line.contains(&(cap + 7).to_string())
            && line.contains(&format!(" {cap} "))
    };
    assert!(lines.iter().any(wanted), "{lines:?}");
    // Neither the cap itself nor the default, which is "as many as the system takes", is news.
    let before = CAPTURE.lines_with("backlog").len();
    let _within = Rig::with_listen(Script::new(), backlog(cap));
    let _default = Rig::new(Script::new());
    let lines = CAPTURE.lines_with("backlog");
    assert_eq!(lines.len(), before, "{lines:?}");
}

/// With a backlog of one the kernel queues two; the server still gets to everybody.
#[test]
fn a_small_backlog_still_serves_everybody_in_turn() {
    let options = ListenOptions::default().backlog(Some(1));
    let mut rig = Rig::with_listen(Script::echo(), options);
    for round in 0..20u8 {
        let (mut client, _) = rig.client();
        client.send(&[round]);
        rig.expect(&mut client, &[round]);
    }
    assert_eq!(rig.reactor.stats().accepted, 20);
}

#[test]
fn an_accept_budget_spreads_a_burst_over_turns() {
    let options = ListenOptions::default().accept_budget(4);
    let mut rig = Rig::with_listen(Script::new(), options);
    let clients: Vec<_> = (0..40).map(|_| Client::connect(rig.addr)).collect();
    let mut before = 0;
    rig.until("all are accepted", |rig| {
        let accepted = rig.reactor.stats().accepted;
        // An event gives one budget and the ready queue one more.
        assert!(accepted - before <= 8, "{} in one turn", accepted - before);
        before = accepted;
        accepted == 40
    });
    drop(clients);
}
