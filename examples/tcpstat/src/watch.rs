//! The command line, and the loop that looks again and again.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::report::Report;
use crate::state;

const USAGE: &str = "\
usage: tcpstat PORT [options]
  --watch [SECONDS]   look again so often, until it is stopped [1]
  --json              print one JSON object, in a line of its own
  --states            say of every state what it means, and end
  --help

The JSON object: port, listeners [{addr, accept_queue, accept_queue_limit, processes [pid]}],
states {STATE: {local, remote}}, counters {NAME: count}, processes [{pid, name, open_files,
open_files_limit}]. What may not be read is null. Keys are only ever added.";

/// A terminal goes to its first place and forgets what follows.
const CLEAR: &str = "\x1b[H\x1b[J";

struct Args {
    port: u16,
    period: Option<Duration>,
    is_json: bool,
}

/// What the command line asks for.
enum Command {
    Look(Args),
    Usage,
    States,
}

pub(crate) fn run() -> ExitCode {
    let result = match parse() {
        Ok(Command::Usage) => print(&format!("{USAGE}\n")),
        Ok(Command::States) => print(&state::explain_all()),
        Ok(Command::Look(args)) => watch(&args),
        Err(error) => {
            complain(format_args!("{error}; see --help"));
            return ExitCode::from(2);
        }
    };
    match result {
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("{error}"));
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

/// Prints a line on standard error, or loses it where the reader has gone.
fn complain(error: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "tcpstat: {error}");
}

fn watch(args: &Args) -> io::Result<()> {
    let mut before: Option<Report> = None;
    loop {
        let report = Report::new(args.port)?;
        let is_drawn_over = args.period.is_some() && !args.is_json && io::stdout().is_terminal();
        let text = match args.is_json {
            true => report.json(),
            false => report.text(before.as_ref()),
        };
        print(&format!("{}{text}", if is_drawn_over { CLEAR } else { "" }))?;
        let Some(period) = args.period else {
            return Ok(());
        };
        before.get_or_insert(report);
        thread::sleep(period);
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn parse() -> Result<Command, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut port, mut period, mut is_json) = (None, None, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Value(value) if port.is_none() => port = Some(value.parse_with(parse_port)?),
            Long("watch") => {
                let value = optional_seconds(&mut parser, port.is_some());
                period = Some(match value {
                    Some(value) => value.parse_with(parse_period)?,
                    None => Duration::from_secs(1),
                });
            }
            Long("json") => is_json = true,
            Long("states") => return Ok(Command::States),
            Long("help") | Short('h') => return Ok(Command::Usage),
            _ => return Err(arg.unexpected()),
        }
    }
    let port = port.ok_or("which port? give its number")?;
    Ok(Command::Look(Args { port, period, is_json }))
}

/// What stands behind `--watch`, if it is its own: a number, unless the port is still to come.
fn optional_seconds(parser: &mut lexopt::Parser, has_port: bool) -> Option<OsString> {
    if let Some(value) = parser.optional_value() {
        return Some(value);
    }
    let is_number = |word: &OsStr| word.to_str().is_some_and(|word| word.parse::<f64>().is_ok());
    parser.try_raw_args()?.next_if(|word| has_port && is_number(word))
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{text:?} is no port, which is a number from 1 to 65535")),
    }
}

fn parse_period(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.01..=86_400.0).contains(seconds));
    let seconds = seconds.ok_or_else(|| {
        format!("--watch is {text:?}; it must be a number of seconds from 0.01 to 86400")
    })?;
    Ok(Duration::from_secs_f64(seconds))
}
