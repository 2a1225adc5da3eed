//! Curves of datagrams.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use waterwheel::Reactor;
use waterwheel::udp::{Session, SessionHandler, SessionOptions, UdpOptions};

use crate::curve::{Curve, Measure};
use crate::rig::Server;

/// Answers each peer with what it has sent.
struct Answering;

impl SessionHandler for Answering {
    type State = u64;

    fn on_session(&mut self, _: SocketAddr, _: &[u8]) -> Option<u64> {
        Some(0)
    }

    fn on_datagram(&mut self, count: &mut u64, session: &mut Session<'_>, bytes: &[u8]) {
        *count += 1;
        session.send(bytes);
    }
}

/// Sessions of peers, which take turns.
pub(crate) fn sessions(measure: &Measure) -> Curve {
    const DATAGRAMS: usize = 20_000;
    let what = ("sessions", "a datagram and its answer");
    measure.curve(what, &[1, 10, 100, 1_000, 10_000], |sessions| {
        let (server, addr) = Server::start(move |reactor: &mut Reactor| {
            let options = SessionOptions::default().max_sessions(sessions);
            let key = reactor.register(Answering);
            let bound = reactor.bind_sessions("127.0.0.1:0", key, options, UdpOptions::default());
            (key, bound.expect("it is bound").1)
        });
        let peer = |_| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
            socket.connect(addr).expect("an address");
            socket.set_read_timeout(Some(Duration::from_secs(60))).expect("an option");
            socket
        };
        let peers: Vec<UdpSocket> = (0..sessions).map(peer).collect();
        let ask = |peer: &UdpSocket| {
            peer.send(&[7; 64]).expect("it is sent");
            peer.recv(&mut [0; 64]).expect("the answer");
        };
        peers.iter().for_each(ask); // each begins its session
        (server.cost(|| peers.iter().cycle().take(DATAGRAMS).for_each(ask)), DATAGRAMS)
    })
}
