//! The server, its agent and its signals.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use support::{Args, Failure};
use waterwheel::proxy_protocol::ProxyProtocol;
use waterwheel::{
    Closed, Conn, Context, Handler, HandlerKey, ListenOptions, Peer, Reactor, Timer, TimerHandler,
    TimerId,
};

const OPTIONS: &str = "\
  --agent ADDR           where the balancer asks for the state [127.0.0.1:8001]
  --trust NETWORKS       whose headers are believed, with commas [127.0.0.0/8,::1]
  --lame-duck SECONDS    how long to accept after the balancer knows [0.5]
";

/// A balancer asks several times a second; if none has for so long, there is none.
const UNASKED: Duration = Duration::from_secs(5);

/// The service itself.
struct Echo {
    agent: HandlerKey<Agent>,
}

/// Whom a connection is for.
enum For {
    Client,
    /// The balancer itself, which looks whether the server is there.
    Check,
}

impl Handler for Echo {
    type State = For;

    fn on_accept(&mut self, peer: &Peer) -> Option<For> {
        log::debug!("{} through {:?}", peer.addr, peer.proxy);
        Some(if peer.destination.is_some() { For::Client } else { For::Check })
    }

    fn on_data(&mut self, _: &mut For, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.write(input);
        input.len()
    }

    /// The client ends it, when it has its answer.
    fn on_shutdown(&mut self, _: &mut For, _: &mut Conn<'_>) {}

    fn on_close(&mut self, whom: For, _: Closed, cx: &mut Context<'_>) {
        if matches!(whom, For::Check) {
            cx.post(self.agent, |agent, _| agent.on_checked());
        }
    }
}

/// Says whether the server wants connections.
struct Agent {
    service: HandlerKey<Agent>,
    /// From when the balancer knows to the closing of the listeners.
    lame_duck: Duration,
    /// From then to the end.
    drain: Duration,
    /// A signal has come.
    is_leaving: bool,
    /// The balancer has been told so, or has not asked for long.
    end: Option<TimerId>,
    /// The balancer has been told that the server is ready, and has looked at it since.
    has_said_ready: bool,
    is_in_service: bool,
}

impl Agent {
    fn leave(&mut self, cx: &mut Context<'_>) {
        self.is_leaving = true;
        self.end = Some(cx.set_timer(self.service, UNASKED, 0));
        log::info!("leaving");
    }

    fn on_checked(&mut self) {
        if self.has_said_ready && !self.is_in_service {
            self.is_in_service = true;
            support::say(format_args!("in service"));
        }
    }
}

impl Handler for Agent {
    /// Whether it was told that the server leaves.
    type State = bool;

    fn on_accept(&mut self, _: &Peer) -> Option<bool> {
        Some(self.is_leaving)
    }

    fn on_open(&mut self, leaves: &mut bool, conn: &mut Conn<'_>) {
        conn.write(if *leaves { b"drain\n" } else { b"up ready\n" });
        conn.close();
    }

    fn on_data(&mut self, _: &mut bool, _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }

    /// The balancer has the answer.
    fn on_close(&mut self, leaves: bool, closed: Closed, cx: &mut Context<'_>) {
        if closed.unsent_bytes > 0 {
            return;
        }
        if !leaves {
            self.has_said_ready = true;
        } else if let Some(unasked) = self.end.take() {
            cx.cancel_timer(unasked);
            cx.set_timer(self.service, self.lame_duck, 0);
        }
    }
}

impl TimerHandler for Agent {
    fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
        if self.end.is_some() {
            log::warn!("no balancer has asked for the state in {UNASKED:?}");
        }
        cx.drain(self.drain);
    }
}

pub(crate) fn run() -> ExitCode {
    support::run("behind_haproxy", OPTIONS, "127.0.0.1:7001", serve)
}

fn serve(args: &Args) -> Result<(), Failure> {
    let trusted = args.value("trust", "127.0.0.0/8,::1".to_owned())?;
    let trusted = ProxyProtocol::from_trusted(trusted.split(','))
        .map_err(|error| Failure::Usage(format!("--trust: {error}")))?;
    let agent_addr = args.value("agent", SocketAddr::from(([127, 0, 0, 1], 8001)))?;
    let lame_duck = args.seconds("lame-duck", 0.5)?;
    let drain = args.seconds("drain", 5.0)?;
    let mut reactor = Reactor::new()?;
    let agent = reactor.register_with(|service| Agent {
        service,
        lame_duck,
        drain,
        is_leaving: false,
        end: None,
        has_said_ready: false,
        is_in_service: false,
    });
    let echo = reactor.register(Echo { agent });
    leave_on_signals(&reactor, agent)?;
    let options = ListenOptions::default().idle_timeout(Duration::from_secs(60));
    args.listen(&mut reactor, echo, &options.clone().proxy_protocol(Some(trusted)))?;
    // Last: whoever hears "ready" may connect.
    let agent_addr = reactor.listen(agent_addr, agent, options)?;
    support::print(format_args!("agent on {agent_addr}"))?;
    Ok(reactor.run()?)
}

/// The first signal asks the agent to leave; the second ends the process at once.
fn leave_on_signals(reactor: &Reactor, agent: HandlerKey<Agent>) -> io::Result<()> {
    let (mut reader, writer) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        pipe::register(signal, writer.try_clone()?)?;
    }
    let remote = reactor.remote();
    thread::spawn(move || {
        while reader.read_exact(&mut [0]).is_ok() {
            let is_first = remote.with(agent, |agent, cx| {
                if agent.is_leaving {
                    cx.stop();
                } else {
                    agent.leave(cx);
                }
            });
            if is_first.is_err() {
                return; // it has ended meanwhile
            }
        }
    });
    Ok(())
}
