//! What the programs share: the command line of a server, the signals, and what a process says.
//!
//! Exit codes: 0 after SIGINT or SIGTERM, 2 for a bad option, 1 for everything else that fails.
//!
//! The macros `println!` and `eprintln!` panic when the reader has gone or the disk is full, so no
//! program uses them. What it cannot print when it starts ends it with an error. What it cannot
//! print later is lost, and the clients are served.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::{Arguments, Display};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use waterwheel::fleet::Fleet;
use waterwheel::{Handler, HandlerKey, ListenOptions, Reactor};

mod signals;
#[cfg_attr(not(feature = "tls"), path = "tls_stub.rs")]
mod tls;

pub use signals::{drain_fleet_on_signals, drain_on_signals};
pub use tls::{Tls, encrypt_connects};

/// What every server takes, for its `--help`.
const COMMON: &str = "\
  --listen ADDR          listen here, may be given again; port 0: any
  --drain SECONDS        how long connections may take to end after SIGINT or SIGTERM [5]
  --help";

/// Where the certificate of a server comes from.
#[derive(Clone, Debug)]
pub enum CertificateSource {
    /// Files of PEM text: the certificate with its chain, and its key.
    Files(String, String),
    /// One for `localhost` that the program makes at its start.
    SelfSigned,
}

/// Whose certificates the clients of a server show.
#[derive(Clone, Debug)]
pub struct ClientRoots {
    /// A file of PEM text: what has signed theirs.
    pub file: String,
    /// A client may show none.
    pub is_optional: bool,
}

/// Why a program does not run.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// The system refuses something.
    System(Box<dyn Error>),
}

impl Failure {
    /// Prints a line on standard error. Returns the exit code.
    fn tell(self, name: &str) -> ExitCode {
        match self {
            Self::Usage(text) => {
                complain(name, format_args!("{text}; see --help"));
                ExitCode::from(2)
            }
            Self::System(error) => {
                complain(name, error);
                ExitCode::FAILURE
            }
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::System(error.into())
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

/// The option that has two values: the files of a certificate and of its key.
const PAIR: &str = "tls";

/// The command line of a server: each option has a value.
#[derive(Debug)]
pub struct Args {
    /// Where to listen.
    listen: Vec<String>,
    /// The other options, by name.
    values: HashMap<String, String>,
    /// The second value of the option that has two.
    key: String,
}

impl Args {
    /// An option's value, or the default.
    pub fn value<T: FromStr>(&self, name: &str, default: T) -> Result<T, Failure> {
        match self.values.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| Failure::Usage(format!("{text:?} is no value of --{name}"))),
        }
    }

    /// An option's value, a number of seconds.
    pub fn seconds(&self, name: &str, default: f64) -> Result<Duration, Failure> {
        let seconds: f64 = self.value(name, default)?;
        Duration::try_from_secs_f64(seconds)
            .map_err(|error| Failure::Usage(format!("--{name} {seconds}: {error}")))
    }

    /// Has the connections of a listener encrypted if `--tls CERT KEY` asks for it; `program` is
    /// who is asked.
    pub fn encrypt(&self, program: &str, options: ListenOptions) -> Result<ListenOptions, Failure> {
        let Some(chain) = self.values.get(PAIR) else { return Ok(options) };
        let source = CertificateSource::Files(chain.clone(), self.key.clone());
        Ok(Tls::new(program, &source).map_err(Failure::System)?.encrypt(options))
    }

    /// Where to listen, for a server that does it by itself.
    pub fn listen_addrs(&self) -> &[String] {
        &self.listen
    }

    /// Drains a fleet when a signal asks the process to end. Returns the deadline.
    pub fn drain_on_signals(&self, fleet: &mut Fleet) -> Result<Duration, Failure> {
        let drain = self.seconds("drain", 5.0)?;
        signals::drain_fleet_on_signals(fleet, drain)?;
        Ok(drain)
    }

    /// Listens, says where, and turns until a signal has ended it.
    pub fn serve<H: Handler>(
        &self,
        reactor: &mut Reactor,
        service: HandlerKey<H>,
        options: &ListenOptions,
    ) -> Result<(), Failure> {
        let drain = self.seconds("drain", 5.0)?;
        // Who has read where it listens may ask it to end.
        signals::drain_on_signals(reactor, drain)?;
        self.listen(reactor, service, options)?;
        Ok(reactor.run()?)
    }

    /// Listens, and says where.
    pub fn listen<H: Handler>(
        &self,
        reactor: &mut Reactor,
        service: HandlerKey<H>,
        options: &ListenOptions,
    ) -> Result<(), Failure> {
        for addr in &self.listen {
            let addr = reactor.listen(addr, service, options.clone())?;
            print(format_args!("listening on {addr}"))?;
        }
        Ok(())
    }
}

/// Runs a server. `own` describes its own options, in lines of a `--help` that begin with `--NAME`.
pub fn run(
    name: &str,
    own: &str,
    default_addr: &str,
    serve: impl FnOnce(&Args) -> Result<(), Failure>,
) -> ExitCode {
    init_log("info");
    let result = parse(own, default_addr).and_then(|args| match args {
        Some(args) => {
            raise_limit()?;
            serve(&args)?;
            Ok(ExitCode::SUCCESS)
        }
        None => show(format_args!(
            "usage: {name} [options]\n{own}{COMMON}\n\
             Without --listen it listens on {default_addr}."
        )),
    });
    result.unwrap_or_else(|failure| failure.tell(name))
}

/// Runs a program that has parsed its command line by itself; `None` asked for the usage.
pub fn run_parsed<A>(
    name: &str,
    usage: &str,
    parsed: Result<Option<A>, lexopt::Error>,
    run: impl FnOnce(A) -> Result<ExitCode, Box<dyn Error>>,
) -> ExitCode {
    let result = match parsed {
        Ok(Some(args)) => run(args).map_err(Failure::System),
        Ok(None) => show(format_args!("{usage}")),
        Err(error) => Err(error.into()),
    };
    result.unwrap_or_else(|failure| failure.tell(name))
}

fn show(usage: Arguments<'_>) -> Result<ExitCode, Failure> {
    print(usage)?;
    Ok(ExitCode::SUCCESS)
}

/// Logs to standard error, from this level on unless `RUST_LOG` asks for another. The time of a
/// line is in seconds since the start.
pub fn init_log(default_level: &str) {
    let start = Instant::now();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(default_level))
        .format(move |out, record| {
            let (time, level) = (start.elapsed().as_secs_f64(), record.level());
            writeln!(out, "[{time:.3} {level} {}] {}", record.target(), record.args())
        })
        .init();
}

