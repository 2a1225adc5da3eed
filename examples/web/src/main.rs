//! An HTTP server: texts, JSON, bodies, and answers of a MiB. The one to put a load on.
//!
//! ```text
//! cargo run --release -p web
//! curl http://127.0.0.1:8080/user/42
//! curl -d hello http://127.0.0.1:8080/len
//! cargo run --release -p web -- --files .
//! curl -r 0-99 http://127.0.0.1:8080/s/README.md
//! echo secret | cargo run --release -p web --features db -- --db web.db --add-user ann
//! cargo run --release -p web --features db -- --db web.db --uploads /tmp/uploads
//! ```
//!
//! The last one has `/upload`, and `/login` and `/notes` for its users.

#[cfg_attr(not(feature = "db"), path = "accounts_stub.rs")]
mod accounts;
mod html;
mod routes;
mod uploads;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use accounts::Accounts;
use support::{CertificateSource, Tls, print};
use waterwheel::fleet::{Fleet, FleetOptions};
use waterwheel::{ListenOptions, Reactor, http};

const USAGE: &str = "\
usage: web [options]
  --listen ADDR        listen here, may be given again [127.0.0.1:8080]; port 0: any
  --threads N          a fleet of so many reactors; 0: one a core [no fleet]
  --echo               answer every other path and method with the body of the request
  --files DIR          serve the files of a directory below /s/
  --uploads DIR        have /upload, and write what is uploaded to a directory of its own; the
                       quota of 4 GiB and 1,000 files is that of one thread
  --db FILE            have /login and /notes, in a database of SQLite (feature `db`)
  --keys FILE          the keys of the sessions' cookies; without it sessions end with the program
  --add-user NAME      add a user to the database, or change a password, which is read from
                       standard input, and end
  --log                print a line for each request
  --tls CERT KEY       HTTPS, with a certificate and its key from files of PEM text, which are
                       read anew at SIGHUP
  --tls-self-signed    HTTPS, with a certificate for localhost that nobody trusts
  --help";

/// How long connections may take to end after SIGINT or SIGTERM.
const DRAIN: Duration = Duration::from_secs(5);

struct Args {
    listen: Vec<String>,
    options: ListenOptions,
    fleet: FleetOptions,
    routes: routes::Wanted,
    tls: Option<CertificateSource>,
    database: Option<PathBuf>,
    keys: Option<PathBuf>,
    new_user: Option<String>,
}

fn main() -> ExitCode {
    support::init_log("info");
    support::run_parsed("web", USAGE, parse(), serve)
}

fn serve(mut args: Args) -> Result<ExitCode, Box<dyn Error>> {
    if let Some(path) = &args.database {
        let accounts = Accounts::open(path, args.keys.as_deref(), args.tls.is_some())?;
        if let Some(name) = &args.new_user {
            let mut password = String::new();
            io::stdin().read_line(&mut password)?;
            accounts.add_user(name, password.trim_end_matches(['\r', '\n']))?;
            return Ok(ExitCode::SUCCESS);
        }
        args.routes.accounts = Some(accounts);
    }
    support::raise_limit()?;
    if let Some(source) = &args.tls {
        args.options = Tls::new("web", source)?.encrypt(args.options);
    }
    if args.fleet.threads.is_some() {
        return serve_as_fleet(args);
    }
    let mut reactor = Reactor::new()?;
    let web = routes::register(&mut reactor, &args.routes)?;
    support::drain_on_signals(&mut reactor, DRAIN)?;
    for addr in &args.listen {
        let addr = reactor.listen(addr, web, args.options.clone())?;
        print(format_args!("listening on {addr}"))?;
    }
    reactor.run()?;
    Ok(ExitCode::SUCCESS)
}

fn serve_as_fleet(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let Args { listen, options, mut fleet, routes, .. } = args;
    fleet.threads = fleet.threads.filter(|&threads| threads > 0);
    let mut fleet = Fleet::new(fleet)?;
    support::drain_fleet_on_signals(&mut fleet, DRAIN)?;
    fleet.run(move |member| -> io::Result<()> {
        let web = routes::register(member.reactor(), &routes)?;
        for addr in &listen {
            let addr = member.listen(addr, web, options.clone())?;
            if member.index() == 0 {
                print(format_args!("listening on {addr}"))?;
            }
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `None` asks for the usage.
fn parse() -> Result<Option<Args>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut listen = Vec::new();
    // Requests know nothing of each other, so a newcomer may overtake an end.
    let options = ListenOptions::default().limits(http::limits()).read_at_accept(true);
    let mut fleet = FleetOptions::default();
    let mut routes = routes::Wanted::default();
    let (mut database, mut keys, mut new_user) = (None, None, None);
    let mut tls = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("listen") => listen.push(parser.value()?.string()?),
            Long("threads") => fleet.threads = Some(parser.value()?.parse()?),
            Long("echo") => routes.echo = true,
            Long("files") => routes.files = Some(parser.value()?.into()),
            Long("uploads") => routes.uploads = Some(parser.value()?.into()),
            Long("db") => database = Some(PathBuf::from(parser.value()?)),
            Long("keys") => keys = Some(PathBuf::from(parser.value()?)),
            Long("add-user") => new_user = Some(parser.value()?.string()?),
            Long("log") => routes.log = true,
            Long("tls") => {
                let chain = parser.value()?.string()?;
                tls = Some(CertificateSource::Files(chain, parser.value()?.string()?));
            }
            Long("tls-self-signed") => tls = Some(CertificateSource::SelfSigned),
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    if database.is_none() && (keys.is_some() || new_user.is_some()) {
        return Err("--keys and --add-user are of --db".into());
    }
    if listen.is_empty() {
        listen.push("127.0.0.1:8080".to_owned());
    }
    Ok(Some(Args { listen, options, fleet, routes, tls, database, keys, new_user }))
}
