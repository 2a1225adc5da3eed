//! Connections that come to nothing: dials follow after a pause, or for another ticket.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use waterwheel::pool::PoolOptions;
use waterwheel::{Conn, ListenOptions};

use super::rig::{Answer, PoolRig};

/// Options under which nothing happens by itself.
fn calm() -> PoolOptions {
    PoolOptions::default()
        .idle_timeout(None)
        .lifetime(None)
        .acquire_timeout(None)
        .retry_base_delay(Duration::from_millis(5))
        .retry_max_delay(Duration::from_millis(20))
        .seed(Some(1))
}

/// What a server does with a connection before the pool has seen that it is up.
#[derive(Clone, Copy, Debug)]
enum Does {
    Finish,
    Reset,
    SpeakFirst,
}

#[test]
fn a_ticket_whose_connection_ends_as_it_comes_up_is_refused() {
    for does in [Does::Finish, Does::Reset, Does::SpeakFirst] {
        let mut rig = PoolRig::silent(calm().max_open(1));
        (0..3).for_each(|number| rig.ask(number));
        for number in 0..3 {
            rig.until("a dial", |rig| rig.stats().dialling == 1);
            let mut peer = rig.accept();
            match does {
                Does::Finish => peer.finish(),
                Does::SpeakFirst => peer.send(b"hello"),
                Does::Reset => peer.reset(),
            }
            rig.until("an answer", |rig| rig.answers().len() > number);
        }
        rig.turns(20);
        let numbers: Vec<_> = rig.answers().iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 1, 2], "{does:?}: each once, in order");
        for (_, answer) in rig.answers() {
            assert!(matches!(answer, Answer::Refused(_)), "{does:?}: {answer:?}");
        }
        let stats = rig.stats();
        let dials = stats.created + stats.failed_dials;
        assert_eq!((dials, stats.refused, stats.open, stats.waiting), (3, 3, 0, 0), "{does:?}");
    }
}

/// Those who come later are not refused because of one that had died for others.
#[test]
fn nobody_is_refused_for_the_connection_of_a_ticket_that_was_cancelled() {
    let mut rig = PoolRig::silent(calm().max_open(1));
    let waiter = rig.enter(|_, desk, cx| match desk.acquire(0, cx) {
        waterwheel::pool::Acquired::Waits(waiter) => waiter,
        other => panic!("{other:?}"),
    });
    rig.until("a dial", |rig| rig.stats().dialling == 1);
    rig.accept().finish();
    rig.enter(move |_, desk, _| assert_eq!(desk.cancel(waiter), Some(0)));
    rig.until("it is over", |rig| rig.stats().open == 0);
    rig.ask(1);
    rig.until("the next is lent", |rig| rig.client().acquired == [1]);
    let _peer = rig.accept();
    assert_eq!(rig.answers(), []);
}

#[test]
fn a_pool_without_connections_dials_none_to_be_kept_in_a_drain() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut rig = PoolRig::to(gone, calm().min_idle(2));
    let holds = rig.reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
    let addr = rig.reactor.listen("127.0.0.1:0", holds, ListenOptions::default()).unwrap();
    let client = TcpStream::connect(addr).unwrap();
    rig.until("failures", |rig| rig.stats().failed_dials >= 2 && rig.accepted() == 1);
    rig.reactor.context().drain(Duration::from_secs(60));
    rig.until("those under way fail", |rig| rig.stats().open == 0);
    let before = rig.stats().failed_dials;
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(100) {
        rig.turns(1);
    }
    assert_eq!(rig.stats().failed_dials, before);
    drop(client);
    rig.reactor.run().unwrap();
}
