//! Any program over a reactor in a simulated world, by the bytes of a fuzzer.
//!
//! The bytes choose the faults, the options, what the peers do, what is done from outside between
//! the turns, and what each callback does. The rules of the world are watched all along; here is
//! checked in addition that every byte is in its place, that an end in order is one of the whole
//! stream, that timers are neither early nor late, that messages are run once, and that ids and
//! states end with their connections.

mod actor;
#[allow(clippy::duplicate_mod, reason = "the random program has its own")]
#[path = "../../../examples/simulate/src/workload/alarm.rs"]
mod alarm;
mod books;
mod datagrams;
mod options;
mod tape;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::sim::{Fault, Faults, HostId, PeerEnd, PeerId, Script, Simulation, TestLayer};
use waterwheel::{HandlerKey, Remote, Sender};

use actor::Actor;
use books::{Books, is_in_place, keyed, stretch};
use datagrams::{Datagrams, use_datagrams};
use tape::Tape;

/// Steps of a program at the most, and peers: an input takes a fraction of a millisecond.
const MOST_STEPS: usize = 40;
const MOST_PEERS: usize = 12;

/// Runs a program, and returns the hash of what its world went through: the same for the same
/// bytes.
pub(crate) fn run(bytes: &[u8]) -> u64 {
    let mut program = Program::new(bytes);
    program.run();
    program.sim.hash()
}

struct Program {
    tape: Tape,
    sim: Simulation,
    books: Rc<Books>,
    hosts: Vec<Host>,
    peers: Vec<Peer>,
    datagram_peer: Option<(PeerId, SocketAddr)>,
}

/// A host with its handlers and the ways in from other threads.
struct Host {
    id: HostId,
    addr: SocketAddr,
    is_layered: bool,
    actor: HandlerKey<Actor>,
    datagrams: HandlerKey<Datagrams>,
    remote: Remote,
    sender: Sender<u8>,
}

struct Peer {
    key: u8,
    id: PeerId,
    is_layered: bool,
}

fn faults(tape: &Tape) -> Faults {
    match tape.below(4) {
        0 => Faults::none(),
        1 => Faults::harmless(),
        2 => Faults::all(),
        _ => (0..4).fold(Faults::none(), |faults, _| {
            tape.pick(&Fault::ALL).map_or(faults, |fault| faults.with(fault))
        }),
    }
}

impl Program {
    fn new(bytes: &[u8]) -> Self {
        let tape = Tape::new(bytes);
        let faults = faults(&tape);
        let seed = u64::from(tape.byte());
        Self {
            tape,
            sim: Simulation::new(seed, faults),
            books: Rc::default(),
            hosts: Vec::new(),
            peers: Vec::new(),
            datagram_peer: None,
        }
    }

    fn run(&mut self) {
        self.sim.allow_panics(actor::ON_PURPOSE);
        self.add_machines();
        let hosts = 1 + usize::from(self.tape.below(4) == 3);
        for number in 0..hosts {
            let host = self.add_host(number);
            self.hosts.extend(host);
        }
        if self.hosts.is_empty() {
            return; // its descriptors do not suffice
        }
        for _ in 0..MOST_STEPS {
            if self.tape.is_empty() {
                break;
            }
            self.step();
        }
        self.sim.run(Duration::from_secs(1));
        self.sim.finish();
        self.check();
    }

    /// A machine that listens, and one with a socket of datagrams.
    fn add_machines(&mut self) {
        let script = match self.tape.below(4) {
            0 => Script::new().send(stretch(0, 300)).read_to_end(),
            1 => Script::new().send(stretch(0, 40)).finish().read_to_end(),
            2 => Script::new().wait(Duration::from_millis(30)).reset(),
            _ => Script::new().stop_reading().wait(Duration::from_secs(50)).close(),
        };
        let backlog = 1 + usize::from(self.tape.below(3));
        let addr = self.sim.listening_peer(backlog, script);
        self.sim.name("place", &[addr.ip()]);
        self.books.places.borrow_mut().push((addr, false));
        let (peer, addr) = self.sim.datagram_peer(|from, bytes| vec![(from, bytes.to_vec())]);
        self.books.datagram_places.borrow_mut().push(addr);
        self.datagram_peer = Some((peer, addr));
    }

