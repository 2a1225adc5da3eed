//! Peers of datagrams that answer what they are sent.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::sim::{Faults, Seeds};
use waterwheel::udp::{DatagramHandler, DatagramSocket, UdpOptions};
use waterwheel::{Timer, TimerId};

const MINUTE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(300);
const QUESTIONS: u8 = 20;

/// Asks one question after the other, each again until it is answered, as a resolver does.
struct Asks {
    answers: Rc<RefCell<Vec<u8>>>,
    again: Option<TimerId>,
}

impl Asks {
    fn ask(&mut self, socket: &mut DatagramSocket<'_>) {
        let number = self.answers.borrow().len() as u8;
        socket.send(&[number]);
        self.again = Some(socket.set_timer(AGAIN, 0));
    }
}

impl DatagramHandler for Asks {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, _: SocketAddr, bytes: &[u8]) {
        let expected = self.answers.borrow().len() as u8;
        if bytes != [expected, expected ^ 0xff] {
            assert!(bytes[0] < expected && bytes[1] == bytes[0] ^ 0xff, "{bytes:?}: an old one");
            return;
        }
        self.answers.borrow_mut().push(expected);
        if let Some(timer) = self.again.take() {
            socket.cancel_timer(timer);
        }
        if expected + 1 < QUESTIONS {
            self.ask(socket);
        } else {
            socket.close();
        }
    }

    fn on_timer(&mut self, socket: &mut DatagramSocket<'_>, _: Timer) {
        self.ask(socket);
    }
}

fn run(faults: Faults, is_complete: bool) {
    Seeds::new(300).faults(faults).run(|sim| {
        sim.allow_unfinished();
        let answer = |from, bytes: &[u8]| vec![(from, vec![bytes[0], bytes[0] ^ 0xff])];
        let (server, addr) = sim.datagram_peer(answer);
        let answers = Rc::new(RefCell::new(Vec::new()));
        let asks = Asks { answers: Rc::clone(&answers), again: None };
        let (_, local) = sim.host("client", |reactor| {
            let key = reactor.register(asks);
            let (id, local) = reactor.connect_udp(addr, key, UdpOptions::default())?;
            // The first question.
            reactor.context().socket(id).expect("it is new").set_timer(Duration::ZERO, 0);
            Ok(local)
        })?;
        sim.run(MINUTE);
        let came = sim.datagrams_of(server);
        assert!(came.iter().all(|(from, _)| *from == local), "{came:?}");
        let answers = answers.borrow();
        assert_eq!(*answers, (0..answers.len() as u8).collect::<Vec<_>>());
        if is_complete {
            assert_eq!(answers.len(), usize::from(QUESTIONS));
            let asked: Vec<u8> = came.iter().map(|(_, bytes)| bytes[0]).collect();
            assert_eq!(asked, *answers, "each question once, as none was lost");
        }
        Ok(())
    });
}

#[test]
fn a_peer_answers_each_datagram() {
    run(Faults::none(), true);
}

#[test]
fn what_is_lost_doubled_or_late_is_asked_again() {
    run(Faults::all(), false);
}

#[test]
fn a_peer_sends_of_its_own_accord_more_than_its_machine_takes_at_once() {
    Seeds::new(50).faults(Faults::none()).run(|sim| {
        let count = Rc::new(RefCell::new(0));
        let counts = Rc::clone(&count);
        let (_, addr) = sim.host("server", |reactor| {
            let key =
                reactor.register(move |_: &mut DatagramSocket<'_>, _: SocketAddr, bytes: &[u8]| {
                    assert_eq!(bytes.len(), 1_000);
                    *counts.borrow_mut() += 1;
                });
            reactor.bind_udp("0.0.0.0:7000", key, UdpOptions::default())
        })?;
        let (peer, _) = sim.datagram_peer(|_, _| Vec::new());
        let to = addr.1;
        for _ in 0..20 {
            sim.send_datagram(peer, to, [7; 1_000]);
        }
        sim.run(MINUTE);
        let datagrams = sim.datagrams();
        assert_eq!(datagrams.sent, 20, "all have left");
        assert_eq!(*count.borrow() + datagrams.overflowed, 20);
        assert!(*count.borrow() > 0);
        Ok(())
    });
}
