//! What is to be done, checked against what this process may do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use waterwheel::{ConnectOptions, Limits, TcpOptions};

use crate::http::Request;
pub(crate) use crate::mode::Mode;
use crate::tls::Tls;
use crate::units::{grouped, plural};
use crate::ws::Hello;

/// How a connection of a storm ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As connections do: FIN both ways. We close first, so our port rests in TIME_WAIT.
    Fin,
    /// At once, and the port is free at once.
    Reset,
    /// By the server, which each request asks for (HTTP).
    Server,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    /// The server; `None` is one in this process.
    pub(crate) target: Option<SocketAddr>,
    /// Connections; `None` until [`Plan::fit`] has said how many.
    pub(crate) connections: Option<usize>,
    /// Bytes of a message.
    pub(crate) size: usize,
    /// Messages in flight on a connection.
    pub(crate) depth: usize,
    /// Messages a second, or connections of a storm; `None` is as many as are answered.
    pub(crate) rate: Option<u32>,
    /// How long a datagram may stay without an answer before it is lost (udp).
    pub(crate) timeout: Duration,
    /// Connections begun and not ended, or not up.
    pub(crate) in_flight: usize,
    /// Loopback addresses to dial from.
    pub(crate) sources: Option<u8>,
    /// Of the held connections, those that exchange messages; `None` until [`Plan::fit`].
    pub(crate) active: Option<usize>,
    pub(crate) ending: Ending,
    /// What is asked for, if HTTP is spoken.
    pub(crate) http: Option<Request>,
    /// How WebSocket is asked for, if that is spoken.
    pub(crate) ws: Option<Hello>,
    /// What encrypts the connections.
    pub(crate) tls: Option<Tls>,
    /// What is measured.
    pub(crate) duration: Duration,
    /// What runs before and is not.
    pub(crate) warmup: Duration,
    pub(crate) seed: u64,
    pub(crate) json: bool,
    pub(crate) html: Option<PathBuf>,
    /// The open-file limit, once known; `None` is no limit.
    pub(crate) files: Option<u64>,
}

/// Descriptors for everything but connections: two polls with their wakers, listeners, the
/// standard streams, the page.
const FILES_APART: usize = 64;

/// Held connections if nobody says how many: enough to be interesting, dialled in a second.
const HELD: usize = 10_000;

/// Connections that one source address is asked to carry. Linux has 28,232 ports for them by
/// default and gives out those of one parity first: when these 14,116 are used up, each connect
/// searches them in vain, for milliseconds in which the loop stands still.
const CONNECTIONS_PER_SOURCE: usize = 10_000;

/// All messages in flight together; more would measure the swap.
const MOST_BYTES_IN_FLIGHT: usize = 1 << 30;

impl Plan {
    /// Fills in what depends on the open-file limit, and refuses what does not fit it.
    pub(crate) fn fit(mut self, files: Option<u64>) -> Result<Self, String> {
        self.files = files;
        let fitting = self.fitting();
        let asked = match self.mode {
            Mode::Storm => self.in_flight,
            Mode::Hold => self.connections.unwrap_or(HELD.min(fitting).max(1)),
            _ => self.connections.unwrap_or(64),
        };
        if asked > fitting {
            return Err(self.explain_misfit(asked, fitting));
        }
        self.connections = Some(asked);
        let in_flight = asked.saturating_mul(self.size).saturating_mul(self.depth);
        if in_flight > MOST_BYTES_IN_FLIGHT {
            return Err(format!(
                "{} with {} of {} bytes in flight are {} bytes; at most {} are kept in memory",
                plural(asked as u64, "connection"),
                plural(self.depth as u64, if self.http.is_some() { "request" } else { "message" }),
                grouped(self.size as u64),
                grouped(in_flight as u64),
                grouped(MOST_BYTES_IN_FLIGHT as u64),
            ));
        }
        match self.active {
            Some(active) if active > asked => {
                return Err(format!("--active {active} is more than {asked} connections"));
            }
            None => self.active = Some(10.min(asked)),
            _ => {}
        }
        Ok(self)
    }

    /// Connections that the open-file limit has room for.
    fn fitting(&self) -> usize {
        let Some(files) = self.files else {
            return usize::MAX;
        };
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        files.saturating_sub(FILES_APART) / self.files_each()
    }

