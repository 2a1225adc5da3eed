//! The system's resolver, which blocks, on threads of its own.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Takes the addresses of a name, or why there are none.
pub(crate) type Answer = Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>;

/// A name to look up.
struct Lookup {
    host: Box<str>,
    port: u16,
    answer: Answer,
}

/// Lookups of the process that no thread has taken yet, and the threads.
struct Lookups {
    waiting: VecDeque<Lookup>,
    threads: usize,
}

/// Most lookups at once: a name server that is down holds each for many seconds, and a thread is
/// not much.
const MAX_THREADS: usize = 8;

static LOOKUPS: Mutex<Lookups> = Mutex::new(Lookups { waiting: VecDeque::new(), threads: 0 });

/// Looks a name up on a thread that ends when there is nothing more to look up.
pub(crate) fn resolve(host: &str, port: u16, answer: Answer) {
    let mut lookups = lock();
    lookups.waiting.push_back(Lookup { host: host.into(), port, answer });
    if lookups.threads < MAX_THREADS {
        let thread = thread::Builder::new().name("waterwheel-resolve".to_owned());
        match thread.spawn(work) {
            Ok(_) => lookups.threads += 1,
            // Another thread will come to it.
            Err(_) if lookups.threads > 0 => {}
            Err(error) => {
                let lookup = lookups.waiting.pop_back();
                drop(lookups);
                if let Some(lookup) = lookup {
                    let text = format!("no thread for the lookup of {host}: {error}");
                    (lookup.answer)(Err(io::Error::new(error.kind(), text)));
                }
            }
        }
    }
}

/// A poisoned lock is as good as any: no code that can panic runs under it.
fn lock() -> MutexGuard<'static, Lookups> {
    LOOKUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work() {
    while let Some(same) = next() {
        let (host, port) = (&same[0].host, same[0].port);
        let result = look_up(host, port);
        for lookup in same {
            let copy = match &result {
                Ok(addrs) => Ok(addrs.clone()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            (lookup.answer)(copy);
        }
    }
}

/// The next lookup, and all others that wait for the same name. Without any this thread is no
/// longer counted.
fn next() -> Option<Vec<Lookup>> {
    let mut lookups = lock();
    let Some(first) = lookups.waiting.pop_front() else {
        lookups.threads -= 1;
        return None;
    };
    let is_same = |other: &Lookup| other.host == first.host && other.port == first.port;
    let (same, others) = lookups.waiting.drain(..).partition::<Vec<_>, _>(is_same);
    lookups.waiting.extend(others);
    Some(std::iter::once(first).chain(same).collect())
}

/// The address of `fe80::1%eth0`. The system has the numbers of its interfaces at hand: no name
/// server is asked.
///
/// # Errors
/// - There is no interface of that name, or the address is of another kind.
pub(crate) fn interface_addr(host: &str, port: u16) -> io::Result<SocketAddr> {
    look_up(host, port)?.into_iter().next().ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("there is no address for {host}"))
    })
}

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addrs = (host, port).to_socket_addrs().map_err(|error| {
        let text = format!("cannot resolve {host}: {error}");
        io::Error::new(error.kind(), text)
    })?;
    Ok(addrs.collect())
}
