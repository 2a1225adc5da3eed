//! An HTTP server: texts, JSON, bodies, and answers of a MiB. The one to put a load on.
//!
//! ```text
//! cargo run --release -p web
//! curl http://127.0.0.1:8080/user/42
//! curl -d hello http://127.0.0.1:8080/len
//! cargo run --release -p web -- --files .
//! curl -r 0-99 http://127.0.0.1:8080/s/README.md
//! ```

mod routes;

use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use support::{CertificateSource, Tls, print};
use waterwheel::fleet::{Fleet, FleetOptions};
use waterwheel::{ListenOptions, Reactor, http};

const USAGE: &str = "\
usage: web [options]
  --listen ADDR        listen here, may be given again [127.0.0.1:8080]; port 0: any
  --threads N          a fleet of so many reactors; 0: one a core [no fleet]
  --echo               answer every other path and method with the body of the request
  --files DIR          serve the files of a directory below /s/
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
}

fn main() -> ExitCode {
    support::init_log("info");
    support::run_parsed("web", USAGE, parse(), serve)
}

fn serve(mut args: Args) -> Result<ExitCode, Box<dyn Error>> {
    support::raise_limit()?;
    if let Some(source) = &args.tls {
        args.options = Tls::new("web", source)?.encrypt(args.options);
    }
    if args.fleet.threads.is_some() {
        return serve_as_fleet(args);
    }
    let mut reactor = Reactor::new()?;
    let web = reactor.register(routes::server(&args.routes));
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
        let web = member.reactor().register(routes::server(&routes));
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
    let options = ListenOptions::default().limits(http::limits());
    let mut fleet = FleetOptions::default();
    let mut routes = routes::Wanted::default();
    let mut tls = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("listen") => listen.push(parser.value()?.string()?),
            Long("threads") => fleet.threads = Some(parser.value()?.parse()?),
            Long("echo") => routes.echo = true,
            Long("files") => routes.files = Some(parser.value()?.into()),
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
    if listen.is_empty() {
        listen.push("127.0.0.1:8080".to_owned());
    }
    Ok(Some(Args { listen, options, fleet, routes, tls }))
}
