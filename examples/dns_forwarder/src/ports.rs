//! The ports that questions over UDP leave from: with the id of a question they are what a forger
//! has to guess (RFC 5452, 9.2).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::udp::{DatagramHandler, SocketId, UdpOptions};
use waterwheel::{Context, HandlerKey};

use crate::PATIENCE;

/// How many ports a question may leave from.
const PORTS: usize = 16;

/// Sockets that are connected to the server upstream, each at a port of the system's choice.
#[derive(Default)]
pub(crate) struct Ports {
    /// The addresses of the server.
    servers: Vec<SocketAddr>,
    /// Oldest first. The oldest is not drawn any more: it waits for its last answers.
    sockets: VecDeque<SocketId>,
    /// When the newest was opened.
    renewed: Duration,
}

impl Ports {
    pub(crate) fn open<H: DatagramHandler>(
        servers: Vec<SocketAddr>,
        by: HandlerKey<H>,
        cx: &mut Context<'_>,
    ) -> io::Result<Self> {
        let mut ports = Self { servers, ..Self::default() };
        for _ in 0..=PORTS {
            ports.add(by, cx)?;
        }
        Ok(ports)
    }

    fn add<H: DatagramHandler>(
        &mut self,
        by: HandlerKey<H>,
        cx: &mut Context<'_>,
    ) -> io::Result<()> {
        self.renewed = cx.now();
        let (id, _) = cx.connect_udp(&self.servers[..], by, &UdpOptions::default())?;
        self.sockets.push_back(id);
        Ok(())
    }

    pub(crate) fn has(&self, id: SocketId) -> bool {
        self.sockets.contains(&id)
    }

    /// The socket for a question, by a random number. Where no question waits on the oldest any
    /// more, a new one takes its place.
    pub(crate) fn draw<H: DatagramHandler>(
        &mut self,
        random: u64,
        by: HandlerKey<H>,
        cx: &mut Context<'_>,
    ) -> SocketId {
        if cx.now() >= self.renewed + PATIENCE && self.add(by, cx).is_ok() {
            let oldest = self.sockets.pop_front();
            if let Some(mut oldest) = oldest.and_then(|id| cx.socket(id)) {
                oldest.close();
            }
        }
        self.sockets[1 + random as usize % PORTS]
    }
}
