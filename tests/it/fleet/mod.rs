//! Several reactors that serve the same addresses: how connections spread, how a fleet stops, and
//! what happens when one of its reactors fails.

mod failure;
#[cfg(target_os = "linux")]
mod pinning;
mod publish;
#[cfg(unix)]
mod replace;
#[cfg(all(feature = "signals", unix))]
mod signals;
mod spread;
mod stop;
mod threads;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use waterwheel::fleet::{Balance, Fleet, FleetEnd, FleetHandle, FleetOptions, Member, Spread};
use waterwheel::{Conn, Handler, HandlerKey, ListenOptions, Peer};

use crate::support::{Client, End, PATIENCE};

const HOUR: Duration = Duration::from_secs(3_600);

/// All of them; Windows has no `SO_REUSEPORT`.
const SPREADS: [Spread; 4 + cfg!(unix) as usize] = [
    Spread::Shared,
    #[cfg(unix)]
    Spread::ReusePort,
    Spread::HandOver(Balance::LeastConnections),
    Spread::HandOver(Balance::RoundRobin),
    Spread::HandOver(Balance::SourceAddress),
];

/// Says which reactor it is in, then echoes; what it reads may make it panic.
struct Tell {
    index: u8,
    /// Who is refused.
    refuses: Option<IpAddr>,
    /// Whether it goes on when the reactor drains.
    lingers: bool,
}

impl Tell {
    fn new(member: &Member<'_>) -> Self {
        Self { index: member.index() as u8, refuses: None, lingers: false }
    }
}

impl Handler for Tell {
    type State = ();

    fn on_accept(&mut self, peer: &Peer) -> Option<()> {
        (self.refuses != Some(peer.addr.ip())).then_some(())
    }

    fn on_open(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        conn.write(&[self.index]);
    }

    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        assert!(input != b"boom", "on purpose");
        conn.write(input);
        input.len()
    }

    fn on_shutdown(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        if !self.lingers {
            conn.close();
        }
    }
}

fn register(member: &mut Member<'_>) -> HandlerKey<Tell> {
    let tell = Tell::new(member);
    member.reactor().register(tell)
}

/// Ends the fleet when the test is over, also when it has failed.
struct Running {
    fleet: Option<FleetHandle>,
    addr: SocketAddr,
}

impl Running {
    fn fleet(&self) -> &FleetHandle {
        self.fleet.as_ref().unwrap()
    }

    fn connections(&self) -> Vec<u64> {
        self.fleet().stats().members.iter().map(|stats| stats.connections).collect()
    }

    fn accepted(&self) -> Vec<u64> {
        self.fleet().stats().members.iter().map(|stats| stats.accepted).collect()
    }

    /// Which reactor serves a new client.
    fn client(&self) -> (Client, u8) {
        served(Client::connect(self.addr))
    }

    fn stop(mut self) -> FleetEnd {
        let fleet = self.fleet.take().unwrap();
        fleet.stop();
        fleet.join()
    }

    /// Waits for an end that something else has brought about.
    fn join(mut self) -> FleetEnd {
        self.fleet.take().unwrap().join()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(fleet) = self.fleet.take() {
            fleet.stop();
            let _ = fleet.join();
        }
    }
}

#[track_caller]
fn served(mut client: Client) -> (Client, u8) {
    let mut index = [0];
    io::Read::read_exact(&mut client.stream, &mut index).expect("it is served");
    (client, index[0])
}

fn options(threads: usize, spread: Spread) -> FleetOptions {
    FleetOptions::default().threads(Some(threads)).spread(spread)
}

fn start_with(
    options: FleetOptions,
    listen: ListenOptions,
    change: impl Fn(&mut Tell) + Send + Sync + 'static,
) -> Running {
    let (send, receive) = channel();
    let fleet = Fleet::new(options).unwrap();
    let fleet = fleet.start(move |member| {
        let mut tell = Tell::new(member);
        change(&mut tell);
        let service = member.reactor().register(tell);
        let addr = member.listen("127.0.0.1:0", service, listen.clone())?;
        let _ = send.send(addr);
        Ok(())
    });
    let addrs: HashSet<SocketAddr> = receive.iter().collect();
    assert_eq!(addrs.len(), 1, "all listen on the same port");
    Running { fleet: Some(fleet.unwrap()), addr: *addrs.iter().next().unwrap() }
}

fn start(threads: usize, spread: Spread) -> Running {
    start_with(options(threads, spread), ListenOptions::default(), |_| {})
}

fn expect_refused(addr: SocketAddr) {
    let error = TcpStream::connect_timeout(&addr, PATIENCE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

/// A client that is reset at once may find that out while it still connects.
#[track_caller]
fn expect_reset(addr: SocketAddr) {
    match TcpStream::connect(addr) {
        Ok(stream) => Client::from(stream).expect_end(End::Reset),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}
