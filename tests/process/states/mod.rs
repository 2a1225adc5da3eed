//! The states of TCP (RFC 9293, 3.3.2): a connection of ours goes through each of them, and the
//! kernel's table shows it there. What loopback is too fast for is in `states/filtered.rs`.

mod ending;
mod filter;
mod filtered;
mod info;
mod pair;
mod table;

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};
use waterwheel::{ConnectOptions, ListenOptions, Reactor};

use crate::network::alone;
use pair::{Pair, Side};
use table::TcpState;

use crate::support::{Client, PATIENCE, Rig, Script};

#[test]
fn a_listener_is_in_listen() {
    alone(|| {
        let rig = Rig::new(Script::new());
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        assert_eq!(table::state(rig.addr, nobody), Some(TcpState::Listen));
    });
}

#[test]
fn both_ends_of_a_connection_are_established() {
    alone(|| {
        for side in Side::BOTH {
            let mut pair = Pair::new(side);
            pair.expect(Some(TcpState::Established), Some(TcpState::Established));
        }
    });
}

/// The active close.
#[test]
fn who_closes_first_is_in_fin_wait_2_and_then_in_time_wait() {
    alone(|| {
        for side in Side::BOTH {
            let mut pair = Pair::new(side);
            pair.act(|conn| conn.close());
            pair.expect(Some(TcpState::FinWait2), Some(TcpState::CloseWait));
            drop(pair.peer.take());
            pair.expect(Some(TcpState::TimeWait), None);
            pair.rig.expect_end(pair.id, "Local");
        }
    });
}

/// The passive close.
#[test]
fn who_closes_last_is_in_close_wait_and_then_gone() {
    alone(|| {
        for side in Side::BOTH {
            let mut pair = Pair::new(side);
            pair.finish();
            pair.expect(Some(TcpState::CloseWait), Some(TcpState::FinWait2));
            // It stays so for as long as the handler likes, and may write.
            pair.rig.expect_quiet();
            pair.act(|conn| assert!(conn.write(b"more").is_accepted()));
            let mut peer = pair.peer.take().unwrap();
            pair.rig.expect(&mut peer, b"more");
            pair.expect(Some(TcpState::CloseWait), Some(TcpState::FinWait2));
            pair.act(|conn| conn.close());
            pair.expect(None, Some(TcpState::TimeWait));
            pair.rig.expect_end(pair.id, "Peer");
        }
    });
}

#[test]
fn a_half_closed_connection_is_in_fin_wait_2_and_still_reads() {
    alone(|| {
        for side in Side::BOTH {
            let mut pair = Pair::new(side);
            pair.act(|conn| conn.shutdown_write());
            pair.expect(Some(TcpState::FinWait2), Some(TcpState::CloseWait));
            pair.peer().send(b"an answer");
            let id = pair.id;
            pair.rig.until("the answer", |rig| rig.journal.data_of(id) == b"an answer");
            pair.expect(Some(TcpState::FinWait2), Some(TcpState::CloseWait));
            pair.peer().finish();
            pair.expect(Some(TcpState::TimeWait), None);
            pair.rig.expect_end(id, "Peer");
        }
    });
}

/// A FIN that waits behind bytes is as good as one that is under way.
#[test]
fn a_close_behind_bytes_that_the_peer_does_not_read_is_in_fin_wait_1() {
    alone(|| {
        for side in Side::BOTH {
            let mut pair = Pair::new(side);
            pair.jam();
            pair.act(|conn| conn.close());
            pair.expect(Some(TcpState::FinWait1), Some(TcpState::Established));
            pair.unjam();
            pair.expect(Some(TcpState::FinWait2), Some(TcpState::CloseWait));
            drop(pair.peer.take());
            pair.expect(Some(TcpState::TimeWait), None);
        }
    });
}

#[test]
fn a_last_close_behind_bytes_that_the_peer_does_not_read_is_in_last_ack() {
    alone(|| {
        for side in Side::BOTH {
            let mut pair = Pair::new(side);
            pair.jam();
            pair.finish();
            pair.expect(Some(TcpState::CloseWait), Some(TcpState::FinWait2));
            pair.act(|conn| conn.close());
            pair.expect(Some(TcpState::LastAck), Some(TcpState::FinWait2));
            // The kernel sees it through; the connection is none of ours any more.
            pair.rig.expect_end(pair.id, "Peer");
            pair.unjam();
            pair.expect(None, Some(TcpState::TimeWait));
        }
    });
}

