//! Peers that react to what they are sent.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use waterwheel::sim::{Faults, PeerEnd, Reaction, Script, Seeds, Simulation};
use waterwheel::{Conn, ConnectOptions, Handler, ListenOptions, Peer};

const MINUTE: Duration = Duration::from_secs(60);
const MESSAGES: u8 = 40;

/// Sends a message of two bytes, and the next one when that one is confirmed by its number.
struct OneByOne {
    confirmed: Rc<RefCell<Vec<u8>>>,
}

impl OneByOne {
    fn send(number: u8, conn: &mut Conn<'_>) {
        conn.write(&[number, 0xaa]);
    }
}

impl Handler for OneByOne {
    type State = u8;

    fn on_accept(&mut self, _: &Peer) -> Option<u8> {
        Some(0)
    }

    fn on_open(&mut self, sent: &mut u8, conn: &mut Conn<'_>) {
        Self::send(*sent, conn);
    }

    fn on_data(&mut self, sent: &mut u8, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        for &number in input {
            assert_eq!(number, *sent, "what was sent last is confirmed, once");
            self.confirmed.borrow_mut().push(number);
            *sent += 1;
            match *sent {
                MESSAGES => conn.close(),
                _ => Self::send(*sent, conn),
            }
        }
        input.len()
    }
}

/// Confirms each message of two bytes by its number.
fn confirm(input: &[u8]) -> Reaction {
    match *input {
        [number, 0xaa, ..] => Reaction::Then(2, Script::new().send([number])),
        [_, other, ..] => panic!("{other} in place of the second byte"),
        _ => Reaction::Wait,
    }
}

fn serve(sim: &mut Simulation) -> std::io::Result<(SocketAddr, Rc<RefCell<Vec<u8>>>)> {
    let confirmed = Rc::new(RefCell::new(Vec::new()));
    let handler = OneByOne { confirmed: Rc::clone(&confirmed) };
    let (_, addr) = sim.host("server", |reactor| {
        let key = reactor.register(handler);
        reactor.listen("0.0.0.0:7000", key, ListenOptions::default())
    })?;
    Ok((addr, confirmed))
}

#[test]
fn a_peer_answers_what_came_until_the_other_side_ends() {
    Seeds::new(400).faults(Faults::harmless()).run(|sim| {
        let (addr, confirmed) = serve(sim)?;
        let peer = sim.peer(addr, Script::new().react(confirm).wait(Duration::from_millis(1)));
        sim.run(MINUTE);
        assert_eq!(*confirmed.borrow(), (0..MESSAGES).collect::<Vec<_>>());
        assert_eq!(sim.received(peer).len(), 2 * usize::from(MESSAGES));
        Ok(())
    });
}

#[test]
fn under_all_faults_what_is_confirmed_is_a_beginning() {
    Seeds::new(400).faults(Faults::all()).run(|sim| {
        let (addr, confirmed) = serve(sim)?;
        let peer = sim.peer(addr, Script::new().react(confirm));
        sim.run(MINUTE);
        let confirmed = confirmed.borrow();
        assert_eq!(*confirmed, (0..confirmed.len() as u8).collect::<Vec<_>>());
        if sim.end_of(peer) == PeerEnd::Finished {
            assert_eq!(confirmed.len(), usize::from(MESSAGES));
        }
        Ok(())
    });
}

#[test]
fn each_connection_of_a_listening_peer_reacts_to_its_own_bytes() {
    Seeds::new(200).faults(Faults::harmless()).run(|sim| {
        let addr = sim.listening_peer(8, Script::new().react(confirm).finish());
        let confirmed = Rc::new(RefCell::new(Vec::new()));
        let handler = OneByOne { confirmed: Rc::clone(&confirmed) };
        sim.host("client", |reactor| {
            let key = reactor.register(handler);
            for _ in 0..3 {
                reactor.connect(addr, key, 0, &ConnectOptions::default());
            }
            Ok(())
        })?;
        sim.run(MINUTE);
        let mut confirmed = confirmed.borrow().clone();
        confirmed.sort_unstable();
        let thrice = (0..MESSAGES).flat_map(|number| [number; 3]);
        assert_eq!(confirmed, thrice.collect::<Vec<_>>());
        Ok(())
    });
}

#[test]
fn steps_of_a_reaction_come_before_the_rest_and_a_reaction_ends_by_its_own_word() {
    let mut sim = Simulation::new(3, Faults::none());
    let (_, addr) = sim
        .host("server", |reactor| {
            let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
                conn.write(input);
                input.len()
            });
            reactor.listen("0.0.0.0:7000", echo, ListenOptions::default())
        })
        .unwrap();
    let react = |input: &[u8]| match input {
        b"" | b"a" => Reaction::Wait,
        b"ab" => Reaction::Then(1, Script::new().send("c").wait(Duration::from_secs(1)).send("d")),
        b"bcd" => Reaction::Done(2),
        _ => Reaction::Wait,
    };
    let rest = |input: &[u8]| match input {
        b"d" => Reaction::Done(1),
        other => panic!("the next reaction begins with {other:?}"),
    };
    let peer = sim.peer(addr, Script::new().send("ab").react(react).react(rest).send("e").finish());
    sim.run(MINUTE);
    assert_eq!(sim.received(peer), b"abcde");
    sim.finish();
}

#[test]
fn a_reaction_that_cannot_be_meant_ends_the_run() {
    let run = |react: fn(&[u8]) -> Reaction| {
        let mut sim = Simulation::new(1, Faults::none());
        sim.allow_unfinished();
        let (addr, _) = serve(&mut sim).unwrap();
        sim.peer(addr, Script::new().react(react));
        let panic = catch_unwind(AssertUnwindSafe(|| sim.run(MINUTE))).unwrap_err();
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap()
    };
    let text = run(|input| if input.is_empty() { Reaction::Wait } else { Reaction::Done(3) });
    assert!(text.ends_with("done with 3 bytes, and 2 are there"), "{text}");
    let text = run(|_| Reaction::Then(0, Script::new()));
    assert!(text.contains("no byte and no step"), "{text}");
}
