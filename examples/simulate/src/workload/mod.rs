//! A random program in a random world: everything that a handler may do, in any order.
//!
//! Each connection has a key, which its first bytes tell; from the key follows every byte that
//! either side sends, so that each side can check each byte on its own.

mod alarm;
mod chaos;
mod greeting;
mod idle;
mod layered;
mod ledger;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::sim::{Dice, PeerEnd, PeerId, Script, Simulation, TestLayer};
use waterwheel::{
    AtCapacity, ConnectOptions, HandlerKey, Limits, ListenOptions, MinRate, OnOverflow, Reactor,
    ReactorOptions, Reconnect, Remote, Sender,
};

use chaos::Chaos;
use ledger::Ledger;

pub(crate) use ledger::{KEY_BYTES, stream};

/// Everything that one run shares.
type Shared = Rc<RefCell<Ledger>>;

/// One run: reactors, peers, other threads, and the checks at the end.
pub(crate) fn run(sim: &mut Simulation) -> io::Result<()> {
    let dice = sim.dice();
    sim.allow_panics(chaos::ON_PURPOSE);
    let ledger = Shared::default();
    let listening = sim.listening_peer(
        1 + dice.below(8) as usize,
        script(&dice, &ledger, Script::new(), 999, Way::Listens),
    );
    ledger.borrow_mut().upstreams.push(listening);
    let hosts = 1 + u64::from(dice.one_in(4));
    let mut addrs = Vec::new();
    let mut doors = Vec::new();
    for index in 0..hosts {
        let files = if dice.one_in(4) { 6 + dice.below(10) } else { 256 };
        let options = reactor_options(&dice);
        let clock = Rc::new(RefCell::new(None));
        let (host, (addr, talk, service, door)) =
            sim.host_with(&format!("host{index}"), options, files, |reactor| {
                set_up(reactor, &dice, &ledger, &clock)
            })?;
        *clock.borrow_mut() = Some(sim.clock(host));
        if dice.one_in(2) {
            let period = Duration::from_millis(dice.spread(1, 20_000));
            sim.with(host, |reactor| {
                let timer = reactor.set_periodic_timer(service, period, 0);
                let chaos = reactor.handler_mut(service).expect("it is registered here");
                chaos.expect_ticks(timer, period);
            });
        }
        ledger.borrow_mut().upstreams.push(addr);
        if talk.is_layered {
            ledger.borrow_mut().layered.push(addr);
        }
        addrs.push((addr, talk));
        doors.push((door, service));
    }
    for (place, addr) in ledger.borrow().upstreams.iter().enumerate() {
        let nowhere = std::net::IpAddr::from([10, 9, 9, 9]);
        let ips = [nowhere, addr.ip()];
        sim.name(&format!("upstream-{place}"), &ips[dice.below(2) as usize..]);
    }
    let peers = add_peers(sim, &dice, &ledger, &addrs);
    for (door, service) in doors {
        add_threads(sim, &dice, &ledger, &door, service);
    }
    sim.run(Duration::from_secs(dice.spread(1, 300)));
    sim.heal();
    sim.run(Duration::from_secs(2 * 3_600));
    check(sim, &ledger.borrow(), &peers);
    Ok(())
}

/// What a reactor that is stopped early has to drain.
const DRAIN: Duration = Duration::from_secs(20);

/// Ends what nothing else does: two sides that each wait for the other to read.
const LONGEST_SILENCE: Duration = Duration::from_secs(900);

type Clock = Rc<RefCell<Option<waterwheel::sim::HostClock>>>;
type Place = (std::net::SocketAddr, Talk, HandlerKey<Chaos>, Door);

/// How the peers of a listener should begin.
#[derive(Clone, Copy)]
struct Talk {
    /// With a balancer's header.
    is_greeted: bool,
    /// With the handshake of a layer, which all bytes then pass through.
    is_layered: bool,
}

/// How a peer sends its stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Not at all: it was connected to.
    Listens,
    Plain,
    Layered,
}

/// The ways in from other threads: for closures, and for numbered messages of numbered threads.
type Door = (Remote, Sender<(usize, usize)>);

fn set_up(reactor: &mut Reactor, dice: &Dice, ledger: &Shared, clock: &Clock) -> io::Result<Place> {
    let limits = limits(dice);
    let max_output = limits.max_output_bytes;
    let service = reactor.register_with(|service| {
        Chaos::new(service, dice.clone(), Rc::clone(ledger), Rc::clone(clock), max_output)
    });
    let mut options = ListenOptions::default().limits(limits).read_at_accept(true);
    if dice.one_in(3) {
        options = options.max_connections(Some(1 + dice.below(6) as usize));
    }
    if dice.one_in(2) {
        options = options.at_capacity(AtCapacity::Wait);
    }
    if dice.one_in(3) {
        options = options.accept_budget(1 + dice.below(3) as usize);
    }
    let (options, is_greeted) = greeting::choose(dice, options);
    let (options, is_layered) = layered::choose(dice, options);
    let addr = reactor.listen("0.0.0.0:7000", service, options)?;
    let sender = reactor.channel(service, 1 + dice.below(4) as usize)?;
    Ok((addr, Talk { is_greeted, is_layered }, service, (reactor.remote(), sender)))
}

