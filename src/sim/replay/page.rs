//! The page of a run: one file, which loads nothing.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::text::Escaped;
use super::{Replay, words};
use crate::base::json::Quoted;
use crate::sys::sim::{Note, Patch, Step, What};

const HTML: &str = include_str!("page/replay.html");
const CSS: &str = include_str!("page/replay.css");
const SCRIPT: &str = include_str!("page/replay.js");

/// A page shows the last so many steps: browsers draw that many, and what has failed is at the end.
const MAX_STEPS: usize = 20_000;

/// Texts for the page of a run: a title, and stops at some of its steps.
///
/// # Examples
/// ```
/// use waterwheel::sim::Tour;
/// let tour = Tour::new("short read", "A read that returns less than asked for.")
///     .stop(12, "Here the kernel has returned 3 bytes.")
///     .code("src/reactor/dispatch.rs", "fn receive() {}");
/// # let _ = tour;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Tour {
    title: String,
    lead: String,
    stops: Vec<(usize, String)>,
    code: Vec<(String, String)>,
    exercise: Option<String>,
}

impl Tour {
    /// A tour without a stop; `lead` is the text below the title. In all texts, words between
    /// backticks are shown as code.
    #[must_use]
    pub fn new(title: impl Into<String>, lead: impl Into<String>) -> Self {
        Self { title: title.into(), lead: lead.into(), ..Self::default() }
    }

    /// Adds a stop at a step, with a text about it.
    #[must_use]
    pub fn stop(mut self, step: usize, text: impl Into<String>) -> Self {
        self.stops.push((step, text.into()));
        self
    }

    /// Adds code that decides what the stops show, and `place`, where that code stands.
    #[must_use]
    pub fn code(mut self, place: impl Into<String>, code: impl Into<String>) -> Self {
        self.code.push((place.into(), code.into()));
        self
    }

    /// Sets an exercise for the reader.
    #[must_use]
    pub fn exercise(mut self, text: impl Into<String>) -> Self {
        self.exercise = Some(text.into());
        self
    }
}

impl Replay<'_> {
    /// Writes the page on which the run is stepped through: one HTML file that loads nothing. Use a
    /// buffered writer. It shows the last 20,000 steps.
    ///
    /// # Errors
    /// - The writer's.
    pub fn write_page(&self, tour: Option<&Tour>, to: &mut impl Write) -> io::Result<()> {
        let title = match tour {
            Some(tour) => tour.title.clone(),
            None => format!("seed {}", self.seed),
        };
        let mut rest = HTML;
        for (place, part) in [("@TITLE@", 0), ("@CSS@", 1), ("@DATA@", 2), ("@SCRIPT@", 3)] {
            let (before, after) = rest.split_once(place).unwrap_or((rest, ""));
            to.write_all(before.as_bytes())?;
            match part {
                0 => write!(to, "{}", Escaped(&title))?,
                1 => to.write_all(CSS.as_bytes())?,
                2 => self.write_data(&title, tour, to)?,
                _ => to.write_all(SCRIPT.as_bytes())?,
            }
            rest = after;
        }
        to.write_all(rest.as_bytes())
    }

    fn write_data(&self, title: &str, tour: Option<&Tour>, to: &mut impl Write) -> io::Result<()> {
        let steps = self.recorded();
        let first = steps.len().saturating_sub(MAX_STEPS);
        write!(to, "{{\"title\":{},\"seed\":{},\"left_out\":{first}", Quoted(title), self.seed)?;
        if let Some(failure) = &self.failure {
            write!(to, ",\"failure\":{}", Quoted(failure))?;
        }
        let hosts: Vec<_> =
            self.world.hosts.iter().map(|host| Quoted(&host.name).to_string()).collect();
        write!(to, ",\"hosts\":[{}]", hosts.join(","))?;
        let sockets: Vec<_> = self
            .world
            .sockets
            .iter()
            .map(|socket| {
                let other = socket.other().map_or(-1, i64::from);
                format!("[\"{}\",\"{}\",{other}]", socket.local, socket.remote)
            })
            .collect();
        write!(to, ",\"sockets\":[{}]", sockets.join(","))?;
        if let Some(tour) = tour {
            write_tour(tour, first, to)?;
        }
        write_state(&steps[..first], to)?;
        to.write_all(b",\"steps\":[")?;
        for (at, step) in steps[first..].iter().enumerate() {
            to.write_all(if at > 0 { b",\n" } else { b"\n" })?;
            write_step(step, to)?;
        }
        to.write_all(b"]}")
    }
}

