//! What the documentation says of ends that are not in the picture: of a peer that never closes,
//! and of linger.

use std::time::Duration;

use waterwheel::{Limits, ListenOptions, TcpOptions};

use super::pair::Pair;
use super::table::{self, TcpState};
use crate::network::alone;
use crate::support::{End, Rig, Script};

/// The kernel waits for the peer's FIN, and no process any more.
#[test]
fn a_peer_that_never_closes_leaves_an_orphan_in_fin_wait_2() {
    alone(|| {
        let limits = Limits::default().close_timeout(Duration::from_millis(20));
        let mut pair = Pair::accepted(Rig::with_limits(Script::new(), limits));
        pair.act(|conn| conn.close());
        pair.expect(Some(TcpState::FinWait2), Some(TcpState::CloseWait));
        pair.rig.expect_end(pair.id, "Local");
        pair.expect(Some(TcpState::FinWait2), Some(TcpState::CloseWait));
        assert!(!table::is_held(pair.ours, pair.theirs));
        assert!(table::is_held(pair.theirs, pair.ours));
        // Nobody reads any more: what the peer still sends is answered with a reset.
        pair.peer().send(b"late");
        pair.expect(None, None);
    });
}

fn lingering(linger: Duration) -> Pair {
    let tcp = TcpOptions::default().linger(Some(linger));
    Pair::accepted(Rig::with_listen(Script::new().eof(|_| {}), ListenOptions::default().tcp(tcp)))
}

#[test]
fn linger_of_zero_changes_nothing_for_who_closes_first() {
    alone(|| {
        let mut pair = lingering(Duration::ZERO);
        pair.act(|conn| conn.close());
        pair.expect(Some(TcpState::FinWait2), Some(TcpState::CloseWait));
        drop(pair.peer.take());
        pair.expect(Some(TcpState::TimeWait), None);
        pair.rig.expect_end(pair.id, "Local");
    });
}

/// What the kernel has not sent yet is thrown away, and the peer sees that.
#[test]
fn linger_of_zero_cuts_off_what_the_peer_has_not_taken() {
    alone(|| {
        let mut pair = lingering(Duration::ZERO);
        pair.finish();
        let bytes = vec![b'x'; 1 << 20];
        pair.act(|conn| assert!(conn.write(&bytes).is_accepted()));
        pair.rig.turn();
        let mut peer = pair.peer.take().unwrap();
        pair.rig.until("the kernel has it all", |rig| {
            let pending = rig.reactor.context().conn(pair.id).unwrap().pending_bytes();
            pending == 0 || peer.try_read(1 << 10).unwrap().is_empty()
        });
        pair.act(|conn| conn.close());
        pair.rig.expect_end(pair.id, "Peer");
        pair.expect(None, None);
        let (received, end) = pair.rig.read_to_end(&mut peer);
        assert_eq!(end, End::Reset);
        assert!(received.len() < bytes.len(), "{} bytes", received.len());
    });
}
