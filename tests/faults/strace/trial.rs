//! One run of the server under strace, from start to end, and what came of it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::proc::descriptors;
use crate::program::{End, LOOK_AGAIN, Program};
use crate::tools;

use super::load::{Load, PATIENCE, Seen, Terms};
use super::table::{Cost, Row};

/// One error of one call, at its n-th occurrence since the program began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) row: &'static Row,
    pub(crate) errno: &'static str,
    pub(crate) occurrence: u32,
    /// Tells cases apart, also by the address that they use.
    pub(crate) number: u16,
}

/// What a fault came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// Nobody noticed.
    Survived,
    /// The connection that the call was for ended, and no other.
    ConnectionEnded,
    /// The server said why it cannot start, or what it could not do at its end: exit code 1.
    Error,
    /// The server said why it cannot go on: exit code 1.
    Stopped,
    /// The loader or the standard library gave up before `main`.
    BeforeMain,
    /// There was no such occurrence.
    NotReached,
}

/// All that is known of a run.
struct Evidence {
    seen: Seen,
    has_listened: bool,
    end: End,
    log: String,
}

impl Case {
    fn injection(&self) -> String {
        let Self { row: Row { call, .. }, errno, occurrence, .. } = self;
        match *call {
            "brk" => format!("inject=brk:retval=0:when={occurrence}"),
            call => format!("inject={call}:error={errno}:when={occurrence}"),
        }
    }

    fn terms(&self) -> Terms {
        Terms {
            nudges: self.row.loses_edge(self.errno),
            hides_ends: self.row.cost == Cost::Descriptor,
            // The drain shuts down each connection that it finds.
            held: if self.row.call == "shutdown" { 25 } else { 2 },
        }
    }

    /// Runs it; an error is a finding.
    pub(crate) fn run(&self) -> Result<Outcome, String> {
        let calls = format!("trace={},accept4,prlimit64", self.row.call);
        let arguments = ["--seccomp-bpf", "-e", &calls, "-e", &self.injection()];
        let spare = usize::from(self.row.cost == Cost::Descriptor);
        let silent = self.row.call == "write";
        let evidence = observe(self.number, &arguments, self.terms(), spare, silent)?;
        self.judge(&evidence)
    }

    fn judge(&self, evidence: &Evidence) -> Result<Outcome, String> {
        let Evidence { seen, has_listened, end, log } = evidence;
        let code = end.status.code();
        let Some(injected) = Injected::find(log) else {
            return expect_clean(evidence).map(|()| Outcome::NotReached);
        };
        if injected.is_before_main && !has_listened {
            return Ok(Outcome::BeforeMain);
        }
        let cost = self.row.cost_of(self.errno);
        let in_one_line = end.errors.starts_with("echo: ") && end.errors.lines().count() == 1;
        if code == Some(1) && in_one_line {
            let outcome = match cost {
                Cost::HandlerKey => return Ok(Outcome::Stopped),
                Cost::Start | Cost::WholeStart | Cost::Connection => Outcome::Error,
                _ => return Err(format!("costs the service: {}", end.errors.trim())),
            };
            // At the start, or behind the end of the last client. It may have said that it listens,
            // or have listened for a moment, and yet have taken no connection.
            let is_early = !log.lines().any(|line| accepted(line).is_some());
            return match is_early || seen.ended.is_empty() && !seen.is_gone {
                true => Ok(outcome),
                false => Err(format!("ends while it serves: {}", end.errors.trim())),
            };
        }
        expect_clean_end(end)?;
        if cost == Cost::WholeStart && !injected.is_before_main {
            return Err("goes on without".to_owned());
        }
        let is_hit = |port: &u16| injected.port == Some(*port);
        if let Some(port) = seen.ended.iter().chain(&seen.endless).find(|port| !is_hit(port)) {
            let hit = injected.port;
            return Err(format!("ends the connection of port {port}, the call was for {hit:?}"));
        }
        match seen.ended.is_empty() {
            true => Ok(Outcome::Survived),
            false if cost == Cost::Connection || cost == Cost::Descriptor => {
                Ok(Outcome::ConnectionEnded)
            }
            false => Err("ends a connection that it need not".to_owned()),
        }
    }
}

/// Runs the server without a fault; which calls it makes, in order, whether they fail or not.
pub(crate) fn record(held: usize) -> Result<Vec<String>, String> {
    let terms = Terms { nudges: false, hides_ends: false, held };
    let evidence = observe(0, &[], terms, 0, false)?;
    expect_clean(&evidence)?;
    let name = |line: &str| Some(line.split_once('(')?.0.split_whitespace().last()?.to_owned());
    Ok(evidence.log.lines().filter_map(name).collect())
}

