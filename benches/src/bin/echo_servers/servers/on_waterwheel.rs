//! The echo on waterwheel, with an idle timeout.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use waterwheel::{Conn, Handler, ListenOptions, Peer, Reactor, TcpOptions};

const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn run(listener: TcpListener) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let echo = reactor.register(Echo);
    // Without TCP keepalive, because the others have none: it is a timer of the kernel's for each
    // connection.
    let tcp = TcpOptions::default().keepalive(None);
    let options = ListenOptions::default().tcp(tcp).idle_timeout(IDLE_TIMEOUT);
    reactor.adopt(listener, echo, options)?;
    reactor.run()
}

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.write(input);
        input.len()
    }
}
