//! Listeners: what accepted sockets inherit, how addresses are shared, what is logged.

// Much of it is for Linux alone.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

mod first_read;
mod listener_handover;
#[cfg(feature = "proxy-protocol")]
mod proxy_protocol;
mod refusal;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use log::Level;
use waterwheel::{Limits, ListenOptions, Reactor};

use crate::support::{Client, End, Rig, Script, keep_log, logged};

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

#[cfg(target_os = "linux")]
#[test]
fn a_backlog_that_the_system_caps_is_logged_with_both_numbers() {
    keep_log();
    let cap = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let cap: u32 = cap.trim().parse().unwrap();
    let backlog = |backlog| ListenOptions::default().backlog(Some(backlog));
    let over = Rig::with_listen(Script::new(), backlog(cap + 7));
    let wanted = [over.addr.ip().to_string(), (cap + 7).to_string(), format!(" {cap} ")];
    let told = logged(Level::Warn);
    let [line] = &told[..] else { panic!("{told:?}") };
    assert!(wanted.iter().all(|part| line.contains(part)), "{line}");
    // Neither the cap itself nor the default, which is "as many as the system takes", is news.
    let _within = Rig::with_listen(Script::new(), backlog(cap));
    let _default = Rig::new(Script::new());
    assert_eq!(logged(Level::Warn), told);
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

#[test]
fn a_listener_that_strangers_reach_and_that_has_no_limit_of_silence_warns_once() {
    keep_log();
    let mut rig = Rig::new(Script::echo());
    let idle = Limits::default().all_idle(Some(Duration::from_secs(60)));
    let read_idle = Limits::default().read_idle(Some(Duration::from_secs(60)));
    for limits in [Limits::internet(), idle, read_idle] {
        rig.reactor
            .listen("0.0.0.0:0", rig.service, ListenOptions::default().limits(limits))
            .unwrap();
    }
    assert_eq!(logged(Level::Warn), [""; 0], "loopback, or with a limit");

    let addr = rig.reactor.listen("0.0.0.0:0", rig.service, ListenOptions::default()).unwrap();
    let text = |addr: SocketAddr, missing: &str| {
        format!(
            "{addr}: a peer can hold a connection for ever by saying nothing, as these limits are \
             not set: {missing}; use Limits::internet(), or set them"
        )
    };
    let all = "all_idle or read_idle, first_byte_timeout, min_receive_rate or message_timeout, \
               min_send_rate";
    let first = text(addr, all);
    assert_eq!(logged(Level::Warn), std::slice::from_ref(&first));

    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut limits = Limits::internet();
    limits.all_idle = None;
    let options = ListenOptions::default().limits(limits);
    rig.reactor.adopt(listener, rig.service, options).unwrap();
    assert_eq!(logged(Level::Warn), [first, text(addr, "all_idle or read_idle")]);
}
