//! What loopback is too fast for: the packet that would end a state is dropped on its way.

use waterwheel::{ConnectOptions, ListenOptions};

use super::filter::{Filter, TRIAL};
use super::pair::{Pair, Side};
use super::table::{self, TcpState};
use crate::network::alone_or_skipped;
use crate::support::{Client, PATIENCE, Rig, Script};

#[test]
fn syn_sent_until_the_syn_arrives() {
    alone_or_skipped(TRIAL, || {
        let mut rig = Rig::new(Script::new());
        let addr = rig.addr;
        let filter =
            Filter::drop(&format!("tcp dport {} tcp flags & (syn|ack) == syn", addr.port()));
        let id = rig.connect(addr, 1, &ConnectOptions::default().timeout(PATIENCE));
        rig.expect_quiet();
        assert_eq!(table::dialling(addr), Some(TcpState::SynSent));
        assert_eq!(table::arriving(addr), None);
        drop(filter);
        rig.until("both ends are up", |rig| rig.journal.opened().len() == 2);
        assert!(rig.journal.opened().contains(&id));
        assert_eq!(table::dialling(addr), Some(TcpState::Established));
    });
}

#[test]
fn syn_recv_until_the_syn_ack_arrives() {
    alone_or_skipped(TRIAL, || {
        let mut rig = Rig::new(Script::new());
        let addr = rig.addr;
        let rule = format!("tcp sport {} tcp flags & (syn|ack) == (syn|ack)", addr.port());
        let filter = Filter::drop(&rule);
        rig.connect(addr, 1, &ConnectOptions::default().timeout(PATIENCE));
        rig.expect_quiet();
        assert_eq!(table::dialling(addr), Some(TcpState::SynSent));
        assert_eq!(table::arriving(addr), Some(TcpState::SynRecv));
        assert_eq!(table::accept_queue(addr), 0, "it is in the other queue");
        assert!(rig.journal.calls().is_empty(), "nobody is told of it");
        drop(filter);
        rig.until("both ends are up", |rig| rig.journal.opened().len() == 2);
        assert_eq!(table::arriving(addr), Some(TcpState::Established));
    });
}

/// The client thinks that it is connected, and may send; the server knows nothing.
#[test]
fn syn_recv_until_the_last_ack_of_the_handshake_arrives() {
    alone_or_skipped(TRIAL, || {
        let mut rig = Rig::new(Script::echo());
        let addr = rig.addr;
        let filter =
            Filter::drop(&format!("tcp dport {} tcp flags & (syn|ack) == ack", addr.port()));
        let mut client = Client::connect(addr);
        client.send(b"early");
        rig.expect_quiet();
        assert_eq!(table::state(client.addr(), addr), Some(TcpState::Established));
        assert_eq!(table::state(addr, client.addr()), Some(TcpState::SynRecv));
        assert!(rig.journal.calls().is_empty(), "nobody is told of it");
        drop(filter);
        rig.expect(&mut client, b"early");
        assert_eq!(table::state(addr, client.addr()), Some(TcpState::Established));
    });
}

#[test]
fn fin_wait_1_until_the_fin_is_acknowledged() {
    alone_or_skipped(TRIAL, || Side::BOTH.into_iter().for_each(hold_fin_wait_1));
}

fn hold_fin_wait_1(side: Side) {
    let mut pair = Pair::new(side);
    let filter = Filter::drop_fins(pair.ours, pair.theirs);
    pair.act(|conn| conn.close());
    pair.rig.expect_quiet();
    pair.expect(Some(TcpState::FinWait1), Some(TcpState::Established));
    drop(filter);
    pair.expect(Some(TcpState::FinWait2), Some(TcpState::CloseWait));
    drop(pair.peer.take());
    pair.expect(Some(TcpState::TimeWait), None);
    pair.rig.expect_end(pair.id, "Local");
}

#[test]
fn closing_until_the_fin_is_acknowledged() {
    alone_or_skipped(TRIAL, || Side::BOTH.into_iter().for_each(hold_closing));
}

fn hold_closing(side: Side) {
    let mut pair = Pair::new(side);
    let filter = Filter::drop_fins(pair.ours, pair.theirs);
    pair.act(|conn| conn.close());
    pair.rig.expect_quiet();
    pair.expect(Some(TcpState::FinWait1), Some(TcpState::Established));
    pair.peer().finish();
    pair.expect(Some(TcpState::Closing), Some(TcpState::FinWait2));
    drop(filter);
    pair.expect(Some(TcpState::TimeWait), Some(TcpState::TimeWait));
    pair.rig.expect_end(pair.id, "Local");
}

#[test]
fn last_ack_until_the_fin_is_acknowledged() {
    alone_or_skipped(TRIAL, || Side::BOTH.into_iter().for_each(hold_last_ack));
}

fn hold_last_ack(side: Side) {
    let mut pair = Pair::new(side);
    pair.finish();
    pair.expect(Some(TcpState::CloseWait), Some(TcpState::FinWait2));
    let filter = Filter::drop_fins(pair.ours, pair.theirs);
    pair.act(|conn| conn.close());
    pair.rig.expect_quiet();
    pair.expect(Some(TcpState::LastAck), Some(TcpState::FinWait2));
    drop(filter);
    pair.expect(None, Some(TcpState::TimeWait));
    pair.rig.expect_end(pair.id, "Peer");
}

/// Handshakes under way have the same limit as connections that wait, and one more is let in, too.
/// Beyond it the kernel keeps nothing of a client, and still answers: with a cookie.
#[test]
fn a_syn_queue_holds_one_more_than_the_backlog_and_then_cookies_are_sent() {
    const BACKLOG: u32 = 3;
    const CLIENTS: u32 = 9;
    alone_or_skipped(TRIAL, || {
        let listen = ListenOptions::default().backlog(Some(BACKLOG));
        let mut rig = Rig::with_listen(Script::echo(), listen);
        let addr = rig.addr;
        let rule = format!("tcp sport {} tcp flags & (syn|ack) == (syn|ack)", addr.port());
        let filter = Filter::drop(&rule);
        for _ in 0..CLIENTS {
            rig.connect(addr, 1, &ConnectOptions::default().timeout(PATIENCE));
        }
        rig.expect_quiet();
        assert_eq!(table::arriving_in(addr, TcpState::SynRecv), BACKLOG as usize + 1);
        assert_eq!(table::accept_queue(addr), 0);
        let others = u64::from(CLIENTS - BACKLOG - 1);
        assert!(table::counter("SyncookiesSent") >= others);
        assert!(table::counter("TCPReqQFullDoCookies") >= others);
        assert_eq!(table::counter("TCPReqQFullDrop"), 0);
        drop(filter);
    });
}
