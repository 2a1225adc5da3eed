//! What is told of a port: once, as text or as JSON.

use std::collections::HashSet;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;

use crate::counters::{Counter, counters};
use crate::diag::{Socket, sockets};
use crate::process::{Holder, holders};
use crate::state::State;

/// Processes that do not listen, and are told of: a screen has so much room.
const MOST_CLIENTS: usize = 4;

/// A port at one moment.
#[derive(Debug)]
pub(crate) struct Report {
    port: u16,
    listeners: Vec<Listener>,
    /// For each of [`State::ALL`] but the first: connections that have the port at this end, and
    /// at the other.
    counts: Vec<(State, u64, u64)>,
    /// `None` if they cannot be read.
    counters: Option<Vec<Counter>>,
    holders: Vec<Holder>,
    /// What cannot be told, and why.
    lacking: Vec<String>,
}

#[derive(Debug)]
struct Listener {
    addr: SocketAddr,
    waiting: u32,
    limit: u32,
    inode: u64,
}

impl Listener {
    /// The kernel lets one more in than the limit (`sk_acceptq_is_full`).
    fn is_full(&self) -> bool {
        self.waiting > self.limit
    }
}

impl Report {
    pub(crate) fn new(port: u16) -> io::Result<Self> {
        let sockets = sockets(port)?;
        let inodes: HashSet<u64> =
            sockets.iter().map(|socket| socket.inode).filter(|&inode| inode != 0).collect();
        let listening = sockets.iter().filter(|socket| socket.state == State::Listen);
        let mut listeners: Vec<_> = listening
            .map(|socket| Listener {
                addr: socket.local,
                waiting: socket.receive_queue,
                limit: socket.send_queue,
                inode: socket.inode,
            })
            .collect();
        listeners.sort_by_key(|listener| (listener.addr, listener.inode));
        let counts = State::ALL.into_iter().skip(1).map(|state| {
            let of_state = |socket: &&Socket| socket.state == state;
            let (local, remote): (Vec<_>, Vec<_>) =
                sockets.iter().filter(of_state).partition(|socket| socket.local.port() == port);
            (state, local.len() as u64, remote.len() as u64)
        });
        let mut lacking = Vec::new();
        let mut note = |what: &str, error: io::Error| lacking.push(format!("{what}: {error}"));
        let counters = counters().map_err(|error| note("no counters", error)).ok();
        let holders = holders(&inodes).map_err(|error| note("no processes", error));
        Ok(Self {
            port,
            listeners,
            counts: counts.collect(),
            counters,
            holders: holders.unwrap_or_default(),
            lacking,
        })
    }

    /// Lines for people; with what came before, also what has happened since.
    pub(crate) fn text(&self, before: Option<&Self>) -> String {
        let mut text = format!("port {}\n", self.port);
        for listener in &self.listeners {
            self.tell_listener(&mut text, listener);
        }
        if self.listeners.is_empty() {
            text += "  nobody listens here\n";
        }
        self.tell_states(&mut text);
        self.tell_holders(&mut text);
        text.push('\n');
        self.tell_counters(&mut text, before);
        for what in &self.lacking {
            line(&mut text, format_args!("  ! {what}; is /proc mounted?"));
        }
        text + "\n"
    }

    fn tell_counters(&self, text: &mut String, before: Option<&Self>) {
        let heading = "  counted for all ports, since the network began\n";
        *text += if self.counters.is_some() { heading } else { "" };
        for counter in self.counters.iter().flatten() {
            let since = before.map(|before| counter.count - before.count_of(counter));
            let since = since.map(|since| format!(" (+{since})")).unwrap_or_default();
            let Counter { name, meaning, count } = counter;
            line(text, format_args!("  {name:<20}{count:>10}{since}  {meaning}"));
        }
    }

    fn tell_listener(&self, text: &mut String, listener: &Listener) {
        let Listener { addr, waiting, limit, .. } = listener;
        line(text, format_args!("  LISTEN {addr}, accept queue {waiting} of {limit}"));
        if listener.is_full() {
            *text += "  ! the accept queue is full and the kernel drops what comes: this program \
                      does not accept fast enough; look what holds up its loop, then raise the \
                      backlog and net.core.somaxconn\n";
        }
    }

    fn tell_states(&self, text: &mut String) {
        line(text, format_args!("\n  {:<12}{:>10}{:>10}", "state", "local", "remote"));
        for (state, local, remote) in &self.counts {
            line(text, format_args!("  {:<12}{local:>10}{remote:>10}", state.name()));
        }
        let port = self.port;
        line(text, format_args!("  local: {port} is this end's port; remote: it is the other's\n"));
        for (state, local, remote) in &self.counts {
            if local + remote > 0 {
                line(text, format_args!("  {}: {}", state.name(), state.meaning()));
            }
        }
    }

