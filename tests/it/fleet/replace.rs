//! Processes that take over from each other, as fleets of one process.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use waterwheel::fleet::{Balance, Fleet, FleetOptions, FleetRemote, FleetStats, Spread};
use waterwheel::udp::{DatagramSocket, UdpOptions};
use waterwheel::{Conn, Handler, IdleKind, ListenOptions, Peer};

use crate::support::{PATIENCE, scratch_path};

const DRAIN: Duration = Duration::from_secs(10);

/// Answers a byte with its own, and closes.
struct Word(u8);

impl Handler for Word {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.write(&[self.0]);
        conn.close();
        input.len()
    }

    /// Who has just come has not been heard yet.
    fn on_shutdown(&mut self, _: &mut (), conn: &mut Conn<'_>) {
        conn.set_idle_timeout(IdleKind::Read, Some(Duration::from_secs(2))).unwrap();
    }
}

struct Process {
    thread: JoinHandle<std::io::Result<FleetStats>>,
    news: Receiver<(SocketAddr, FleetRemote)>,
}

impl Process {
    fn start(path: &Path, word: u8, addr: SocketAddr, spread: Spread) -> Self {
        let (tell, news) = channel();
        let path = path.to_owned();
        let thread = thread::spawn(move || {
            let options = FleetOptions::default().threads(Some(2)).spread(spread);
            Fleet::new(options)?.run_replaceable(path, DRAIN, move |member| {
                if word == b'!' {
                    return Err(std::io::Error::other("a bad configuration"));
                }
                let key = member.reactor().register(Word(word));
                let addr = member.listen(addr, key, ListenOptions::default())?;
                tell.send((addr, member.fleet())).unwrap();
                Ok(())
            })
        });
        Self { thread, news }
    }

    /// The first one: starts it, and waits until it can be taken over from.
    fn first(path: &Path, word: u8, spread: Spread) -> (Self, SocketAddr) {
        let process = Self::start(path, word, any(), spread);
        let (addr, _) = process.addr_and_remote();
        let begun = Instant::now();
        while !path.exists() {
            assert!(begun.elapsed() < PATIENCE, "nobody can ask");
            thread::yield_now();
        }
        (process, addr)
    }

    fn addr_and_remote(&self) -> (SocketAddr, FleetRemote) {
        self.news.recv_timeout(PATIENCE).unwrap()
    }

    fn end(self) -> FleetStats {
        self.thread.join().unwrap().unwrap()
    }
}

fn ask(addr: SocketAddr) -> u8 {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"?").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), 1, "cut short");
    answer[0]
}

/// Waits until a process answers.
fn wait_for(addr: SocketAddr, word: u8) {
    let begun = Instant::now();
    while ask(addr) != word {
        assert!(begun.elapsed() < PATIENCE, "{} does not serve", word as char);
    }
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A directory for the socket, and the path of it.
fn place() -> (PathBuf, PathBuf) {
    let folder = scratch_path();
    fs::create_dir(&folder).unwrap();
    let path = folder.join("control");
    (folder, path)
}

#[test]
fn no_client_notices_that_processes_take_over() {
    for spread in [Spread::Shared, Spread::HandOver(Balance::RoundRobin)] {
        let (folder, path) = place();
        let (mut running, addr) = Process::first(&path, b'a', spread);
        let is_over = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let is_over = Arc::clone(&is_over);
                thread::spawn(move || {
                    let mut words = std::collections::BTreeMap::new();
                    while !is_over.load(SeqCst) {
                        *words.entry(ask(addr)).or_insert(0) += 1;
                    }
                    words
                })
            })
            .collect();
        for word in *b"bcd" {
            wait_for(addr, word - 1);
            let next = Process::start(&path, word, addr, spread);
            let stats = running.end();
            assert!(stats.total.accepted > 0 && stats.total.refused == 0, "{stats:?}");
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            running = next;
        }
        wait_for(addr, b'd');
        is_over.store(true, SeqCst);
        for client in clients {
            let words = client.join().unwrap(); // a refused one panics
            assert!(words.keys().all(|word| b"abcd".contains(word)), "{words:?}");
        }
        running.addr_and_remote().1.stop();
        running.end();
        fs::remove_dir(&folder).unwrap(); // nothing is left in it
    }
}

