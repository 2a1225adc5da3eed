//! What a connection of ours says of itself (`Conn::tcp_info`), held against the kernel's table.

use std::net::{SocketAddr, TcpListener};

use waterwheel::tcp::{TcpInfo, TcpState};
use waterwheel::unix::UnixListenOptions;
use waterwheel::{ConnectOptions, ListenOptions};

use super::filter::{Filter, TRIAL};
use super::pair::{Pair, Side};
use super::table::TcpState as Row;
use crate::network::{alone, alone_or_skipped};
use crate::support::{Client, PATIENCE, Rig, Script};

impl Pair {
    #[track_caller]
    fn info(&mut self) -> TcpInfo {
        let mut cx = self.rig.reactor.context();
        cx.conn(self.id).expect("it is still open").tcp_info().expect("the kernel tells")
    }
}

#[test]
fn it_says_the_state_that_the_table_has() {
    alone(|| {
        for side in Side::BOTH {
            let mut pair = Pair::new(side);
            assert_eq!(pair.info().state, TcpState::Established);
            pair.finish();
            assert_eq!(pair.info().state, TcpState::CloseWait);

            let mut pair = Pair::new(side);
            pair.act(|conn| conn.shutdown_write());
            pair.expect(Some(Row::FinWait2), Some(Row::CloseWait));
            assert_eq!(pair.info().state, TcpState::FinWait2);

            let mut pair = Pair::new(side);
            pair.jam();
            pair.act(|conn| conn.shutdown_write());
            pair.expect(Some(Row::FinWait1), Some(Row::Established));
            assert_eq!(pair.info().state, TcpState::FinWait1);
        }
    });
}

#[test]
fn it_says_how_long_a_round_trip_takes_and_that_nothing_is_sent_again() {
    alone(|| {
        for side in Side::BOTH {
            let mut pair = Pair::new(side);
            pair.act(|conn| assert!(conn.write(b"there").is_accepted()));
            let mut peer = pair.peer.take().unwrap();
            pair.rig.expect(&mut peer, b"there");
            let info = pair.info();
            assert!(!info.round_trip_time.is_zero(), "{info:?}");
            assert!(info.retransmission_timeout > info.round_trip_time, "{info:?}");
            assert_eq!((info.retransmitted_segments, info.timeouts_in_a_row), (0, 0), "{info:?}");
            assert_eq!((info.unacknowledged_segments, info.lost_segments), (0, 0), "{info:?}");
            assert!(
                info.congestion_window_segments > 0 && info.max_segment_bytes >= 536,
                "{info:?}"
            );
        }
    });
}

#[test]
fn it_counts_what_is_lost_and_sent_again() {
    alone_or_skipped(TRIAL, || {
        for side in Side::BOTH {
            let mut pair = Pair::new(side);
            let (from, to) = (pair.ours.port(), pair.theirs.port());
            let filter = Filter::drop(&format!("tcp sport {from} tcp dport {to}"));
            pair.act(|conn| assert!(conn.write(b"again").is_accepted()));
            pair.rig.turn();
            assert_eq!(pair.info().unacknowledged_segments, 1);
            pair.rig.until("it is sent again", |rig| {
                let mut cx = rig.reactor.context();
                let info = cx.conn(pair.id).unwrap().tcp_info().unwrap();
                info.retransmitted_segments > 1 && info.timeouts_in_a_row > 0
            });
            drop(filter);
            let mut peer = pair.peer.take().unwrap();
            pair.rig.expect(&mut peer, b"again");
            let info = pair.info();
            assert_eq!((info.unacknowledged_segments, info.timeouts_in_a_row), (0, 0), "{info:?}");
        }
    });
}

