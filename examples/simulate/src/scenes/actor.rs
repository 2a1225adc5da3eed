//! A handler that is put together for a scene.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use waterwheel::sim::{HostId, Simulation};
use waterwheel::{
    Conn, ConnId, Context, Handler, HandlerKey, Idle, IdleKind, ListenOptions, Peer,
    ReactorOptions, Remote, Timer, TimerHandler,
};

/// What a scene's server does in each callback.
pub(super) struct Actor {
    pub(super) open: fn(&mut Conn<'_>),
    pub(super) data: fn(&mut Actor, &mut Conn<'_>, &[u8]) -> usize,
    pub(super) eof: fn(&mut Conn<'_>),
    pub(super) shutdown: fn(&mut Conn<'_>),
    pub(super) timer: fn(&mut Actor, &mut Context<'_>, u64),
    /// A connection that it remembers.
    pub(super) known: Option<ConnId>,
    /// Spends virtual time, as a callback does that works for so long.
    pub(super) spend: Option<Box<dyn Fn(Duration)>>,
}

impl Actor {
    /// Sends back what comes in, and ends when its peer ends.
    pub(super) fn echo() -> Self {
        Self {
            open: |_| {},
            data: |_, conn, input| {
                conn.write(input);
                input.len()
            },
            eof: |conn| conn.close(),
            shutdown: |conn| conn.close(),
            timer: |_, _, _| {},
            known: None,
            spend: None,
        }
    }
}

impl Handler for Actor {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        (self.open)(conn);
    }

    fn on_data(&mut self, (): &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        (self.data)(self, conn, input)
    }

    fn on_eof(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        (self.eof)(conn);
    }

    fn on_idle(&mut self, (): &mut (), _: &mut Conn<'_>, _: IdleKind) -> Idle {
        Idle::Close
    }

    fn on_shutdown(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        (self.shutdown)(conn);
    }
}

impl TimerHandler for Actor {
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        (self.timer)(self, cx, timer.token);
    }
}

/// A server on its host.
pub(super) struct Server {
    pub(super) host: HostId,
    pub(super) addr: SocketAddr,
    pub(super) key: HandlerKey<Actor>,
    pub(super) remote: Remote,
}

/// Has an actor listen, with options of its reactor and so many descriptors.
pub(super) fn server_with(
    sim: &mut Simulation,
    actor: Actor,
    listen: ListenOptions,
    reactor: ReactorOptions,
    files: u64,
) -> io::Result<Server> {
    let (host, (addr, key, remote)) = sim.host_with("server", reactor, files, |reactor| {
        let key = reactor.register(actor);
        Ok((reactor.listen("0.0.0.0:7000", key, listen)?, key, reactor.remote()))
    })?;
    Ok(Server { host, addr, key, remote })
}

/// Has an actor listen.
pub(super) fn server(
    sim: &mut Simulation,
    actor: Actor,
    listen: ListenOptions,
) -> io::Result<Server> {
    server_with(sim, actor, listen, ReactorOptions::default(), 256)
}

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
