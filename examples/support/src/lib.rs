//! What the small servers share: the command line, the signals, and what the process says when
//! it ends.
//!
//! Exit codes: 0 after SIGINT or SIGTERM, 2 for a bad option, 1 for everything else that fails.
#![allow(dead_code)] // Each example uses a part of it.

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use waterwheel::{Address, Fleet, Handler, ListenOptions, Reactor, Service};

mod signals;

/// What every server takes, for its `--help`.
const COMMON: &str = "\
  --listen ADDR          listen here, may be given again; port 0: any
  --drain SECONDS        how long connections may take to end after SIGINT or SIGTERM [5]
  --help";

/// Why a server does not run.
pub(crate) enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// The system refuses something.
    System(Box<dyn Error>),
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

/// The command line: each option has a value.
pub(crate) struct Args {
    /// Where to listen.
    listen: Vec<String>,
    /// The other options, by name.
    values: HashMap<String, String>,
}

impl Args {
    /// An option's value, or the default.
    pub(crate) fn value<T: FromStr>(&self, name: &str, default: T) -> Result<T, Failure> {
        match self.values.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| Failure::Usage(format!("{text:?} is no value of --{name}"))),
        }
    }

    /// An option's value, a number of seconds.
    pub(crate) fn seconds(&self, name: &str, default: f64) -> Result<Duration, Failure> {
        let seconds: f64 = self.value(name, default)?;
        Duration::try_from_secs_f64(seconds)
            .map_err(|error| Failure::Usage(format!("--{name} {seconds}: {error}")))
    }

    /// Where to listen, for a server that does it by itself.
    pub(crate) fn listen_addrs(&self) -> &[String] {
        &self.listen
    }

    /// Drains a fleet when a signal asks the process to end; gives the deadline.
    pub(crate) fn drain_on_signals(&self, fleet: &mut Fleet) -> Result<Duration, Failure> {
        let drain = self.seconds("drain", 5.0)?;
        signals::drain_fleet_on_signals(fleet, drain)?;
        Ok(drain)
    }

    /// Listens, says where, and turns until a signal has ended it.
    pub(crate) fn serve<H: Handler>(
        &self,
        reactor: &mut Reactor,
        service: Service<H>,
        options: &ListenOptions,
    ) -> Result<(), Failure> {
        let drain = self.seconds("drain", 5.0)?;
        // Who has read where it listens may ask it to end.
        signals::drain_on_signals(reactor, drain)?;
        self.listen(reactor, service, options)?;
        Ok(reactor.run()?)
    }

    /// Listens, and says where.
    pub(crate) fn listen<H: Handler>(
        &self,
        reactor: &mut Reactor,
        service: Service<H>,
        options: &ListenOptions,
    ) -> Result<(), Failure> {
        for addr in &self.listen {
            let addr = reactor.listen(addr, service, options.clone())?;
            println!("listening on {addr}");
        }
        Ok(io::stdout().flush()?)
    }
}

/// Runs a server. `own` tells of its own options, in lines of a `--help` that begin with `--NAME`.
pub(crate) fn run(
    name: &str,
    own: &str,
    default_addr: &str,
    serve: impl FnOnce(&Args) -> Result<(), Failure>,
) -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let result = parse(own, default_addr).and_then(|args| match args {
        Some(args) => raise_limit().and_then(|()| serve(&args)),
        None => {
            println!("usage: {name} [options]\n{own}{COMMON}");
            println!("Without --listen it listens on {default_addr}.");
            Ok(())
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            eprintln!("{name}: {text}; see --help");
            ExitCode::from(2)
        }
        Err(Failure::System(error)) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn raise_limit() -> Result<(), Failure> {
    match waterwheel::raise_open_file_limit()? {
        Some(files) => log::info!("at most {files} open files"),
        None => log::info!("no limit on open files"),
    }
    Ok(())
}

/// `None` asks for the usage.
fn parse(own: &str, default_addr: &str) -> Result<Option<Args>, Failure> {
    use lexopt::prelude::*;
    let mut args = Args { listen: Vec::new(), values: HashMap::new() };
    let names = || own.lines().filter_map(|line| line.split_whitespace().next());
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("listen") => {
                let addr = parser.value()?.string()?;
                addr.to_socket_addr()
                    .map_err(|error| Failure::Usage(format!("--listen: {error}")))?;
                args.listen.push(addr);
            }
            Long("help") | Short('h') => return Ok(None),
            Long(name)
                if name == "drain" || names().any(|own| own.strip_prefix("--") == Some(name)) =>
            {
                let name = name.to_owned();
                let value = parser.value()?.string()?;
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
