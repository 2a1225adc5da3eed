//! What happened, as a hash that is always kept and as lines that a person can read.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

/// Something that happened in a world.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum Note {
    /// A poll with a timeout in ns.
    Poll { timeout: Option<u64> },
    /// What a poll reported of a socket, or of the waker: the bits readable, writable, hung up,
    /// broken.
    Event { socket: Option<u32>, bits: u8 },
    /// A call on a socket, and its result.
    Call { socket: u32, call: Call, result: Outcome },
    /// Something on the network.
    Net { socket: u32, what: Net, bytes: u32 },
    /// A fault of a host that concerns no socket.
    Fault { fault: super::chance::Fault, nanos: u64 },
    /// A callback of the connection in a slot.
    Callback { name: &'static str, slot: u32, value: u64 },
}

/// A system call.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum Call {
    Accept,
    Bind(SocketAddr),
    Close,
    Connect(SocketAddr),
    Receive,
    Register,
    Send,
    Shutdown,
}

/// What a call gave.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum Outcome {
    /// So many bytes, or the number of a socket.
    Is(u32),
    /// An error, by a name that is the same on every system.
    Failed(&'static str),
}

/// Something on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Net {
    Arrives,
    Fin,
    Rst,
    Up,
    Refused,
    Broken,
    PeerSends,
    PeerEnds,
}

/// The record of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: Fnv,
    /// Things noted so far.
    pub(crate) len: u64,
    /// Lines are kept too.
    pub(crate) keeps_lines: bool,
    pub(crate) lines: Vec<String>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self { hash: Fnv(0xcbf2_9ce4_8422_2325), len: 0, keeps_lines: false, lines: Vec::new() }
    }

    pub(crate) fn note(&mut self, now: u64, host: Option<u32>, note: Note) {
        self.len += 1;
        (now, host, note).hash(&mut self.hash);
        if self.keeps_lines {
            let (seconds, micros) = (now / 1_000_000_000, now / 1_000 % 1_000_000);
            let who = host.map_or_else(|| "net".to_owned(), |host| format!("#{host}"));
            self.lines.push(format!("{seconds:>5}.{micros:06} {who:>4} {note}"));
        }
    }

    /// Bytes that a program has sent count too.
    pub(crate) fn mix(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let word = chunk.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
            self.hash.mix(word);
        }
        self.hash.write(chunks.remainder());
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.0
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Poll { timeout: None } => write!(f, "poll"),
            Self::Poll { timeout: Some(nanos) } => {
                write!(f, "poll for {}.{:06} ms", nanos / 1_000_000, nanos % 1_000_000)
            }
            Self::Event { socket, bits } => {
                write!(f, "  event")?;
                match socket {
                    Some(socket) => write!(f, " s{socket}:")?,
                    None => write!(f, " waker:")?,
                }
                let names = ["readable", "writable", "hung-up", "broken"];
                for (bit, name) in names.iter().enumerate() {
                    if bits & 1 << bit != 0 {
                        write!(f, " {name}")?;
                    }
                }
                Ok(())
            }
            Self::Call { socket, call, result: Outcome::Is(count) } => {
                write!(f, "  {call:?} s{socket} -> {count}")
            }
            Self::Call { socket, call, result: Outcome::Failed(error) } => {
                write!(f, "  {call:?} s{socket} -> {error}")
            }
            Self::Net { socket, what, bytes: 0 } => write!(f, "{what:?} s{socket}"),
            Self::Net { socket, what, bytes } => write!(f, "{what:?} s{socket} {bytes} bytes"),
            Self::Fault { fault, nanos: 0 } => write!(f, "! {fault}"),
            Self::Fault { fault, nanos } => write!(f, "! {fault} {} us", nanos / 1_000),
            Self::Callback { name, slot, value } => write!(f, "    {name} c{slot} {value}"),
        }
    }
}

/// FNV-1a over words (Fowler, Noll, Vo), the same on every machine: lengths and discriminants
/// count as 64 bits everywhere.
#[derive(Debug)]
struct Fnv(u64);

impl Fnv {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.0 ^= self.0 >> 29;
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.mix(u64::from(byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_u128(&mut self, value: u128) {
        self.mix(value as u64);
        self.mix((value >> 64) as u64);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.mix(value as i64 as u64);
    }
}