#[test]
fn it_says_that_a_connection_is_not_up_yet() {
    alone_or_skipped(TRIAL, || {
        let mut rig = Rig::new(Script::new());
        let addr = rig.addr;
        let rule = format!("tcp dport {} tcp flags & (syn|ack) == syn", addr.port());
        let _filter = Filter::drop(&rule);
        let id = rig.connect(addr, 1, &ConnectOptions::default().timeout(PATIENCE));
        let info = rig.reactor.context().conn(id).unwrap().tcp_info().unwrap();
        assert_eq!(info.state, TcpState::SynSent);
        // The socket of a name that is looked up is not begun.
        let id = rig.connect("localhost:1", 1, &ConnectOptions::default().timeout(PATIENCE));
        let error = rig.reactor.context().conn(id).unwrap().tcp_info().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotConnected, "{error}");
    });
}

/// Version 6, and version 4 on a socket of version 6.
#[test]
fn it_knows_both_versions_of_ip() {
    alone(|| {
        if TcpListener::bind("[::1]:0").is_err() {
            println!("skipped: there is no IPv6 here");
            return;
        }
        let mut rig = Rig::new(Script::new());
        let options = ListenOptions::default().only_v6(Some(false));
        let addr = rig.reactor.listen("[::]:0", rig.service, options).unwrap();
        for (count, ip) in (1..).zip(["127.0.0.1", "::1"]) {
            let to = SocketAddr::new(ip.parse().unwrap(), addr.port());
            let client = Client::connect(to);
            rig.until("accepted", |rig| rig.journal.opened().len() == count);
            let id = rig.journal.last();
            let info = rig.reactor.context().conn(id).unwrap().tcp_info().unwrap();
            assert_eq!(info.state, TcpState::Established, "{to}");
            drop(client);
        }
    });
}

/// Another connection may have the same addresses by then: it is not that which is told of.
#[test]
fn it_says_nothing_of_a_connection_that_has_ended() {
    alone(|| {
        let mut pair = Pair::new(Side::Accepted);
        pair.peer.take().unwrap().reset();
        // The reset has arrived, and has not been read.
        let mut cx = pair.rig.reactor.context();
        let conn = cx.conn(pair.id).expect("nobody has told it");
        assert_eq!(conn.tcp_info().unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    });
}

#[test]
fn it_may_be_asked_within_a_callback_also_after_the_close() {
    alone(|| {
        let mut rig = Rig::new(Script::new().data(|conn, input| {
            assert_eq!(conn.tcp_info().unwrap().state, TcpState::Established);
            conn.abort();
            assert_eq!(conn.tcp_info().unwrap().state, TcpState::Established);
            input.len()
        }));
        let (mut client, id) = rig.client();
        client.send(b"x");
        rig.expect_end(id, "Local");
    });
}

#[test]
fn a_unix_socket_has_none_and_says_so() {
    let mut rig = Rig::new(Script::new().open(|conn| {
        let error = conn.tcp_info().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported, "{error}");
        conn.close();
    }));
    let folder = std::env::temp_dir();
    let path = folder.join(format!("waterwheel-states-{}.sock", std::process::id()));
    rig.reactor.listen_unix(&path, rig.service, UnixListenOptions::default()).unwrap();
    let peer = std::os::unix::net::UnixStream::connect(&path).unwrap();
    rig.until("accepted", |rig| !rig.journal.opened().is_empty());
    drop(peer);
    rig.expect_end(rig.journal.last(), "Local");
}

/// The address that a proxy tells of is not that of the socket.
#[cfg(feature = "proxy-protocol")]
#[test]
fn it_knows_a_connection_that_a_proxy_has_handed_on() {
    use waterwheel::proxy_protocol::ProxyProtocol;
    alone(|| {
        let trusted = ProxyProtocol::from_trusted(["127.0.0.1"]).unwrap();
        let options = ListenOptions::default().proxy_protocol(Some(trusted));
        let mut rig = Rig::with_listen(Script::new(), options);
        let mut client = Client::connect(rig.addr);
        client.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n");
        rig.until("accepted", |rig| !rig.journal.opened().is_empty());
        let id = rig.journal.last();
        let mut cx = rig.reactor.context();
        let conn = cx.conn(id).unwrap();
        assert_eq!(conn.peer_addr().to_string(), "192.0.2.7:4711");
        assert_eq!(conn.tcp_info().unwrap().state, TcpState::Established);
    });
}