fn write_tour(tour: &Tour, first: usize, to: &mut impl Write) -> io::Result<()> {
    write!(to, ",\"lead\":{},\"stops\":[", Quoted(&tour.lead))?;
    for (at, (step, text)) in tour.stops.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        write!(to, "{comma}[{},{}]", step.saturating_sub(first), Quoted(text))?;
    }
    to.write_all(b"],\"code\":[")?;
    for (at, (place, code)) in tour.code.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        write!(to, "{comma}[{},{}]", Quoted(place), Quoted(code))?;
    }
    to.write_all(b"]")?;
    match &tour.exercise {
        Some(text) => write!(to, ",\"exercise\":{}", Quoted(text)),
        None => Ok(()),
    }
}

/// How everything stands before the first step that is shown.
fn write_state(before: &[Step], to: &mut impl Write) -> io::Result<()> {
    let mut last = BTreeMap::new();
    for patch in before.iter().flat_map(|step| &step.patches) {
        last.insert((patch.host, patch.name, patch.key), patch);
    }
    to.write_all(b",\"state\":[")?;
    write_patches(last.into_values(), to)?;
    to.write_all(b"]")
}

/// A step: when, the host, the kind, the words, the slot, the socket, the changes, the packet.
fn write_step(step: &Step, to: &mut impl Write) -> io::Result<()> {
    let host = step.host.map_or(-1, i64::from);
    let (kind, slot, socket) = match &step.what {
        What::Note(note) => match *note {
            Note::Poll { .. } => ("poll", None, None),
            Note::Event { socket, .. } => ("event", None, socket),
            Note::Call { socket, .. } => ("call", None, Some(socket)),
            Note::Net { socket, .. } => ("net", None, Some(socket)),
            Note::Fault { .. } => ("fault", None, None),
            Note::Callback { slot, .. } => ("callback", Some(slot), None),
        },
        What::Struck(_) => ("fault", None, None),
        What::Packet(packet) => ("packet", None, Some(packet.from)),
        What::Network { socket, .. } => ("net", None, Some(*socket)),
        What::Loop { kind, slot, .. } => (*kind, *slot, None),
    };
    let number = |it: Option<u32>| it.map_or(-1, i64::from);
    let text = words(step);
    write!(to, "[{},{host},\"{kind}\",{},", step.at, Quoted(&text))?;
    write!(to, "{},{},[", number(slot), number(socket))?;
    write_patches(step.patches.iter(), to)?;
    to.write_all(b"]")?;
    if let What::Packet(packet) = &step.what {
        let arrives = packet.arrives.map_or("null".to_owned(), |at| at.to_string());
        let (other, bytes) = (number(packet.to), packet.bytes);
        write!(to, ",[{},{other},\"{}\",{bytes},{arrives}]", packet.from, packet.kind)?;
    }
    to.write_all(b"]")
}

fn write_patches<'a>(
    patches: impl Iterator<Item = &'a Patch>,
    to: &mut impl Write,
) -> io::Result<()> {
    for (at, patch) in patches.enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let host = patch.host.map_or(-1, i64::from);
        write!(to, "{comma}[{host},\"{}\",{},{}]", patch.name, patch.key, patch.value)?;
    }
    Ok(())
}
