//! The server process: an echo server that holds idle limits, in one reactor.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use waterwheel::{
    CloseReason, Closed, Conn, ConnId, Context, Handler, IdleKind, ListenOptions, Peer, Reactor,
    ReactorOptions, TcpOptions,
};

use crate::parts::obey;

pub(super) const PORT: u16 = 7000;

/// The idle limit of every connection, armed from its first moment on; longer than the test.
pub(super) const LONG: Duration = Duration::from_secs(3_600);

/// The idle limit that the connections are given in the end, all at once.
pub(super) const SHORT: Duration = Duration::from_secs(5);

/// Losses that are told one by one: of the same kind there may be hundreds of thousands.
pub(super) const EXAMPLES: usize = 10;

struct Echo {
    /// Who there is, to be given another limit: eight bytes a connection, which are the test's own
    /// and are counted with what a connection costs.
    ids: Vec<ConnId>,
    /// Connections that ended otherwise than by their idle limit.
    lost: usize,
}

pub(super) fn serve(connections: usize) {
    waterwheel::raise_open_file_limit().expect("room for its files");
    let options = ReactorOptions::default().max_connections(Some(connections));
    let mut reactor = Reactor::with_options(options).expect("a reactor");
    let echo = reactor.register(Echo { ids: Vec::with_capacity(connections), lost: 0 });
    // A million connections' keepalive probes, some 17,000 a second, are more than the machine's
    // one processor always answers in time: its TCP would give up peers that are well.
    let tcp = TcpOptions::default().keepalive(None);
    let options = ListenOptions::default().idle_timeout(LONG).tcp(tcp);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    reactor.listen(address, echo, options).expect("listens");
    obey(&reactor, echo, |echo, order, cx| echo.obey(order, cx));
    println!("\nready");
    reactor.run().expect("turns");
}

impl Handler for Echo {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        self.ids.push(conn.id());
    }

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.write(input);
        input.len()
    }

    fn on_close(&mut self, (): (), closed: Closed, _: &mut Context<'_>) {
        if matches!(closed.reason, CloseReason::Idle) {
            return;
        }
        self.lost += 1;
        if self.lost <= EXAMPLES {
            eprintln!("the server has lost {:?}: {}", closed.id, closed.reason);
        }
    }
}

impl Echo {
    fn obey(&mut self, order: &str, cx: &mut Context<'_>) {
        match order {
            "expire" => self.expire(cx),
            "count" => {}
            _ => panic!("{order}?"),
        }
        let stats = cx.stats();
        println!(
            "count: {} open, {} accepted, {} refused, {} closed, {} idle",
            stats.connections, stats.accepted, stats.refused, stats.closed, stats.closed_idle
        );
    }

    fn expire(&mut self, cx: &mut Context<'_>) {
        for &id in &self.ids {
            let mut conn = cx.conn(id).expect("it is there");
            conn.set_idle_timeout(IdleKind::All, Some(SHORT)).expect("a limit");
        }
    }
}
