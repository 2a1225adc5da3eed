//! The client: connections with one message under way each.

use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::tls::ClientConfig;
use waterwheel::{Conn, ConnectOptions, Context, Handler, Peer, Reactor, Timer};

use crate::Result;
use crate::config;

/// What the client does.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) messages: u64,
    pub(crate) connections: usize,
    pub(crate) bytes: usize,
    /// How long the connections are kept idle at the end.
    pub(crate) hold: Duration,
}

/// Connections that are begun at once: fewer than a listener lets be in a handshake.
const AT_ONCE: usize = 500;

struct Client {
    message: Vec<u8>,
    left: u64,
    hold: Duration,
    /// Connections that are still to be begun, one whenever another has come up.
    unbegun: usize,
    begin: Box<dyn Fn(&mut Context<'_>)>,
    error: Option<std::io::Error>,
}

impl Handler for Client {
    /// Bytes of the answer that have come.
    type State = usize;

    fn on_accept(&mut self, _: &Peer) -> Option<usize> {
        None
    }

    fn on_open(&mut self, _: &mut usize, conn: &mut Conn<'_>) {
        if self.unbegun > 0 {
            self.unbegun -= 1;
            (self.begin)(&mut conn.context());
        }
        conn.write(&self.message);
    }

    fn on_data(&mut self, come: &mut usize, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        *come += input.len();
        if *come == self.message.len() {
            *come = 0;
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                conn.set_timer(self.hold, 0);
            } else if self.hold.is_zero() {
                conn.write(&self.message);
            }
        }
        input.len()
    }

    fn on_timer(&mut self, _: &mut usize, conn: &mut Conn<'_>, _: Timer) {
        conn.context().stop();
    }

    fn on_connect_failed(&mut self, _: usize, error: std::io::Error, cx: &mut Context<'_>) {
        self.error.get_or_insert(error);
        cx.stop();
    }
}

/// Sends messages until so many have come back; how many that were.
pub(crate) fn run(addr: SocketAddr, load: Load) -> Result<u64> {
    waterwheel::raise_open_file_limit()?;
    let mut reactor = Reactor::new()?;
    let config = ClientConfig::from_rustls(config::client()?);
    let options = ConnectOptions::default().tls(&config, "localhost");
    let client = reactor.register_with(|client| Client {
        message: vec![7; load.bytes],
        left: load.messages,
        hold: load.hold,
        unbegun: load.connections.saturating_sub(AT_ONCE),
        begin: Box::new(move |cx| _ = cx.connect(addr, client, 0, &options)),
        error: None,
    });
    reactor.remote().with(client, move |client, cx| {
        (0..load.connections.min(AT_ONCE)).for_each(|_| (client.begin)(cx));
    })?;
    reactor.run()?;
    let client = reactor.handler_mut(client).ok_or("the client is gone")?;
    match client.error.take() {
        Some(error) => Err(error.into()),
        None => Ok(load.messages),
    }
}