fn reactor_options(dice: &Dice) -> ReactorOptions {
    let mut options = ReactorOptions::default();
    if dice.one_in(2) {
        options = options
            .reads_per_turn(1 + dice.below(4) as usize)
            .events_per_turn(1 + dice.below(8) as usize)
            .messages_per_turn(1 + dice.below(4) as usize);
    }
    if dice.one_in(8) {
        options = options.busy_poll(Duration::from_micros(dice.spread(1, 100)));
    }
    options
}

/// Limits of any size, and each of them off as often as not.
pub(crate) fn limits(dice: &Dice) -> Limits {
    let some =
        |low: u64, high: u64| dice.one_in(3).then(|| Duration::from_millis(dice.spread(low, high)));
    let high = 1 + dice.spread(1, 64 << 10) as usize;
    let max_output = high + dice.spread(1, 256 << 10) as usize;
    let rate = |dice: &Dice| {
        dice.one_in(8).then(|| {
            MinRate::new(
                1 + dice.spread(1, 1_000) as u32,
                Duration::from_millis(dice.spread(1, 9_000)),
            )
        })
    };
    let mut limits = Limits::default()
        .read_idle(some(1, 90_000))
        .write_idle(some(1, 90_000))
        .all_idle(some(1, 90_000).or(Some(LONGEST_SILENCE)))
        .first_byte_timeout(some(1, 60_000))
        .message_timeout(some(1, 60_000))
        .min_receive_rate(rate(dice))
        .min_send_rate(rate(dice))
        .high_mark_bytes(high)
        .low_mark_bytes(dice.below(high as u64) as usize)
        .max_output_bytes(max_output)
        .max_input_bytes(64 << dice.below(10))
        .max_outstanding_requests(if dice.one_in(4) { 1 + dice.below(4) as u32 } else { 100 })
        .close_timeout(Duration::from_millis(dice.spread(1, 30_000)));
    if dice.one_in(2) {
        limits = limits.on_overflow(OnOverflow::Close);
    }
    if dice.one_in(2) {
        limits = limits.pause_at_high_mark(false);
    }
    limits
}

/// What an outgoing connection goes by.
pub(crate) fn connect_options(dice: &Dice) -> ConnectOptions {
    let reconnect = dice.one_in(3).then(|| {
        let first = Duration::from_millis(dice.spread(1, 1_000));
        let longest = first + Duration::from_millis(dice.spread(1, 60_000));
        let tries = 1 + dice.below(6) as u32;
        Reconnect::default().base_delay(first).max_delay(longest).max_attempts(Some(tries))
    });
    ConnectOptions::default()
        .timeout(Duration::from_millis(dice.spread(1, 60_000)))
        .attempt_delay(Duration::from_millis(dice.spread(10, 2_000)))
        .reconnect(reconnect)
        .limits(limits(dice))
}

fn add_peers(
    sim: &mut Simulation,
    dice: &Dice,
    ledger: &Shared,
    addrs: &[(std::net::SocketAddr, Talk)],
) -> Vec<(u64, Way, PeerId)> {
    let count = 1 + dice.spread(1, 12);
    let is_burst = dice.one_in(4);
    let mut peers = Vec::new();
    for key in 1..=count {
        let (addr, talk) = addrs[dice.below(addrs.len() as u64) as usize];
        let wait = if is_burst { 0 } else { dice.spread(0, 20_000_000) };
        let mut greeted = Script::new();
        if talk.is_greeted {
            greeted = greeting::greet(dice, greeted);
        }
        if talk.is_layered {
            greeted = layered::greet(dice, greeted);
        }
        let way = if talk.is_layered { Way::Layered } else { Way::Plain };
        let script = script(dice, ledger, greeted, key, way);
        peers.push((key, way, sim.peer_after(Duration::from_micros(wait), addr, script)));
    }
    peers
}