    fn add_host(&mut self, number: usize) -> io::Result<Host> {
        let files = match self.tape.below(4) {
            3 => 6 + u64::from(self.tape.below(8)),
            _ => 256,
        };
        let options = options::reactor_options(&self.tape);
        let (listen, is_layered) = options::listen_options(&self.tape);
        let (tape, books) = (self.tape.clone(), Rc::clone(&self.books));
        let (name, clock) = (["one", "two"][number], Rc::new(RefCell::new(None)));
        let (id, (addr, actor, datagrams, remote, sender)) =
            self.sim.host_with(name, options, files, |reactor| {
                let datagrams = Datagrams { tape: tape.clone(), books: Rc::clone(&books) };
                let datagrams = reactor.register(datagrams);
                let actor = reactor.register_with(|key| Actor {
                    key,
                    datagrams,
                    tape: tape.clone(),
                    books,
                    clock: Rc::clone(&clock),
                    alarms: Vec::new(),
                });
                let addr = reactor.listen("0.0.0.0:7000", actor, listen)?;
                let sender = reactor.channel(actor, 1 + usize::from(tape.below(3)))?;
                Ok((addr, actor, datagrams, reactor.remote(), sender))
            })?;
        *clock.borrow_mut() = Some(self.sim.clock(id));
        self.books.places.borrow_mut().push((addr, is_layered));
        Ok(Host { id, addr, is_layered, actor, datagrams, remote, sender })
    }

    fn step(&mut self) {
        let tape = self.tape.clone();
        let host = usize::from(tape.below(2)) % self.hosts.len();
        match tape.below(16) {
            0..4 => self.add_peer(host),
            4..8 => drop(self.sim.run(tape.time())),
            8 => self.post(host, tape.time()),
            9 => self.send(host, tape.time()),
            10 => self.send_datagram(),
            11 => self.connect(host),
            12 => self.act_between_turns(host),
            13 => self.sim.heal(),
            14 => self.end(host),
            _ => self.write_remotely(host),
        }
    }

    fn add_peer(&mut self, host: usize) {
        if self.peers.len() >= MOST_PEERS {
            return;
        }
        let host = &self.hosts[host];
        let (key, is_layered) = (self.peers.len() as u8 + 1, host.is_layered);
        let (addr, script) = (host.addr, script(&self.tape, key, is_layered));
        let id = self.sim.peer(addr, script);
        self.peers.push(Peer { key, id, is_layered });
    }

    /// Another thread posts a closure.
    fn post(&mut self, host: usize, wait: Duration) {
        let (remote, key) = (self.hosts[host].remote.clone(), self.hosts[host].actor);
        let books = Rc::clone(&self.books);
        self.sim.call_after(wait, move || {
            if remote.with(key, |actor: &mut Actor, cx| actor.on_post(cx)).is_ok() {
                books.posted.set(books.posted.get() + 1);
            }
        });
    }

    /// Another thread sends a message.
    fn send(&mut self, host: usize, wait: Duration) {
        let (sender, books) = (self.hosts[host].sender.clone(), Rc::clone(&self.books));
        self.sim.call_after(wait, move || {
            if sender.try_send(1).is_ok() {
                books.posted.set(books.posted.get() + 1);
            }
        });
    }

    fn send_datagram(&mut self) {
        let Some((peer, _)) = self.datagram_peer else { return };
        let known = self.sim.datagrams_of(peer);
        let Some((from, _)) = known.last() else { return };
        let (from, bytes) = (*from, stretch(0, self.tape.count()));
        self.sim.send_datagram(peer, from, bytes);
    }

    fn connect(&mut self, host: usize) {
        let (id, key) = (self.hosts[host].id, self.hosts[host].actor);
        self.sim.with(id, |reactor| {
            reactor.context().post(key, |actor: &mut Actor, cx| actor.connect(cx));
        });
    }

    /// What a program may do between two turns, with the reactor at hand.
    fn act_between_turns(&mut self, host: usize) {
        let (id, actor, datagrams) =
            (self.hosts[host].id, self.hosts[host].actor, self.hosts[host].datagrams);
        let (tape, books) = (self.tape.clone(), Rc::clone(&self.books));
        self.sim.with(id, |reactor| {
            let known = tape.pick(&books.known.borrow());
            let mut cx = reactor.context();
            match (tape.below(4), known) {
                (0, Some(id)) => {
                    if let Some(conn) = cx.conn(id) {
                        actor::act_from_elsewhere(&tape, conn);
                    }
                }
                (1, _) => use_datagrams(datagrams, &tape, &books, &mut cx),
                _ => cx.post(actor, |actor: &mut Actor, cx| actor.set_own_alarm(cx)),
            }
        });
    }

