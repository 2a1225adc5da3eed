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

/// A name to look up, and a port.
type Name = (Box<str>, u16);

/// Who waits for a name that no thread has taken yet.
struct Waiting {
    answers: Vec<Answer>,
    /// When the last of them has asked.
    asked: Instant,
}

/// Lookups of the process, the threads, and the last answers.
struct Lookups {
    /// The names of `waiting`, in the order in which they were asked for first.
    names: VecDeque<Name>,
    waiting: BTreeMap<Name, Waiting>,
    /// Threads, those that wait for a lookup included.
    threads: usize,
    /// Threads that wait for a lookup. Invariant: at most `threads`.
    idle: usize,
    cache: Cache,
}

/// What becomes of a lookup.
enum Added {
    /// A thread is to come to it.
    First,
    /// A thread will come to it: the name waits already.
    Again,
    /// Too many names wait.
    Refused(Answer),
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

/// Most names that wait, and how long: where no name server answers, strangers may ask for names
/// faster than threads give them up, and those that are asked for later must not wait for all.
const MAX_NAMES: usize = 1_024;
const MAX_WAIT: Duration = Duration::from_secs(30);

static LOOKUPS: Mutex<Lookups> = Mutex::new(Lookups::new());

/// There is a lookup.
static CALLED: Condvar = Condvar::new();

/// Looks a name up on another thread, or answers at once if it was looked up just now.
pub(crate) fn resolve(host: &str, port: u16, answer: Answer) {
    let mut lookups = lock();
    if let Some(addrs) = lookups.cache.find(host, port, Instant::now()) {
        drop(lookups);
        return answer(Ok(addrs));
    }
    let name: Name = (host.into(), port);
    match lookups.add(name.clone(), answer, Instant::now()) {
        Added::First => {}
        Added::Again => return,
        Added::Refused(answer) => {
            drop(lookups);
            let text = format!("{host} is not looked up: {MAX_NAMES} other names wait");
            return answer(Err(io::Error::new(io::ErrorKind::ResourceBusy, text)));
        }
    }
    if lookups.idle >= lookups.names.len() {
        CALLED.notify_one();
    } else if lookups.threads < MAX_THREADS {
        let thread = thread::Builder::new().name("waterwheel-resolve".to_owned());
        match thread.spawn(work) {
            Ok(_) => lookups.threads += 1,
            // Another thread will come to it.
            Err(_) if lookups.threads > 0 => {}
            Err(error) => {
                lookups.names.pop_back();
                let waiting = lookups.waiting.remove(&name);
                drop(lookups);
                let text = format!("no thread for the lookup of {host}: {error}");
                answer_all(waiting, &Err(io::Error::other(text)));
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
    super::affinity::unpin();
    while let Some(((host, port), waiting)) = next() {
        let result = if waiting.is_late(Instant::now()) {
            let text = format!("{host} is not looked up: all threads were busy with other names");
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        } else {
            look_up(&host, port)
        };
        if let Ok(addrs) = &result {
            lock().cache.keep(&host, addrs, Instant::now());
        }
        answer_all(Some(waiting), &result);
    }
}

fn answer_all(waiting: Option<Waiting>, result: &io::Result<Vec<SocketAddr>>) {
    for answer in waiting.into_iter().flat_map(|waiting| waiting.answers) {
        answer(match result {
            Ok(addrs) => Ok(addrs.clone()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        });
    }
}

/// The next name, and all that wait for it; waits for one. If none comes this thread is no longer
/// counted, and `None` ends it.
fn next() -> Option<(Name, Waiting)> {
    let mut lookups = lock();
    if lookups.names.is_empty() {
        lookups.idle += 1;
        let waited = CALLED
            .wait_timeout_while(lookups, KEEP_THREAD, |lookups| lookups.names.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        lookups = waited.0;
        lookups.idle -= 1;
    }
    let taken = lookups.take();
    if taken.is_none() {
        lookups.threads -= 1;
    }
    taken
}

impl Waiting {
    /// Whether all that wait have given up.
    fn is_late(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.asked) > MAX_WAIT
    }
}

impl Lookups {
    const fn new() -> Self {
        Self {
            names: VecDeque::new(),
            waiting: BTreeMap::new(),
            threads: 0,
            idle: 0,
            cache: Cache(BTreeMap::new()),
        }
    }

    fn add(&mut self, name: Name, answer: Answer, now: Instant) -> Added {
        if let Some(waiting) = self.waiting.get_mut(&name) {
            waiting.answers.push(answer);
            waiting.asked = now;
            return Added::Again;
        }
        if self.names.len() >= MAX_NAMES {
            return Added::Refused(answer);
        }
        self.names.push_back(name.clone());
        self.waiting.insert(name, Waiting { answers: vec![answer], asked: now });
        Added::First
    }

    fn take(&mut self) -> Option<(Name, Waiting)> {
        let name = self.names.pop_front()?;
        let waiting = self.waiting.remove(&name)?;
        Some((name, waiting))
    }
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
    use std::sync::{Arc, Barrier};

    use super::*;
    use crate::sys::os::affinity::{allowed_cores, pin_to};

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

    #[test]
    fn names_that_wait_are_bounded_and_those_who_ask_for_the_same_are_not() {
        let mut lookups = Lookups::new();
        let now = Instant::now();
        let mut add =
            |name: usize, port| lookups.add((name.to_string().into(), port), Box::new(|_| {}), now);
        assert!((0..MAX_NAMES).all(|name| matches!(add(name, 1), Added::First)));
        assert!(matches!(add(MAX_NAMES, 1), Added::Refused(_)));
        assert!(matches!(add(0, 2), Added::Refused(_)), "another port is another question");
        assert!((0..3 * MAX_NAMES).all(|_| matches!(add(0, 1), Added::Again)));
        let ((host, port), waiting) = lookups.take().unwrap();
        assert_eq!((&*host, port, waiting.answers.len()), ("0", 1, 1 + 3 * MAX_NAMES));
        assert_eq!(&*lookups.take().unwrap().0.0, "1");
        let left = std::iter::from_fn(|| lookups.take()).count();
        assert_eq!((left, lookups.waiting.len()), (MAX_NAMES - 2, 0));
    }

    #[test]
    fn a_name_is_given_up_when_all_have_waited_too_long_for_a_thread() {
        let mut lookups = Lookups::new();
        let begin = Instant::now();
        let later = begin + MAX_WAIT;
        for asked in [begin, later] {
            lookups.add(("a".into(), 1), Box::new(|_| {}), asked);
        }
        lookups.add(("b".into(), 1), Box::new(|_| {}), begin);
        let now = later + Duration::from_millis(1);
        let is_late = [(); 2].map(|()| lookups.take().unwrap().1.is_late(now));
        assert_eq!(is_late, [false, true]);
    }

    /// Linux gives a thread the cores of the one that starts it. As many lookups at once as there
    /// may be threads, so that none comes to an idle thread.
    #[test]
    fn threads_that_a_pinned_thread_starts_are_not_pinned() {
        let Ok(cores) = allowed_cores() else { return }; // no thread is pinned here
        let pinned = thread::spawn(move || {
            assert!(pin_to(cores[0]).is_ok());
            let together = Arc::new(Barrier::new(MAX_THREADS));
            let (found, all) = std::sync::mpsc::channel();
            for last in 0..MAX_THREADS {
                let (together, found) = (Arc::clone(&together), found.clone());
                let answer = move |_| {
                    together.wait();
                    found.send(allowed_cores().unwrap()).unwrap();
                };
                resolve(&format!("127.0.1.{last}"), 1, Box::new(answer));
            }
            drop(found);
            assert!(all.iter().all(|found| found == cores), "{cores:?}");
        });
        pinned.join().unwrap();
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