/// Prints a line on standard output.
///
/// # Errors
/// - standard output is a pipe whose reader has gone, or a file on a full disk
pub fn print(line: Arguments<'_>) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Prints a line on standard output, or loses it: a server goes on when its reader has gone.
pub fn say(line: Arguments<'_>) {
    let _ = print(line);
}

/// Prints a line on standard error that begins with the name of the program, or loses it.
fn complain(name: &str, error: impl Display) {
    let _ = writeln!(io::stderr(), "{name}: {error}");
}

/// The longest limit of time that the library takes, 49 days.
const LONGEST_LIMIT: Duration = Duration::from_secs(49 * 24 * 60 * 60);

/// Checks an option that limits a time. The library would say the same, but of a name of its own,
/// and of some options not before a client is there.
pub fn check_limit(name: &str, limit: Duration) -> Result<Duration, String> {
    let shortest = Duration::from_millis(1);
    if (shortest..=LONGEST_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    let (given, least) = (limit.as_secs_f64(), shortest.as_secs_f64());
    let most = LONGEST_LIMIT.as_secs();
    Err(format!("--{name} {given}: must be from {least} to {most} seconds"))
}

/// An address as people and other programs know it: an IPv4 client of a listener for both families
/// is `::ffff:a.b.c.d` to the system.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, addr.port())),
        IpAddr::V6(_) => addr, // with its zone
    }
}

/// Allows this process as many open files as the system does, and logs how many.
///
/// # Errors
/// - the system refuses to tell or to set the limit
pub fn raise_limit() -> io::Result<()> {
    match waterwheel::raise_open_file_limit()? {
        Some(files) => log::info!("at most {files} open files"),
        None => log::info!("no limit on open files"),
    }
    Ok(())
}

/// `None` asks for the usage.
fn parse(own: &str, default_addr: &str) -> Result<Option<Args>, Failure> {
    use lexopt::prelude::*;
    let mut args = Args { listen: Vec::new(), values: HashMap::new(), key: String::new() };
    let names = || own.lines().filter_map(|line| line.split_whitespace().next());
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("listen") => {
                let addr = parser.value()?.string()?;
                Reactor::new()?
                    .resolve_now(&addr)
                    .map_err(|error| Failure::Usage(format!("--listen: {error}")))?;
                args.listen.push(addr);
            }
            Long("help") | Short('h') => return Ok(None),
            Long(name)
                if name == "drain" || names().any(|own| own.strip_prefix("--") == Some(name)) =>
            {
                let name = name.to_owned();
                let value = parser.value()?.string()?;
                if name == PAIR {
                    args.key = parser.value()?.string()?;
                }
                args.values.insert(name, value);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    if args.listen.is_empty() {
        args.listen.push(default_addr.to_owned());
    }
    Ok(Some(args))
}
