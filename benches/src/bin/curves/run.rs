//! The list of curves, and the program around it.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::curve::{Curve, Measure};
use crate::{datagrams, page, streams, wheel};

const USAGE: &str = "\
usage: curves [options] [NAME...]
  NAME          only these curves; the table has their names
  --page FILE   where the plots go [target/curves.html]
  --repeat N    runs of each point, 1 to 100 [5]
  --help
";

/// Measures a curve.
type Draw = fn(&Measure) -> Curve;

/// All curves, by what grows.
const CURVES: &[(&str, Draw)] = &[
    ("held", streams::held),
    ("listeners", streams::listeners),
    ("message", streams::message_bytes),
    ("writes", streams::writes_of_a_callback),
    ("depth", streams::pipeline_depth),
    ("unconsumed", streams::unconsumed_input),
    ("members", streams::members_of_a_broadcast),
    ("timers", wheel::handler_timers),
    ("due", wheel::timers_due_at_once),
    ("channels", wheel::channels),
    ("sessions", datagrams::sessions),
];

struct Plan {
    page: PathBuf,
    repeat: usize,
    names: Vec<String>,
}

pub(crate) fn main() -> ExitCode {
    let result = match parse() {
        Ok(Some(plan)) => run(&plan),
        Ok(None) => io::stdout().write_all(USAGE.as_bytes()).map_err(Into::into),
        Err(error) => Err(error),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "curves: {error}");
    ExitCode::FAILURE
}

fn parse() -> Result<Option<Plan>, Box<dyn Error>> {
    use lexopt::prelude::*;

    let mut plan = Plan { page: "target/curves.html".into(), repeat: 5, names: Vec::new() };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("page") => plan.page = parser.value()?.into(),
            Long("repeat") => plan.repeat = parser.value()?.parse()?,
            Long("help") => return Ok(None),
            Value(name) => plan.names.push(name.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    if !(1..=100).contains(&plan.repeat) {
        return Err("--repeat: 1 to 100".into());
    }
    let is_unknown = |name: &&String| !CURVES.iter().any(|(known, _)| known == name);
    if let Some(name) = plan.names.iter().find(is_unknown) {
        let known: Vec<&str> = CURVES.iter().map(|&(name, _)| name).collect();
        return Err(format!("no curve is called {name}; there are {}", known.join(", ")).into());
    }
    Ok(Some(plan))
}

fn run(plan: &Plan) -> Result<(), Box<dyn Error>> {
    waterwheel::raise_open_file_limit()?;
    let measure = Measure::new(plan.repeat);
    let mut curves = Vec::new();
    for (name, draw) in CURVES {
        if plan.names.is_empty() || plan.names.iter().any(|wanted| wanted == name) {
            let curve = draw(&measure);
            write!(io::stdout(), "{}", curve.table(name))?;
            curves.push(curve);
        }
    }
    page::write(&plan.page, &curves)?;
    writeln!(io::stdout(), "\nthe plots: {}", plan.page.display())?;
    Ok(())
}