    fn tell_holders(&self, text: &mut String) {
        *text += if self.holders.is_empty() { "" } else { "\n" };
        let listens = |holder: &&Holder| {
            self.listeners.iter().any(|listener| holder.inodes.contains(&listener.inode))
        };
        let (servers, clients): (Vec<_>, Vec<_>) = self.holders.iter().partition(listens);
        let shown = servers.into_iter().chain(clients.iter().copied().take(MOST_CLIENTS));
        for holder in shown {
            // A process may have any name, also one that a terminal would obey.
            let (pid, name) = (holder.pid, holder.name.escape_debug());
            let open = number(holder.open_files, "?");
            let limit = number(holder.open_files_limit, "no limit");
            line(text, format_args!("  {name} (process {pid}): open files {open} of {limit}"));
            if holder.is_short_of_files() {
                *text += "  ! too many open files: accept fails soon (EMFILE); raise the limit \
                          (ulimit -n, LimitNOFILE=, raise_open_file_limit), cap the connections \
                          (max_connections), or close those that idle\n";
            }
        }
        if let Some(more) = clients.len().checked_sub(MOST_CLIENTS).filter(|&more| more > 0) {
            line(text, format_args!("  and {more} more that do not listen"));
        }
        let held: HashSet<u64> =
            self.holders.iter().flat_map(|holder| &holder.inodes).copied().collect();
        let is_hidden = |listener: &Listener| !held.contains(&listener.inode);
        if self.lacking.is_empty() && self.listeners.iter().any(is_hidden) {
            *text += "  who listens may not be looked at: run as its user, or as root\n";
        }
    }

    fn count_of(&self, counter: &Counter) -> u64 {
        let mut counters = self.counters.iter().flatten();
        let found = counters.find(|other| other.name == counter.name);
        found.map_or(counter.count, |found| found.count)
    }

    /// One object, and the end of the line.
    pub(crate) fn json(&self) -> String {
        let listeners = list(self.listeners.iter().map(|listener| {
            let holds = |holder: &&Holder| holder.inodes.contains(&listener.inode);
            let processes = self.holders.iter().filter(holds).map(|holder| holder.pid.to_string());
            format!(
                "{{\"addr\": \"{}\", \"accept_queue\": {}, \"accept_queue_limit\": {}, \
                 \"processes\": {}}}",
                listener.addr,
                listener.waiting,
                listener.limit,
                list_or_null(processes, true),
            )
        }));
        let states = list(self.counts.iter().map(|(state, local, remote)| {
            format!("\"{}\": {{\"local\": {local}, \"remote\": {remote}}}", state.name())
        }));
        let counters = self.counters.as_ref().map(|counters| {
            let items = counters.iter();
            list(items.map(|Counter { name, count, .. }| format!("\"{name}\": {count}")))
        });
        let counters = counters.map_or_else(|| "null".to_owned(), |items| format!("{{{items}}}"));
        let processes = self.holders.iter().map(|holder| {
            format!(
                "{{\"pid\": {}, \"name\": {}, \"open_files\": {}, \"open_files_limit\": {}}}",
                holder.pid,
                quoted(&holder.name),
                number(holder.open_files, "null"),
                number(holder.open_files_limit, "null"),
            )
        });
        let processes = list_or_null(processes, !self.listeners.is_empty());
        format!(
            "{{\"port\": {}, \"listeners\": [{listeners}], \"states\": {{{states}}}, \
             \"counters\": {counters}, \"processes\": {processes}}}\n",
            self.port
        )
    }
}

impl Holder {
    /// Nine in ten are taken.
    fn is_short_of_files(&self) -> bool {
        let files = self.open_files.zip(self.open_files_limit);
        files.is_some_and(|(open, limit)| open >= limit - limit / 10)
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes all that is written");
}

fn number(number: Option<u64>, none: &str) -> String {
    number.map_or_else(|| none.to_owned(), |number| number.to_string())
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// A list of JSON. If there must be something and nothing is found, it may not be looked at.
fn list_or_null(items: impl Iterator<Item = String>, must_be: bool) -> String {
    let items = list(items);
    if items.is_empty() && must_be { "null".to_owned() } else { format!("[{items}]") }
}

/// A text of JSON: a process may have any name.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if char.is_control() => {
                write!(quoted, "\\u{:04x}", char as u32).expect("a string takes all");
            }
            char => quoted.push(char),
        }
    }
    quoted + "\""
}
