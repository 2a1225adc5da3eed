//! On waterwheel, with an idle timeout on each connection.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use waterwheel::udp::{DatagramHandler, DatagramSocket, UdpOptions};
use waterwheel::{
    Conn, ConnId, Context, Handler, HandlerKey, ListenOptions, Peer, Reactor, TcpOptions, Timer,
    TimerHandler,
};

use super::Start;
use crate::order::{FILE_BYTES, MESSAGE_BYTES, Order};

const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn run(start: Start) -> io::Result<()> {
    let Start { listener, datagrams, file } = start;
    let mut reactor = Reactor::new()?;
    let file = Arc::new(file);
    let key = reactor.register_with(|key| Server {
        key,
        file,
        members: Vec::new(),
        timers: 0,
        asks: None,
    });
    let tcp = TcpOptions::default().keepalive(None);
    let addr = listener.local_addr()?;
    reactor.adopt(listener, key, ListenOptions::default().tcp(tcp).idle_timeout(IDLE_TIMEOUT))?;
    drop(datagrams); // the address is free for one of the reactor's
    reactor.bind_udp(addr, key, UdpOptions::default())?;
    reactor.run()
}

struct Server {
    key: HandlerKey<Server>,
    file: Arc<File>,
    members: Vec<ConnId>,
    /// Timers that have not fired.
    timers: usize,
    /// Who is told when all have.
    asks: Option<ConnId>,
}

impl Server {
    fn obey(&mut self, order: Order, conn: &mut Conn<'_>, input: &[u8]) -> io::Result<()> {
        match order {
            Order::Echo => {}
            Order::Join => self.members.push(conn.id()),
            Order::Publish => {
                let mut cx = conn.context();
                for &id in &self.members {
                    if let Some(mut member) = cx.conn(id) {
                        member.write(input);
                    }
                }
            }
            Order::Timers { count, wait } => {
                self.timers += count as usize;
                self.asks = Some(conn.id());
                let mut cx = conn.context();
                for token in 0..count {
                    cx.set_timer(self.key, wait, token.into());
                }
            }
            Order::File => return conn.send_file(Arc::clone(&self.file), ..FILE_BYTES).map(drop),
        }
        conn.write(input);
        Ok(())
    }
}

impl Handler for Server {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        if self.obey(Order::of(input), conn, input).is_err() {
            conn.abort();
        }
        input.len()
    }
}

impl TimerHandler for Server {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        self.timers -= 1;
        if self.timers == 0
            && let Some(mut conn) = self.asks.and_then(|id| cx.conn(id))
        {
            conn.write(&[0; MESSAGE_BYTES]);
        }
    }
}

impl DatagramHandler for Server {
    fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, _: SocketAddr, _: &[u8]) {}
}