    /// Another thread stops the reactor, or drains it.
    fn end(&mut self, host: usize) {
        let (remote, books) = (self.hosts[host].remote.clone(), Rc::clone(&self.books));
        let (wait, drains, deadline) = (self.tape.time(), self.tape.flag(), self.tape.time());
        self.sim.call_after(wait, move || {
            books.is_stopped.set(true);
            // One that has stopped already stays so.
            let _ = if drains { remote.drain(deadline) } else { remote.stop() };
        });
    }

    /// Another thread closes a connection by its id.
    fn write_remotely(&mut self, host: usize) {
        let remote = self.hosts[host].remote.clone();
        let Some(id) = self.tape.pick(&self.books.known.borrow()) else { return };
        self.sim.call_after(self.tape.time(), move || {
            let _ = remote.close(id);
        });
    }

    fn check(&mut self) {
        for peer in &self.peers {
            let mut received = self.sim.received(peer.id);
            if peer.is_layered {
                (received, _) = TestLayer::plain(&received);
            }
            let is_whole = is_in_place(0, &received);
            assert!(is_whole, "peer {} has received what was not sent like this", peer.key);
            if self.sim.end_of(peer.id) == PeerEnd::Finished {
                self.books.check_finished(peer.key, received.len());
            }
        }
        self.books.check();
    }
}

/// What a peer does: its key and bytes in pieces, and one of many ends.
fn script(tape: &Tape, key: u8, is_layered: bool) -> Script {
    let mut script = Script::new();
    if is_layered {
        let (hello, confirmation) = (TestLayer::hello(), TestLayer::confirmation());
        script = match tape.below(8) {
            1 => script.send([hello, confirmation].concat()),
            2 => script.send(&hello[..5]).wait(tape.time()).finish(),
            3 => script.dribble(hello, tape.time()).read(TestLayer::ANSWER_BYTES),
            _ => script.send(hello).read(TestLayer::ANSWER_BYTES).send(confirmation),
        };
    }
    let mut sent = 0;
    for _ in 0..1 + tape.below(6) {
        let step = tape.below(8);
        let count = if step < 5 { 1 + tape.count() } else { 0 };
        let bytes = keyed(key, sent, count);
        let bytes = if is_layered { TestLayer::data(&bytes) } else { bytes };
        sent += count;
        script = match step {
            0..4 => script.send(bytes),
            4 => script.dribble(bytes[..bytes.len().min(8)].to_vec(), tape.time()),
            5 => script.wait(tape.time()),
            6 => script.stop_reading(),
            _ => script.resume_reading(),
        };
        if step == 4 && (is_layered || count > 8) {
            return script; // the rest of the stream would stand behind a gap
        }
    }
    if is_layered && tape.flag() {
        script = script.send(TestLayer::ping()).send(TestLayer::end());
    }
    match tape.below(8) {
        1 => script.close(),
        2 => script.reset(),
        3 => script.finish().wait(tape.time()).close(),
        4 => script.stop_reading().wait(tape.time()).close(),
        5 => script.stop_reading().finish().wait(tape.time()).resume_reading().read_to_end(),
        _ => script.resume_reading().finish().read_to_end(),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, resume_unwind};

    use super::{Program, run};

    /// A program that fails shows its trace.
    fn replay(bytes: &[u8]) {
        let result = catch_unwind(|| (run(bytes), run(bytes)));
        match result {
            Ok((first, second)) => assert_eq!(first, second, "the same bytes, another run"),
            Err(payload) => {
                let mut program = Program::new(bytes);
                program.sim.keep_trace();
                let _ = catch_unwind(std::panic::AssertUnwindSafe(|| program.run()));
                println!("{}", program.sim.trace().join("\n"));
                resume_unwind(payload);
            }
        }
    }

    #[test]
    fn the_corpus_of_the_reactor_passes() {
        crate::input::replay("reactor", replay);
    }
}