    /// Descriptors of a connection: a server in this process has the other end.
    fn files_each(&self) -> usize {
        // A server of datagrams has one socket for all.
        if self.target.is_none() && self.mode != Mode::Udp { 2 } else { 1 }
    }

    fn explain_misfit(&self, asked: usize, fitting: usize) -> String {
        let option = match self.mode {
            Mode::Storm => "in-flight",
            _ => "connections",
        };
        let each = self.files_each();
        let (why, apart) = match each {
            1 => ("one each", ""),
            _ => (
                "two each, since the server is in this process too",
                "; or start the echo example and name it with --connect, which halves them",
            ),
        };
        let fewer = match fitting {
            0 => String::new(),
            _ => format!("take --{option} {fitting}, or "),
        };
        format!(
            "{} would take {} open files ({why}, and {FILES_APART} apart), the limit is {}: \
             {fewer}raise the limit (ulimit -n){apart}",
            plural(asked as u64, "connection"),
            grouped((asked * each + FILES_APART) as u64),
            grouped(self.files.unwrap_or(u64::MAX)),
        )
    }

    /// How many connections there are to be.
    pub(crate) fn connections(&self) -> usize {
        self.connections.unwrap_or_default()
    }

    /// How many of them are active while the rest idles.
    pub(crate) fn active(&self) -> usize {
        self.active.unwrap_or_default()
    }

    /// How many messages a second are asked for.
    pub(crate) fn rate(&self) -> u32 {
        self.rate.unwrap_or_default()
    }

    /// What the open-file limit is, for people.
    pub(crate) fn open_files(&self) -> String {
        match self.files {
            Some(files) => format!(
                "at most {} open files, room for {} connections",
                grouped(files),
                grouped(self.fitting() as u64)
            ),
            None => "no limit on open files".to_owned(),
        }
    }

    /// When the server in this process gives up on a silent connection.
    pub(crate) fn server_idle_timeout(&self) -> Duration {
        self.mode.server_idle_timeout(self.warmup + self.duration)
    }

    /// How many addresses are dialled from.
    pub(crate) fn sources(&self) -> u8 {
        let target = self.target.map(|addr| addr.ip());
        let may_choose = cfg!(target_os = "linux")
            && target.is_none_or(|ip| matches!(ip, IpAddr::V4(ip) if ip.is_loopback()));
        match self.sources {
            Some(sources) => sources,
            None if may_choose => {
                let needed = self.connections().div_ceil(CONNECTIONS_PER_SOURCE);
                u8::try_from(needed).unwrap_or(254).clamp(1, 254)
            }
            None => 1,
        }
    }

    /// Options of the connections, one for each source, to be used in turn.
    pub(crate) fn connect_options(&self) -> Vec<ConnectOptions> {
        let most_output = (self.size * self.depth * 2).max(16 << 20);
        // Both ends may have more on the way than the buffers between them hold. If this end
        // stopped reading until the other has read, which waits for this end to read, nothing
        // would move again.
        let limits = Limits::default().max_output_bytes(most_output).pause_at_high_mark(false);
        let tcp = match self.mode {
            // Thousands of ports at a time: ended with FIN they would rest in TIME_WAIT, and be
            // missing when the next run begins within a minute.
            Mode::Hold => TcpOptions::default().linger(Some(Duration::ZERO)),
            _ => TcpOptions::default(),
        };
        let options = ConnectOptions::default().timeout(CONNECT_TIMEOUT).limits(limits).tcp(tcp);
        let options = match &self.tls {
            Some(tls) => tls.encrypt(options),
            None => options,
        };
        match self.sources() {
            1 => vec![options],
            sources => (1..=sources)
                .map(|last| {
                    let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
                    options.clone().source(Some(source))
                })
                .collect(),
        }
    }
}

/// What a datagram needs to be recognized by.
pub(crate) const UDP_HEADER_BYTES: usize = 20;

/// The most that UDP carries: 65,535 bytes are a datagram with its header of 8, over IPv4 with
/// that header's 20 too.
pub(crate) fn most_datagram_bytes(target: Option<SocketAddr>) -> usize {
    match target {
        Some(SocketAddr::V6(_)) => 65_527,
        _ => 65_507,
    }
}

/// How long a dial may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
