//! The system's resolver, which blocks, on threads of its own.
//!
//! A thread is kept for some seconds after its last lookup: to make and end one for each costs more
//! than the lookup of a name that is at hand. Answers are kept for as long: a proxy asks for the
//! same few names again and again. The system does not tell how long an answer is valid, so the
//! time is short.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Takes the addresses of a name, or why there are none.
pub(crate) type Answer = Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>;

/// A name to look up.
struct Lookup {
    host: Box<str>,
    port: u16,
    answer: Answer,
}

/// Lookups of the process that no thread has taken yet, the threads, and the last answers.
struct Lookups {
    waiting: VecDeque<Lookup>,
    /// Threads, those that wait for a lookup included.
    threads: usize,
    /// Threads that wait for a lookup. Invariant: at most `threads`.
    idle: usize,
    cache: Cache,
}

/// The last answers that had addresses, and when they came.
struct Cache(BTreeMap<Box<str>, (Instant, Vec<SocketAddr>)>);

/// Most lookups at once: a name server that is down holds each for many seconds, and a thread is
/// not much.
const MAX_THREADS: usize = 8;

/// How long a thread without a lookup is kept.
const KEEP_THREAD: Duration = Duration::from_secs(5);

/// How long an answer is used again. The common resolvers of other runtimes have no such time, or
/// 30 s and more; a service that moves to another address is found after this.
const KEEP_ANSWER: Duration = Duration::from_secs(5);

/// Most answers that are kept: what strangers name, and a proxy looks up, must not fill the memory.
const MAX_ANSWERS: usize = 1_024;

static LOOKUPS: Mutex<Lookups> = Mutex::new(Lookups {
    waiting: VecDeque::new(),
    threads: 0,
    idle: 0,
    cache: Cache(BTreeMap::new()),
});

/// There is a lookup.
static CALLED: Condvar = Condvar::new();

/// Looks a name up on another thread, or answers at once if it was looked up just now.
pub(crate) fn resolve(host: &str, port: u16, answer: Answer) {
    let mut lookups = lock();
    if let Some(addrs) = lookups.cache.find(host, port, Instant::now()) {
        drop(lookups);
        return answer(Ok(addrs));
    }
    lookups.waiting.push_back(Lookup { host: host.into(), port, answer });
    if lookups.idle >= lookups.waiting.len() {
        CALLED.notify_one();
    } else if lookups.threads < MAX_THREADS {
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
                    (lookup.answer)(Err(io::Error::other(text)));
                }
            }
        }
    }
}

/// Looks a name up on this thread, which waits.
pub(crate) fn resolve_now(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    look_up(host, port)
}

