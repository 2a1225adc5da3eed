//! A load tester, which shows the client side of the runtime: bounded dialling, pipelining, an
//! open loop on the timer wheel, storms of short connections, thousands of idle ones, requests of
//! HTTP, echoes over WebSocket, and over UDP with every datagram accounted for.
//!
//! Without `--connect` it brings an echo server along, on a thread and a port of its own, so that
//! one line measures something:
//!
//! ```text
//! cargo run --release -p load
//! cargo run --release -p load -- closed --connections 500 --size 4096 --depth 8
//! cargo run --release -p load -- open --rate 50000 --html latency.html
//! cargo run --release -p load -- storm --in-flight 128 --duration 10
//! cargo run --release -p load -- hold --active 50 --duration 30
//! cargo run --release -p load -- udp --rate 20000 --size 1200
//! cargo run --release -p load --features tls -- storm --tls --resume
//! cargo run --release -p load --features web -- http open --rate 20000
//! cargo run --release -p load --features web -- ws open --rate 20000
//! cargo run --release -p load -- ws ws://127.0.0.1:8080/ws --connections 50
//! cargo run --release -p load -- http http://127.0.0.1:8080/plaintext --connections 50
//! ```
//!
//! The server may be any that sends back what it gets, in another process or far away:
//!
//! ```text
//! cargo run --release -p echo -- --listen 127.0.0.1:7000
//! cargo run --release -p load -- hold --connections 15000 --connect 127.0.0.1:7000
//! ```
//!
//! Every byte that comes back is compared with the one that was sent, and each answer of HTTP with
//! the first one. `--help` tells the rest.

mod args;
mod closed;
mod dial;
mod drops;
mod hold;
mod html;
mod http;
mod json;
mod ledger;
mod mode;
mod open;
mod page;
mod patience;
mod pattern;
mod plan;
mod progress;
mod report;
mod run;
mod schedule;
mod server;
mod signal;
mod storm;
mod talk;
mod tally;
mod target;
mod text;
#[cfg_attr(not(feature = "tls"), path = "tls_stub.rs")]
mod tls;
mod udp;
mod units;
#[cfg_attr(not(feature = "web"), path = "web_stub.rs")]
mod web;
mod ws;

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;

use http::Http;
use page::Page;
use plan::{Mode, Plan};
use report::Report;
use server::Server;
use talk::{Echo, Talk};
use tally::Tally;
use ws::Ws;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let plan = match args::parse() {
        Ok(Some(plan)) => plan,
        Ok(None) => {
            return match writeln!(io::stdout(), "{}", args::USAGE) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&error.to_string()),
            };
        }
        Err(error) => return misused(&error.to_string()),
    };
    let files = match waterwheel::raise_open_file_limit() {
        Ok(files) => files,
        Err(error) => return failed(&format!("cannot raise the open-file limit: {error}")),
    };
    let plan = match plan.fit(files) {
        Ok(plan) => plan,
        Err(error) => return misused(&error),
    };
    // Before the run, so that a path which cannot be written does not cost one.
    let page = match plan.html.as_deref().map(Page::probe).transpose() {
        Ok(page) => page,
        Err(error) => return misused(&error),
    };
    match load(&Rc::new(plan), page) {
        Ok(code) => code,
        Err(error) => failed(&error.to_string()),
    }
}

/// Exit code 2: what was asked for makes no sense. The reader of the line may have gone.
fn misused(error: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "load: {error}; see --help");
    ExitCode::from(2)
}

/// Exit code 1: it did not work out.
fn failed(error: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "load: {error}");
    ExitCode::FAILURE
}

fn load(plan: &Rc<Plan>, page: Option<Page>) -> Result<ExitCode, Box<dyn Error>> {
    progress::say(plan, &plan.open_files());
    let server = match plan.target {
        Some(_) => None,
        None => Some(Server::start(plan)?),
    };
    let addr = server.as_ref().map(|server| server.addr).or(plan.target);
    let addr = addr.ok_or("there is no server to connect to")?;
    let tally = measure(plan, addr)?;
    if let Some(server) = server {
        server.stop()?;
    }
    if let Some(error) = &tally.hopeless {
        return Ok(failed(error));
    }
    let report = Report::new(plan, addr, tally);
    print(plan, &report)?;
    if let Some(page) = page {
        page.write(&html::page(&report))?;
    }
    Ok(match report.failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn measure(plan: &Rc<Plan>, addr: SocketAddr) -> Result<Tally, Box<dyn Error>> {
    match plan.mode {
        Mode::Udp => run::drive::<udp::Udp>(plan, addr),
        _ if plan.http.is_some() => measure_streams::<Http>(plan, addr),
        _ if plan.ws.is_some() => measure_streams::<Ws>(plan, addr),
        _ => measure_streams::<Echo>(plan, addr),
    }
}

fn measure_streams<T: Talk>(plan: &Rc<Plan>, addr: SocketAddr) -> Result<Tally, Box<dyn Error>> {
    match plan.mode {
        Mode::Closed => run::drive::<closed::Closed<T>>(plan, addr),
        Mode::Open => run::drive::<open::Open<T>>(plan, addr),
        Mode::Storm => run::drive::<storm::Storm<T>>(plan, addr),
        // Datagrams have a way of their own, above.
        Mode::Hold | Mode::Udp => run::drive::<hold::Hold<T>>(plan, addr),
    }
}

/// A reader that has gone, such as `head`, is no failure of the run.
fn print(plan: &Plan, report: &Report) -> io::Result<()> {
    let text = match plan.json {
        true => json::object(report) + "\n",
        false => text::table(report),
    };
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