#[test]
fn a_successor_that_fails_is_nothing_to_who_serves() {
    let (folder, path) = place();
    let (old, addr) = Process::first(&path, b'a', Spread::Shared);
    for _ in 0..3 {
        let failed = Process::start(&path, b'!', addr, Spread::Shared);
        let error = failed.thread.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("a bad configuration"), "{error}");
        assert_eq!(ask(addr), b'a');
    }
    expect_replaced(old, addr, &path);
    fs::remove_dir(&folder).unwrap();
}

/// Another process takes over, and ends in turn.
fn expect_replaced(old: Process, addr: SocketAddr, path: &Path) {
    let new = Process::start(path, b'b', addr, Spread::Shared);
    old.end();
    assert_eq!(ask(addr), b'b');
    new.addr_and_remote().1.drain(DRAIN);
    new.end();
}

/// One that finds no room is refused on the BSDs, as if no process were there.
#[test]
fn many_may_ask_while_one_is_waited_for() {
    const MANY: usize = 40;
    let (folder, path) = place();
    let (old, addr) = Process::first(&path, b'a', Spread::Shared);
    let (tell, told) = channel();
    for _ in 0..MANY {
        let (path, tell) = (path.clone(), tell.clone());
        thread::spawn(move || tell.send(UnixStream::connect(path)));
    }
    let asked = || told.recv_timeout(Duration::from_secs(10)).expect("there is room").unwrap();
    let asking: Vec<_> = (0..MANY).map(|_| asked()).collect();
    drop(asking);
    expect_replaced(old, addr, &path);
    fs::remove_dir(&folder).unwrap();
}

#[test]
fn a_new_address_is_bound() {
    let (folder, path) = place();
    let (old, _) = Process::first(&path, b'a', Spread::Shared);
    // Of another IP address: what listens there cannot be the socket of the old process.
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], 0));
    let new = Process::start(&path, b'b', elsewhere, Spread::Shared);
    let (new_addr, remote) = new.addr_and_remote();
    old.end();
    assert_eq!((ask(new_addr), new_addr.ip()), (b'b', elsewhere.ip()));
    remote.stop();
    new.end();
    fs::remove_dir(&folder).unwrap();
}

/// A fleet that serves datagrams only, started anew: the old one answers `a`, the new one `b`.
#[test]
fn a_fleet_without_a_listener_is_taken_over_from() {
    let (folder, path) = place();
    let start = |word: u8, addr: SocketAddr| {
        let (tell, news) = channel();
        let path = path.clone();
        let thread = thread::spawn(move || {
            let fleet = Fleet::new(FleetOptions::default().threads(Some(1)))?;
            fleet.run_replaceable(path, DRAIN, move |member| {
                let answer = move |socket: &mut DatagramSocket<'_>, from: SocketAddr, _: &[u8]| {
                    socket.send_to(from, &[word]);
                };
                let key = member.reactor().register(answer);
                let options = UdpOptions::default().reuse_port(true);
                let (_, addr) = member.reactor().bind_udp(addr, key, options)?;
                tell.send((addr, member.fleet())).unwrap();
                Ok(())
            })
        });
        Process { thread, news }
    };
    let old = start(b'a', any());
    let (addr, _) = old.addr_and_remote();
    let new = start(b'b', addr);
    let (_, remote) = new.addr_and_remote();
    old.end();
    let client = UdpSocket::bind(any()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"?", addr).unwrap();
    let mut answer = [0];
    client.recv(&mut answer).unwrap();
    assert_eq!(answer, *b"b");
    remote.stop();
    new.end();
    fs::remove_dir(&folder).unwrap();
}

