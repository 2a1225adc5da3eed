//! Shows several reactors that serve one address: how connections spread over them, what each
//! does, and how a new process takes over from the old one while clients keep coming. It echoes.
//!
//! ```text
//! cargo run --release -p fleet -- --threads 2 --spread least-connections
//! cargo run --release -p load -- --connect 127.0.0.1:7005
//! ```
//! A restart that no client notices; the second process gets the listening sockets of the first,
//! which then drains:
//! ```text
//! cargo run -p fleet -- --control /tmp/fleet.sock
//! cargo run -p fleet -- --control /tmp/fleet.sock --take-over /tmp/fleet.sock
//! ```
//! Started by systemd, or by what does the same in a shell:
//! ```text
//! cargo build -p fleet --features activation
//! systemd-socket-activate --listen 127.0.0.1:7005 target/debug/fleet
//! ```

use std::io::{self, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use support::{Args, Failure};
use waterwheel::fleet::{Fleet, FleetOptions, FleetStats, Member, Pinning, Spread};
use waterwheel::{Conn, Handler, IdleKind, ListenOptions, Peer};

#[cfg_attr(unix, path = "succession.rs")]
#[cfg_attr(not(unix), path = "no_succession.rs")]
mod succession;

use succession::{Control, Predecessor};

const OPTIONS: &str = "\
  --threads N            how many reactors; 0: one a core [0]
  --spread HOW           how connections spread [shared]: shared, reuse-port,
                         least-connections, round-robin, source-address
  --pin YES-OR-NO        whether each thread keeps to a core [no]
  --every SECONDS        print the counters so often; 0: never [1]
  --control PATH         hand the listening sockets on to whoever asks for them here; replaces
                         the socket of a process that has ended, or of the one to take over
  --take-over PATH       get them from a process that has this --control, and end it
";

/// Echoes. While the reactor drains it serves on those who have just come, since they may not have
/// been heard yet, and lets go who has nothing to say.
struct Echo;

/// Longest silence of a client while the reactor drains.
const SILENCE: Duration = Duration::from_secs(2);

impl Handler for Echo {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.write(input);
        input.len()
    }

    fn on_shutdown(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        conn.set_idle_timeout(IdleKind::Read, Some(SILENCE)).expect("it is in range");
    }
}

fn main() -> ExitCode {
    support::run("fleet", OPTIONS, "127.0.0.1:7005", serve)
}

fn serve(args: &Args) -> Result<(), Failure> {
    // First of all: it takes variables out of the environment, which threads might read.
    #[cfg(feature = "activation")]
    let activated = waterwheel::activated_listeners()?;
    #[cfg(not(feature = "activation"))]
    let activated = Vec::new();
    let threads: usize = args.value("threads", 0)?;
    let pinning = match args.value("pin", "no".to_owned())?.as_str() {
        "yes" => Pinning::Cores,
        "no" => Pinning::Off,
        other => return Err(Failure::Usage(format!("--pin is yes or no, not {other:?}"))),
    };
    let every = args.seconds("every", 1.0)?;
    let options = FleetOptions::default()
        .threads((threads > 0).then_some(threads))
        .spread(args.value("spread", Spread::Shared)?)
        .pinning(pinning);
    let mut fleet = Fleet::new(options)?;
    let drain = args.drain_on_signals(&mut fleet)?;

    let take_over: String = args.value("take-over", String::new())?;
    let control = Control::bind(&args.value("control", String::new())?, &take_over)?;
    let (predecessor, mut given) = Predecessor::ask(&take_over)?;
    given.extend(activated);
    let addrs = args.listen_addrs().to_vec();
    let fleet = fleet.start(move |member| set_up(member, &addrs, &given))?;
    // Goes with this function: by then nobody can be asked.
    let _name = control.wait_for_successor(fleet.remote(), drain)?;
    predecessor.dismiss()?;

    if !every.is_zero() {
        let remote = fleet.remote();
        // It ends with the process.
        thread::spawn(move || {
            loop {
                thread::sleep(every);
                // The reader may have gone; the clients have not.
                let _ = print(&remote.stats());
            }
        });
    }
    print(&fleet.join().into_result()?)?;
    Ok(())
}

/// Runs once for each reactor, on its thread.
fn set_up(member: &mut Member<'_>, addrs: &[String], given: &[TcpListener]) -> io::Result<()> {
    let echo = member.reactor().register(Echo);
    let options = ListenOptions::default().idle_timeout(Duration::from_secs(60));
    let mut bound = Vec::new();
    for listener in given {
        bound.push(member.adopt(listener, echo, options.clone())?);
    }
    if given.is_empty() {
        for addr in addrs {
            bound.push(member.listen(addr, echo, options.clone())?);
        }
    }
    if member.index() == 0 {
        for addr in bound {
            support::print(format_args!("listening on {addr}"))?;
        }
    }
    Ok(())
}

fn print(stats: &FleetStats) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (index, stats) in stats.members.iter().enumerate() {
        write!(out, "{index}: {} open, {} accepted; ", stats.connections, stats.accepted)?;
    }
    let total = &stats.total;
    writeln!(
        out,
        "in all {} open, {} accepted, {} refused, {} messages",
        total.connections, total.accepted, total.refused, total.reads
    )
}
