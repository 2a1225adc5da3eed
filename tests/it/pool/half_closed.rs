//! A connection that only this side may still send on.

use std::net::{Shutdown, TcpListener};
use std::time::Duration;

use waterwheel::pool::{AcquireError, Lease, Pool, PoolClient, PoolHandle, PoolOptions};
use waterwheel::{Conn, Context, Reactor};

use crate::support::patiently;

/// Keeps its connection until the peer has finished, and gives it back then.
#[derive(Default)]
struct Keeps {
    lease: Option<Lease>,
    acquired: usize,
}

impl PoolClient for Keeps {
    type State = ();
    type Ticket = ();

    fn on_acquired(
        &mut self,
        (): &mut (),
        _: &mut Conn<'_>,
        lease: Lease,
        (): (),
        _: &mut PoolHandle<Self>,
    ) {
        self.acquired += 1;
        self.lease = Some(lease);
    }

    fn on_data(
        &mut self,
        (): &mut (),
        _: &mut Conn<'_>,
        input: &[u8],
        _: &mut PoolHandle<Self>,
    ) -> usize {
        input.len()
    }

    fn on_eof(&mut self, (): &mut (), _: &mut Conn<'_>, _: &mut PoolHandle<Self>) {
        self.lease = None;
    }

    fn on_refused(
        &mut self,
        (): (),
        error: AcquireError,
        _: &mut PoolHandle<Self>,
        _: &mut Context<'_>,
    ) {
        panic!("{error}");
    }
}

/// The next borrower would wait for answers that cannot come.
#[test]
fn a_connection_whose_peer_has_finished_is_not_lent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let (client, addr) = (Keeps::default(), listener.local_addr().unwrap());
    let options = PoolOptions::default().max_open(1);
    let pool = Pool::register(&mut reactor, client, addr, options).unwrap();
    let acquire = |reactor: &mut Reactor, count: usize| {
        reactor.context().post(pool, |pool, cx| {
            pool.request((), cx);
        });
        patiently("a connection", || {
            reactor.run_once(Some(Duration::ZERO)).unwrap();
            let client = reactor.handler_mut(pool).unwrap().client_mut();
            (client.acquired == count).then_some(())
        });
        listener.accept().unwrap().0
    };
    let peer = acquire(&mut reactor, 1);
    peer.shutdown(Shutdown::Write).unwrap();
    patiently("its end", || {
        reactor.run_once(Some(Duration::ZERO)).unwrap();
        let client = reactor.handler_mut(pool).unwrap().client_mut();
        client.lease.is_none().then_some(())
    });
    listener.set_nonblocking(true).unwrap(); // a connection that is made is here already
    acquire(&mut reactor, 2);
    let stats = reactor.handler_mut(pool).unwrap().stats();
    assert_eq!((stats.created, stats.evicted.dirty), (2, 1), "{stats:?}");
}
