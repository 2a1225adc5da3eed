//! The acceptor of a fleet: accepts, chooses, hands over.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use crate::fleet::options::Balance;
use crate::handler::Remote;
use crate::handler::{Loop, Message};
use crate::options::ListenOptions;
use crate::reactor::Reactor;
use crate::stream::{Handover, Load, Route, adopt, reset};
use crate::sys::Loose;

/// A reactor that connections are handed to.
#[derive(Debug)]
pub(super) struct Berth {
    pub(super) remote: Remote,
    pub(super) load: Arc<Load>,
    /// The listener there.
    pub(super) place: u32,
}

/// Deals the connections of one listener out.
#[derive(Debug)]
struct Dealer {
    balance: Balance,
    berths: Vec<Berth>,
    /// Whose turn it is.
    next: usize,
}

impl Dealer {
    /// The reactor that should have the connection.
    fn choose(&mut self, peer: SocketAddr) -> usize {
        let count = self.berths.len();
        let chosen = match self.balance {
            Balance::RoundRobin => self.next,
            // Of several with equally few the next in turn.
            Balance::LeastConnections => (self.next..self.next + count)
                .map(|at| at % count)
                .filter(|&at| !self.berths[at].load.is_leaving())
                .min_by_key(|&at| self.berths[at].load.connections())
                .unwrap_or(self.next),
            Balance::SourceAddress => {
                let mut hasher = DefaultHasher::new();
                peer.ip().hash(&mut hasher);
                (hasher.finish() % count as u64) as usize
            }
        };
        self.next = (chosen + 1) % count;
        chosen
    }

    /// Tries the chosen one and those behind it, as far as they are on the same side of a stop.
    fn offer(&self, chosen: usize, leaving: bool, mut stream: Loose, peer: SocketAddr) -> Offered {
        let count = self.berths.len();
        for berth in (chosen..chosen + count).map(|at| &self.berths[at % count]) {
            if berth.load.is_leaving() != leaving {
                continue;
            }
            let handed = Handover::new(stream, peer, berth.place, Arc::clone(&berth.load));
            let Err(message) = berth.remote.offer(Message::HandOver(Box::new(handed))) else {
                return Offered::Taken;
            };
            match message {
                Message::HandOver(handed) => match handed.take() {
                    Some((back, _)) => stream = back,
                    None => return Offered::Taken,
                },
                _ => return Offered::Taken,
            }
        }
        Offered::Back(stream)
    }
}

/// What became of a connection.
enum Offered {
    Taken,
    Back(Loose),
}

impl Route for Dealer {
    fn hand_over(&mut self, stream: Loose, peer: SocketAddr) -> bool {
        let chosen = self.choose(peer);
        // One that drains is asked last: it still serves what the acceptor has let in.
        let stream = match self.offer(chosen, false, stream, peer) {
            Offered::Taken => return true,
            Offered::Back(stream) => stream,
        };
        match self.offer(chosen, true, stream, peer) {
            Offered::Taken => true,
            Offered::Back(stream) => {
                log::debug!("{peer}: reset, no reactor is left");
                reset(stream.into_stream());
                false
            }
        }
    }
}

/// Serves a listening socket by handing its connections over.
pub(super) fn route(
    reactor: &mut Reactor,
    socket: TcpListener,
    options: &ListenOptions,
    balance: Balance,
    berths: Vec<Berth>,
) -> io::Result<()> {
    let Loop { streams, engine, .. } = reactor.event_loop_mut();
    let socket = adopt(engine, socket, options)?;
    // No handler of the acceptor is ever asked.
    let (place, _) = streams.add_listener(engine, socket, u32::MAX, options)?;
    if let Some(listener) = streams.listener_mut(place as usize) {
        listener.route = Some(Box::new(Dealer { balance, berths, next: 0 }));
    }
    Ok(())
}
