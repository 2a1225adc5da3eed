//! Processes that start while another one is still setting up: the socket over which they take over
//! from each other is there from the beginning.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use waterwheel::fleet::{Fleet, FleetOptions};
use waterwheel::{Conn, ListenOptions};

use crate::support::{PATIENCE, patiently, scratch_path};

/// What a child is told: the path, the address, its word, and whether it waits in its set-up.
const ORDERS: &str = "WATERWHEEL_TEST_REPLACED";

/// The server of the tests below, in a process of its own: answers each byte with its word.
#[test]
#[ignore = "run by other tests"]
fn child() {
    let orders = std::env::var(ORDERS).expect("this test is run by another one");
    let mut orders = orders.split(' ').map(str::to_owned);
    let mut next = || orders.next().expect("four words");
    let (path, addr, word, waits) = (next(), next(), next(), next());
    let fleet = Fleet::new(FleetOptions::default().threads(Some(1))).unwrap();
    let result = fleet.run_replaceable(path, PATIENCE, move |member| {
        let word = word.clone();
        let echo = member.reactor().register(move |conn: &mut Conn<'_>, input: &[u8]| {
            conn.write(word.as_bytes());
            conn.close();
            input.len()
        });
        let addr = member.listen(&*addr, echo, ListenOptions::default())?;
        println!("listening on {addr}");
        if waits == "waits" {
            std::io::stdin().read_line(&mut String::new())?;
        }
        Ok(())
    });
    result.unwrap();
}

/// A child that is killed when it is dropped.
struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(path: &Path, addr: SocketAddr, word: &str, waits: bool) -> Self {
        let waits = if waits { "waits" } else { "goes" };
        let orders = format!("{} {addr} {word} {waits}", path.display());
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["replaced::child", "--exact", "--ignored", "--nocapture"]).env(ORDERS, orders);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Waits until it listens, and returns where.
    fn addr(&mut self) -> SocketAddr {
        let mut text = String::new();
        loop {
            text.clear();
            assert!(self.output.read_line(&mut text).unwrap() > 0, "it has ended");
            if let Some((_, addr)) = text.trim().split_once("listening on ") {
                return addr.parse().unwrap();
            }
        }
    }

    /// Ends its wait in the set-up.
    fn go(&mut self) {
        self.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    fn expect_end(mut self) {
        let status = patiently("its end", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it has ended
        self.child.wait().unwrap();
    }
}

fn place() -> (PathBuf, PathBuf) {
    let folder = scratch_path();
    fs::create_dir(&folder).unwrap();
    let path = folder.join("control");
    (folder, path)
}

/// Waits until so many processes ask at a path, besides the one that listens there.
#[track_caller]
fn expect_asking(path: &Path, count: usize) {
    let path = path.to_str().unwrap();
    patiently("somebody asks", || {
        let sockets = fs::read_to_string("/proc/net/unix").unwrap();
        let found = sockets.lines().filter(|line| line.contains(path)).count(); // as bound
        (found == 1 + count).then_some(())
    });
}

fn ask(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"?")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[test]
fn a_successor_takes_over_from_a_process_that_is_still_setting_up() {
    let (folder, path) = place();
    let mut first = Process::start(&path, any(), "first", true);
    let addr = first.addr();
    let mut second = Process::start(&path, addr, "second", false);
    expect_asking(&path, 1);
    first.go();
    assert_eq!(second.addr(), addr);
    first.expect_end();
    assert_eq!(ask(addr).unwrap(), "second");
    drop(second);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_successor_of_a_process_that_is_killed_while_it_sets_up_is_the_first_one() {
    let (folder, path) = place();
    let mut first = Process::start(&path, any(), "first", true);
    let addr = first.addr();
    let mut second = Process::start(&path, addr, "second", false);
    expect_asking(&path, 1);
    drop(first);
    assert_eq!(second.addr(), addr);
    patiently("it serves", || ask(addr).ok().filter(|answer| answer == "second"));
    // And one takes over from it, as from any.
    let mut third = Process::start(&path, addr, "third", false);
    assert_eq!(third.addr(), addr);
    second.expect_end();
    assert_eq!(ask(addr).unwrap(), "third");
    drop(third);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn of_processes_that_start_at_once_one_is_left() {
    let (folder, path) = place();
    expect_one_of_six(&path, 7_000);
    fs::remove_dir_all(&folder).unwrap();
}

/// The socket of a process that was killed is there: each of them wants to remove it.
#[test]
fn of_processes_that_start_at_once_behind_a_crash_one_is_left() {
    let (folder, path) = place();
    drop(UnixListener::bind(&path).unwrap());
    expect_one_of_six(&path, 7_001);
    fs::remove_dir_all(&folder).unwrap();
}

#[track_caller]
fn expect_one_of_six(path: &Path, port: u16) {
    // An address of this test alone: all of them name the same port.
    let [.., high, low] = std::process::id().to_be_bytes();
    let addr = SocketAddr::from(([127, 77, high, low], port));
    let mut running: Vec<_> =
        (0..6).map(|word| Process::start(path, addr, &word.to_string(), false)).collect();
    patiently("one is left", || {
        running.retain_mut(|process| match process.child.try_wait().unwrap() {
            Some(status) => {
                assert!(status.success(), "{status}");
                false
            }
            None => true,
        });
        (running.len() == 1).then_some(())
    });
    assert!(ask(addr).unwrap().len() == 1);
    // The path leads to it: it is found there, and replaced.
    let mut last = Process::start(path, addr, "last", false);
    assert_eq!(last.addr(), addr);
    running.pop().expect("one is left").expect_end();
    assert_eq!(ask(addr).unwrap(), "last");
    let left = fs::read_dir(path.parent().unwrap()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["control"], "and nothing else is left there");
}