#[test]
fn two_ends_that_close_at_once_are_in_closing_and_then_in_time_wait() {
    alone(|| {
        for side in Side::BOTH {
            let mut pair = Pair::new(side);
            pair.jam();
            pair.act(|conn| conn.close());
            pair.expect(Some(TcpState::FinWait1), Some(TcpState::Established));
            pair.peer().finish();
            pair.expect(Some(TcpState::Closing), Some(TcpState::FinWait2));
            pair.rig.expect_end(pair.id, "Local");
            pair.unjam();
            pair.expect(Some(TcpState::TimeWait), Some(TcpState::TimeWait));
        }
    });
}

/// An abort knows none of the states of a close.
#[test]
fn an_aborted_connection_is_gone_at_both_ends() {
    alone(|| {
        for side in Side::BOTH {
            let mut pair = Pair::new(side);
            pair.act(|conn| conn.abort());
            pair.expect(None, None);
            pair.rig.expect_end(pair.id, "Local");
        }
    });
}

/// Nobody accepts, and the queue is full: the kernel does not answer the SYN.
#[test]
fn a_connect_to_a_full_accept_queue_is_in_syn_sent_until_there_is_room() {
    alone(|| {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap().as_socket().unwrap();
        let first = Client::connect(addr);
        let mut rig = Rig::new(Script::new());
        let id = rig.connect(addr, 1, &ConnectOptions::default().timeout(PATIENCE));
        let ours = rig.reactor.context().conn(id).unwrap().local_addr().unwrap();
        rig.expect_quiet();
        assert_eq!(table::state(ours, addr), Some(TcpState::SynSent));
        assert!(rig.journal.opened().is_empty());

        drop(listener.accept().unwrap());
        rig.until("the SYN is sent again", |rig| !rig.journal.opened().is_empty());
        assert_eq!(table::state(ours, addr), Some(TcpState::Established));
        drop(first);
    });
}

/// The reactor does not turn, so that nothing is accepted.
#[test]
fn an_accept_queue_holds_one_more_than_the_backlog_and_counts_what_it_drops() {
    alone(|| {
        const BACKLOG: u32 = 3;
        let mut rig =
            Rig::with_listen(Script::new(), ListenOptions::default().backlog(Some(BACKLOG)));
        let clients: Vec<_> = (0..=BACKLOG).map(|_| Client::connect(rig.addr)).collect();
        assert_eq!(table::accept_queue(rig.addr), BACKLOG + 1);
        for client in &clients {
            let state = table::state(rig.addr, client.addr());
            assert_eq!(state, Some(TcpState::Established), "before it is accepted");
        }
        let before = ["ListenOverflows", "ListenDrops"].map(table::counter);
        let late = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        late.set_nonblocking(true).unwrap();
        late.connect(&rig.addr.into()).expect_err("it waits");
        let late_addr = late.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(table::state(late_addr, rig.addr), Some(TcpState::SynSent));
        let after = ["ListenOverflows", "ListenDrops"].map(table::counter);
        assert!(after[0] > before[0] && after[1] > before[1], "{before:?}, {after:?}");

        rig.until("all are accepted", |rig| rig.journal.opened().len() == clients.len());
        assert_eq!(table::accept_queue(rig.addr), 0);
        rig.until("the late one, too", |rig| rig.journal.opened().len() == clients.len() + 1);
    });
}

/// Its port stays taken by a connection that nobody holds.
#[test]
fn time_wait_outlives_the_reactor() {
    alone(|| {
        let mut pair = Pair::new(Side::Accepted);
        let Pair { ours, theirs, id, .. } = pair;
        pair.act(|conn| conn.close());
        pair.expect(Some(TcpState::FinWait2), Some(TcpState::CloseWait));
        drop(pair.peer.take());
        pair.rig.expect_end(id, "Local");
        drop(pair);
        assert_eq!(table::state(ours, theirs), Some(TcpState::TimeWait));

        let mut reactor = Reactor::new().unwrap();
        let service = reactor.register(Script::new());
        let strict = ListenOptions::default().reuse_address(false);
        let error = reactor.listen(ours, service, strict).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}");
        reactor.listen(ours, service, ListenOptions::default()).unwrap();
        assert_eq!(table::state(ours, theirs), Some(TcpState::TimeWait), "beside the listener");
    });
}