/// A poisoned lock is as good as any: no code that can panic runs under it.
fn lock() -> MutexGuard<'static, Lookups> {
    LOOKUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work() {
    while let Some(same) = next() {
        let (host, port) = (&same[0].host, same[0].port);
        let result = look_up(host, port);
        if let Ok(addrs) = &result {
            lock().cache.keep(host, addrs, Instant::now());
        }
        for lookup in same {
            let copy = match &result {
                Ok(addrs) => Ok(addrs.clone()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            (lookup.answer)(copy);
        }
    }
}

/// The next lookup, and all others that wait for the same name; waits for one. If none comes this
/// thread is no longer counted, and `None` ends it.
fn next() -> Option<Vec<Lookup>> {
    let mut lookups = lock();
    if lookups.waiting.is_empty() {
        lookups.idle += 1;
        let waited = CALLED
            .wait_timeout_while(lookups, KEEP_THREAD, |lookups| lookups.waiting.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        lookups = waited.0;
        lookups.idle -= 1;
    }
    let Some(first) = lookups.waiting.pop_front() else {
        lookups.threads -= 1;
        return None;
    };
    let is_same = |other: &Lookup| other.host == first.host && other.port == first.port;
    let (same, others) = lookups.waiting.drain(..).partition::<Vec<_>, _>(is_same);
    lookups.waiting.extend(others);
    Some(std::iter::once(first).chain(same).collect())
}

impl Cache {
    fn find(&self, host: &str, port: u16, now: Instant) -> Option<Vec<SocketAddr>> {
        let (since, addrs) = self.0.get(host)?;
        let is_fresh = now.saturating_duration_since(*since) < KEEP_ANSWER;
        let with_port = |addr: &SocketAddr| {
            let mut addr = *addr;
            addr.set_port(port);
            addr
        };
        is_fresh.then(|| addrs.iter().map(with_port).collect())
    }

    fn keep(&mut self, host: &str, addrs: &[SocketAddr], now: Instant) {
        if self.0.len() >= MAX_ANSWERS {
            self.0.retain(|_, (since, _)| now.saturating_duration_since(*since) < KEEP_ANSWER);
        }
        if self.0.len() >= MAX_ANSWERS {
            self.0.clear();
        }
        self.0.insert(host.into(), (now, addrs.to_vec()));
    }
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
        io::Error::new(kind_of(&error), text)
    })?;
    Ok(addrs.collect())
}

/// What system libraries say where there is no such name, or none with an address (`EAI_NONAME`,
/// `EAI_NODATA`, `EAI_ADDRFAMILY`): parts in small letters. The standard library hands on the text
/// of gai_strerror(3) and not the number, and its kind for that has no stable name.
const NO_SUCH_NAME: &[&str] = &[
    "name or service not known",      // glibc
    "no address associated with",     // glibc, bionic, the BSDs
    "address family for hostname",    // glibc, bionic, the BSDs
    "name does not resolve",          // musl, FreeBSD
    "name has no usable address",     // musl
    "nodename nor servname provided", // macOS
    "hostname nor servname provided", // bionic, the BSDs
    "name or service is not known",   // OpenBSD
    "node or service name not known", // illumos
    "no address record found for",    // cygwin
];

/// Likewise where no name server has answered, or one has failed for now (`EAI_AGAIN`).
const NO_ANSWER: &[&str] = &[
    "temporary failure in name resolution", // glibc, bionic, macOS, the BSDs
    "name could not be resolved at this time", // FreeBSD
    "try again",                            // musl
];

/// The numbers that Windows has for the same: WSAHOST_NOT_FOUND, WSANO_DATA; WSATRY_AGAIN.
const WINDOWS_NO_SUCH_NAME: &[i32] = &[11_001, 11_004];
const WINDOWS_NO_ANSWER: i32 = 11_002;

/// The kind of an error of the system's resolver, as far as it can be told apart.
fn kind_of(error: &io::Error) -> io::ErrorKind {
    let text = error.to_string().to_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let code = error.raw_os_error().filter(|_| cfg!(windows));
    if code.is_some_and(|code| WINDOWS_NO_SUCH_NAME.contains(&code)) || says(NO_SUCH_NAME) {
        return io::ErrorKind::NotFound;
    }
    if code == Some(WINDOWS_NO_ANSWER) || says(NO_ANSWER) {
        return io::ErrorKind::TimedOut;
    }
    // The kind without a stable name, which an error number that no system has is of, too.
    let nameless = io::Error::from_raw_os_error(i32::MAX).kind();
    if error.kind() == nameless { io::ErrorKind::Other } else { error.kind() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_there_is_told_from_a_server_that_does_not_answer() {
        use io::ErrorKind::{InvalidInput, NotFound, Other, PermissionDenied, TimedOut};
        let texts = [
            ("Name or service not known", NotFound),
            ("Name does not resolve", NotFound),
            ("No address associated with hostname", NotFound),
            ("nodename nor servname provided, or not known", NotFound),
            ("Temporary failure in name resolution", TimedOut),
            ("Try again", TimedOut),
            ("Non-recoverable failure in name resolution", Other),
        ];
        let nameless = io::Error::from_raw_os_error(i32::MAX).kind();
        for (text, kind) in texts {
            let text = format!("failed to lookup address information: {text}");
            assert_eq!(kind_of(&io::Error::new(nameless, text.as_str())), kind, "{text}");
        }
        for kind in [InvalidInput, PermissionDenied] {
            assert_eq!(kind_of(&kind.into()), kind);
        }
    }

    /// The standard library's own text, whatever it is on this system. A machine without a name
    /// server may get no answer.
    #[test]
    fn the_systems_own_error_has_a_kind() {
        let error = look_up("nobody.invalid", 80).unwrap_err();
        let kinds = [io::ErrorKind::NotFound, io::ErrorKind::TimedOut];
        assert!(kinds.contains(&error.kind()), "{error:?}");
        let error = look_up("no\0body", 80).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error:?}");
    }

    #[test]
    fn an_answer_is_used_again_for_a_while_with_the_port_that_is_asked_for() {
        let mut cache = Cache(BTreeMap::new());
        let now = Instant::now();
        cache.keep("db", &[SocketAddr::from(([10, 0, 0, 1], 1))], now);
        let found = Some(vec![SocketAddr::from(([10, 0, 0, 1], 2))]);
        assert_eq!(cache.find("db", 2, now + KEEP_ANSWER - Duration::from_millis(1)), found);
        assert_eq!(cache.find("db", 2, now + KEEP_ANSWER), None);
        assert_eq!(cache.find("other", 2, now), None);
    }

    #[test]
    fn the_names_of_strangers_do_not_fill_the_memory() {
        let mut cache = Cache(BTreeMap::new());
        let now = Instant::now();
        for number in 0..3 * MAX_ANSWERS {
            cache.keep(&number.to_string(), &[], now);
            assert!(cache.0.len() <= MAX_ANSWERS);
        }
        assert!(cache.find(&(3 * MAX_ANSWERS - 1).to_string(), 1, now).is_some());
    }

    /// Two lookups one after the other: a thread that ended after each would have another id.
    #[test]
    fn a_thread_is_kept_for_the_next_lookup() {
        let ask = |name: &str| {
            let (answers, answer) = std::sync::mpsc::channel();
            let done = move |_| answers.send(thread::current().id()).unwrap();
            resolve(name, 1, Box::new(done));
            answer.recv().unwrap()
        };
        // Addresses are not asked of a name server, and each of these is another name.
        let threads: std::collections::BTreeSet<_> =
            (1..20).map(|last| format!("{:?}", ask(&format!("127.0.0.{last}")))).collect();
        assert!(threads.len() <= MAX_THREADS, "{threads:?}");
    }
}