/// Runs the server with these arguments of strace and all clients against it. It may keep
/// `spare` descriptors; a `silent` one may not get to say that it listens.
fn observe(
    number: u16,
    arguments: &[&str],
    terms: Terms,
    spare: usize,
    silent: bool,
) -> Result<Evidence, String> {
    let log = tools::scratch(&format!("strace-{number}.log"));
    // What an earlier run left would be taken for this one's.
    let _ = std::fs::remove_file(&log);
    let addr = address(number);
    let mut command = Command::new("strace");
    // -D: the server is our child, and strace is not between us. Where it crashes it may leave a
    // core in its directory.
    command.args(["-D", "-f", "-q", "-o"]).arg(&log).args(arguments);
    command.current_dir(env!("CARGO_TARGET_TMPDIR"));
    // Cargo sets it, and each of its folders would be some calls more of the loader.
    command.env_remove("LD_LIBRARY_PATH");
    command.arg(tools::program("echo")).args(["--listen", &addr.to_string()]);
    let mut server = Program::try_start(&mut command).map_err(|error| error.to_string())?;
    let patience = if silent { Duration::from_millis(500) } else { PATIENCE };
    let has_listened = match server.line(patience) {
        Ok(_) => true,
        Err(RecvTimeoutError::Disconnected) => false,
        Err(RecvTimeoutError::Timeout) if silent => true,
        Err(RecvTimeoutError::Timeout) => return Err("hangs: it does not start".to_owned()),
    };
    let mut load = Load::new(addr, terms);
    if has_listened {
        serve(&server, &mut load, spare)?;
    }
    let end = server.end(PATIENCE).ok_or("hangs: it does not end")?;
    let log = read_log(&log)?;
    Ok(Evidence { seen: load.seen, has_listened, end, log })
}

/// The life of a server that listens, up to the request to end.
fn serve(server: &Program, load: &mut Load, spare: usize) -> Result<(), String> {
    let most = descriptors(server.id()) + spare;
    load.serve()?;
    let deadline = Instant::now() + PATIENCE;
    while descriptors(server.id()) > most {
        if Instant::now() > deadline {
            let left = descriptors(server.id());
            return Err(format!("leaks: {left} descriptors without a client, {most} at first"));
        }
        thread::sleep(LOOK_AGAIN);
    }
    load.serve_fresh()?;
    load.drain(|| server.signal(Signal::TERM))
}

/// Nobody else binds these, so there is neither a port in use nor one to be told.
fn address(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    (Ipv4Addr::new(127, 77, high, low), 7000).into()
}

/// What strace wrote; it goes on writing for a moment after the server has ended.
fn read_log(path: &Path) -> Result<String, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.ends_with(" +++\n") {
            let _ = std::fs::remove_file(path);
            return Ok(text);
        }
        if Instant::now() > deadline {
            return Err(format!("strace does not end: {}", path.display()));
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// As if nothing had been injected.
fn expect_clean(evidence: &Evidence) -> Result<(), String> {
    let Evidence { seen, has_listened, end, .. } = evidence;
    expect_clean_end(end)?;
    match *has_listened && !seen.is_gone && seen.ended.is_empty() && seen.endless.is_empty() {
        true => Ok(()),
        false => Err(format!("does not serve, without any fault: {seen:?}")),
    }
}

fn expect_clean_end(end: &End) -> Result<(), String> {
    match end.status.success() && end.errors.is_empty() {
        true => Ok(()),
        false => Err(format!("{}: {}", end.status, end.errors.trim().replace('\n', " / "))),
    }
}

/// What the log says of the injection.
struct Injected {
    is_before_main: bool,
    /// The client whose connection it was.
    port: Option<u16>,
}

impl Injected {
    fn find(log: &str) -> Option<Self> {
        let (mut is_before_main, mut ports) = (true, HashMap::new());
        for line in log.lines() {
            // The first thing that the server does is to raise its limit.
            is_before_main &= !line.contains("RLIMIT_NOFILE");
            if line.contains("(INJECTED)") {
                let port = descriptor(line).and_then(|fd| ports.get(fd)).copied();
                return Some(Self { is_before_main, port });
            }
            if let Some((fd, port)) = accepted(line) {
                ports.insert(fd, port);
            }
        }
        None
    }
}

/// Of a successful accept, the descriptor and the client's port.
fn accepted(line: &str) -> Option<(&str, u16)> {
    let (_, rest) = line.split_once("accept4(")?.1.split_once("htons(")?;
    let port = rest.split_once(')')?.0.parse().ok()?;
    Some((rest.rsplit_once("= ")?.1.trim(), port))
}

/// The descriptor that a call is about: the first argument, of epoll_ctl the third.
fn descriptor(line: &str) -> Option<&str> {
    let (head, arguments) = line.split_once('(')?;
    let place = if head.ends_with("epoll_ctl") { 2 } else { 0 };
    arguments.split([',', ')']).nth(place).map(str::trim)
}