/// What a peer does: its key, bytes in pieces, and one of many ends.
fn script(dice: &Dice, ledger: &Shared, mut script: Script, key: u64, way: Way) -> Script {
    let total = dice.spread(1, if dice.one_in(10) { 200_000 } else { 4_000 }) as usize;
    let bytes = stream(key, 0, KEY_BYTES + total);
    if dice.one_in(3) {
        script = script.wait(Duration::from_micros(dice.spread(1, 5_000_000)));
    }
    let mut sent = 0;
    while sent < bytes.len() && way != Way::Listens {
        let piece = dice.spread(1, 20_000).min((bytes.len() - sent) as u64) as usize;
        script = match way {
            Way::Layered => layered::piece(dice, script, &bytes[sent..sent + piece]),
            _ => script.send(&bytes[sent..sent + piece]),
        };
        sent += piece;
        if way == Way::Layered && dice.one_in(12) {
            ledger.borrow_mut().add_faulty(key);
            script = layered::fault(dice, script);
        }
        script = act(dice, script, &bytes[..sent.min(3)]);
    }
    if way == Way::Layered && !dice.one_in(4) {
        script = script.send(TestLayer::end());
    }
    match dice.below(6) {
        0 => script.close(),
        1 => script.reset(),
        2 => script.finish().wait(Duration::from_secs(dice.spread(1, 600))).close(),
        3 => script.stop_reading().wait(Duration::from_secs(dice.spread(1, 600))).close(),
        _ => script.resume_reading().finish().read_to_end(),
    }
}

fn act(dice: &Dice, script: Script, _sent: &[u8]) -> Script {
    match dice.below(10) {
        0 => script.wait(Duration::from_micros(dice.spread(1, 40_000_000))),
        1 => script.stop_reading(),
        2 => script.resume_reading(),
        _ => script,
    }
}

/// Other threads: each posts numbered messages, some through a channel; and some of the others stop
/// the reactor.
fn add_threads(
    sim: &mut Simulation,
    dice: &Dice,
    ledger: &Shared,
    door: &Door,
    service: HandlerKey<Chaos>,
) {
    for _ in 0..dice.below(3) {
        let thread = ledger.borrow_mut().add_thread();
        let mut times: Vec<u64> =
            (0..dice.spread(1, 8)).map(|_| dice.spread(1, 9_000_000)).collect();
        times.sort_unstable();
        let (stops, drains) = (dice.one_in(8), dice.one_in(2));
        let sends = !stops && dice.one_in(2);
        let last = times.len();
        for (number, micros) in times.into_iter().enumerate() {
            let ((remote, sender), ledger) = (door.clone(), Rc::clone(ledger));
            let stops = stops && number + 2 == last;
            sim.call_after(Duration::from_micros(micros), move || {
                if stops && ledger.borrow_mut().stop(thread, drains) {
                    // What is posted behind it in the same mailbox must not be run.
                    let _ = if drains { remote.drain(DRAIN) } else { remote.stop() };
                }
                let task = move |chaos: &mut Chaos, cx: &mut waterwheel::Context<'_>| {
                    chaos.on_post(thread, number, cx);
                };
                let is_posted = match sends {
                    true => sender.try_send((thread, number)).is_ok(),
                    false => remote.with(service, task).is_ok(),
                };
                if is_posted {
                    ledger.borrow_mut().posted(thread);
                }
            });
        }
    }
}

fn check(sim: &Simulation, ledger: &Ledger, peers: &[(u64, Way, PeerId)]) {
    ledger.check_messages();
    for &(key, way, peer) in peers {
        let mut received = sim.received(peer);
        if way == Way::Layered {
            (received, _) = TestLayer::plain(&received);
        }
        assert!(
            received == stream(!key, 0, received.len()),
            "peer {key} has received {} bytes that were not sent like this",
            received.len()
        );
        if sim.end_of(peer) == PeerEnd::Finished {
            ledger.check_finished(key, received.len());
        }
    }
}

/// Connections of the load of idle timers.
#[allow(dead_code, reason = "the tests that share this file measure no load")]
pub(crate) const IDLE_CONNECTIONS: u32 = 1_000;

/// Silent connections that are kept although they are idle, each asked once a minute: the virtual
/// time that has passed, and how often one was asked.
#[allow(dead_code, reason = "the tests that share this file measure no load")]
pub(crate) fn idle(time: Duration) -> io::Result<(Duration, u64)> {
    let mut sim = Simulation::new(0, waterwheel::sim::Faults::none());
    let options = ReactorOptions::default();
    let files = u64::from(IDLE_CONNECTIONS) + 10;
    let (host, addr) = sim.host_with("server", options, files, |reactor| {
        let service = reactor.register(idle::Patient::default());
        let options = ListenOptions::default().idle_timeout(Duration::from_secs(60));
        Ok((service, reactor.listen("0.0.0.0:7000", service, options)?))
    })?;
    let (service, addr) = (addr.0, addr.1);
    for number in 0..IDLE_CONNECTIONS {
        let wait = Duration::from_millis(u64::from(number) * 60);
        sim.peer_after(wait, addr, Script::new());
    }
    sim.run(time);
    let asked = sim.with(host, |reactor| reactor.handler_mut(service).map_or(0, |it| it.asked));
    Ok((sim.now(), asked))
}
