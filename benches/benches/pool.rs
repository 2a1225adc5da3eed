//! What it costs to borrow a connection from a pool, beside connecting anew.
//!
//! - `release`, `drop`: an idle connection is acquired and given back, within a callback. What is
//!   dropped is found by the next acquire.
//! - `connect`: a connection over loopback is made, accepted and closed, by blocking calls.
//!
//! Before it measures it counts: a million borrows must allocate nothing.

#[path = "../tests/counting/mod.rs"]
mod counting;

use std::cell::Cell;
use std::hint::black_box;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use waterwheel::pool::{AcquireError, Acquired, Lease, Pool, PoolClient, PoolHandle, PoolOptions};
use waterwheel::{Conn, Context, HandlerKey, ListenOptions, Reactor};

use counting::allocated;

/// Never waits.
struct Nobody;

impl PoolClient for Nobody {
    type State = Option<Lease>;
    type Ticket = u64;

    fn on_acquired(
        &mut self,
        _: &mut Self::State,
        _: &mut Conn<'_>,
        _: Lease,
        _: u64,
        _: &mut PoolHandle<Self>,
    ) {
    }

    fn on_data(
        &mut self,
        _: &mut Self::State,
        _: &mut Conn<'_>,
        input: &[u8],
        _: &mut PoolHandle<Self>,
    ) -> usize {
        input.len()
    }

    fn on_refused(
        &mut self,
        _: u64,
        _: AcquireError,
        _: &mut PoolHandle<Self>,
        _: &mut Context<'_>,
    ) {
    }
}

/// One way to borrow.
type Borrow = fn(&mut PoolHandle<Nobody>, &mut Context<'_>);

#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    borrow: Borrow,
}

fn lease(desk: &mut PoolHandle<Nobody>, cx: &mut Context<'_>) -> Lease {
    match desk.acquire(black_box(7), cx) {
        Acquired::Now(lease, _) => lease,
        answer => panic!("nothing is idle: {answer:?}"),
    }
}

const WAYS: [Way; 2] = [
    Way {
        name: "release",
        borrow: |desk, cx| {
            let lease = black_box(lease(desk, cx));
            desk.release(lease, cx);
        },
    },
    Way { name: "drop", borrow: |desk, cx| drop(black_box(lease(desk, cx))) },
];

/// A reactor with eight idle connections.
fn idle_pool() -> (Reactor, HandlerKey<Pool<Nobody>>) {
    let mut reactor = Reactor::new().expect("a reactor");
    let server = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
    let addr = reactor.listen("127.0.0.1:0", server, ListenOptions::default()).expect("a port");
    let options = PoolOptions::default().max_open(8).min_idle(8);
    let pool = Pool::register(&mut reactor, Nobody, addr, options).expect("good options");
    while reactor.handler_mut(pool).expect("it is here").stats().idle < 8 {
        reactor.run_once(None).expect("turns");
    }
    (reactor, pool)
}

/// Borrows so often within one callback: the time and the allocations of all.
fn run(
    reactor: &mut Reactor,
    pool: HandlerKey<Pool<Nobody>>,
    borrow: Borrow,
    times: u64,
) -> (Duration, u64) {
    let result = Rc::new(Cell::new((Duration::ZERO, u64::MAX)));
    let told = Rc::clone(&result);
    reactor.context().post(pool, move |pool, cx| {
        pool.enter(cx, |_, desk, cx| {
            let (before, start) = (allocated(), Instant::now());
            for _ in 0..times {
                borrow(desk, cx);
            }
            let elapsed = start.elapsed();
            told.set((elapsed, allocated() - before));
        });
    });
    reactor.run_once(Some(Duration::ZERO)).expect("turns");
    result.get()
}

/// Accepts and closes, for as long as the program runs.
fn acceptor() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || listener.incoming().for_each(drop));
    addr
}

fn borrows(criterion: &mut Criterion) {
    let (mut reactor, pool) = idle_pool();
    let mut group = criterion.benchmark_group("pool");
    for way in WAYS {
        let (_, allocations) = run(&mut reactor, pool, way.borrow, 1_000_000);
        assert_eq!(allocations, 0, "{}: a borrow allocates", way.name);
        group.bench_function(way.name, |bencher| {
            bencher.iter_custom(|times| run(&mut reactor, pool, way.borrow, times).0);
        });
    }
    let addr = acceptor();
    group.sample_size(10).measurement_time(Duration::from_secs(1));
    group.bench_function("connect", |bencher| {
        bencher.iter(|| TcpStream::connect(addr).expect("connects"));
    });
    group.finish();
}

criterion_group!(benches, borrows);
criterion_main!(benches);