/// Whether the fleet of the next test has had a turn.
static HAS_TURNED: AtomicBool = AtomicBool::new(false);

/// More sockets than one message takes could never be handed on.
#[test]
fn a_fleet_that_listens_on_too_many_addresses_does_not_go_on() {
    waterwheel::raise_open_file_limit().unwrap(); // of some systems it is 256
    let (folder, path) = place();
    let (tell, ended) = channel();
    let fleet = Fleet::new(FleetOptions::default().threads(Some(1))).unwrap();
    let begin = move |path| {
        fleet.run_replaceable(path, DRAIN, |member| {
            let key = member.reactor().register(Word(b'a'));
            for _ in 0..254 {
                member.listen(any(), key, ListenOptions::default())?;
            }
            member.reactor().context().post(key, |_, _| HAS_TURNED.store(true, SeqCst));
            Ok(())
        })
    };
    let place = path.clone();
    thread::spawn(move || drop(tell.send(begin(place))));
    let error = ended.recv_timeout(PATIENCE).expect("it does not serve").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("254 addresses"), "{error}");
    assert!(!HAS_TURNED.load(SeqCst), "it served until it was refused");
    fs::remove_dir(&folder).unwrap();
}

#[test]
fn nothing_but_a_dead_socket_is_replaced() {
    let (folder, path) = place();
    // A file.
    fs::write(&path, "important").unwrap();
    let failed = Process::start(&path, b'a', any(), Spread::Shared);
    let error = failed.thread.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert!(error.to_string().contains("no socket"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"important");
    fs::remove_file(&path).unwrap();
    // A path in no directory.
    let failed = Process::start(&path.join("missing/control"), b'a', any(), Spread::Shared);
    let error = failed.thread.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().ends_with("; its directory must be there"), "{error}");
    // A process that answers and hands nothing on.
    let other = UnixListener::bind(&path).unwrap();
    let failed = Process::start(&path, b'a', any(), Spread::Shared);
    other.set_nonblocking(true).unwrap();
    while !failed.thread.is_finished() {
        drop(other.accept());
        thread::yield_now();
    }
    let error = failed.thread.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("no sockets were handed on"), "{error}");
    drop(UnixStream::connect(&path).unwrap()); // it is still there
    // The socket of a process that has ended.
    drop(other);
    let process = Process::start(&path, b'a', any(), Spread::Shared);
    let (addr, remote) = process.addr_and_remote();
    wait_for(addr, b'a');
    remote.stop();
    process.end();
    fs::remove_dir(&folder).unwrap();
}

/// Only root can be another user for a while; the mode is looked at above.
#[cfg(target_os = "linux")]
#[test]
fn a_process_of_another_users_is_not_believed() {
    use std::os::unix::fs::{MetadataExt, chown};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    const NOBODY: u32 = 65_534;
    let (folder, path) = place();
    if fs::metadata(&folder).unwrap().uid() != 0 {
        return fs::remove_dir(&folder).unwrap();
    }
    chown(&folder, Some(NOBODY), None).unwrap();
    let mut nc = Command::new("nc");
    nc.arg("-lkU").arg(&path).stdin(Stdio::null()).uid(NOBODY);
    let mut nc = nc.spawn().expect("nc is installed");
    let begun = Instant::now();
    // The path is there before somebody listens at it, and a socket without is a dead one.
    while UnixStream::connect(&path).is_err() {
        assert!(begun.elapsed() < PATIENCE, "nc does not listen");
        thread::yield_now();
    }
    let failed = Process::start(&path, b'a', any(), Spread::Shared);
    let error = failed.thread.join().unwrap().unwrap_err();
    let _ = nc.kill();
    nc.wait().unwrap();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains("of user 65534"), "{error}");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_spread_that_loses_connections_cannot_be_replaced() {
    let (folder, path) = place();
    let failed = Process::start(&path, b'a', any(), Spread::ReusePort);
    let error = failed.thread.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    fs::remove_dir(&folder).unwrap();
}
