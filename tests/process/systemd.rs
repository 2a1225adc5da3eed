//! What a service manager hears of a process that it has started. The test stands for the manager;
//! the one that is ignored is the service.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use waterwheel::{Conn, ListenOptions, Reactor};

use crate::support::{Client, PATIENCE};

/// The watchdog of the service.
const WATCHDOG: Duration = Duration::from_millis(200);

/// The service; killed when the test ends early.
struct Service {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Service {
    #[track_caller]
    fn start(notify_socket: &str, watchdog_pid: &str) -> (Self, SocketAddr) {
        let mut child = Command::new("sh")
            .args(["-c", &format!(r#"WATCHDOG_PID={watchdog_pid} exec "$0" "$@""#)])
            .arg(std::env::current_exe().unwrap())
            .args(["systemd::service", "--exact", "--ignored", "--nocapture"])
            .env("NOTIFY_SOCKET", notify_socket)
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut service = Self { child, output };
        let addr = service.line("listening on ").parse().unwrap();
        (service, addr)
    }

    /// Reads up to a line that has this text; what follows it there.
    #[track_caller]
    fn line(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "ended before {text:?}");
            if let Some((_, rest)) = line.trim_end().split_once(text) {
                return rest.to_owned();
            }
        }
    }

    #[track_caller]
    fn expect_success(mut self) {
        // A pipe that is full would hold it up.
        self.output.read_to_end(&mut Vec::new()).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The manager's socket at a path, whose file goes with the test.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_file(&path);
        Self { socket: UnixDatagram::bind(&path).unwrap(), path }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The next message, or `None` if none comes in time.
fn message(socket: &UnixDatagram, wait: Duration) -> Option<String> {
    socket.set_read_timeout(Some(wait)).unwrap();
    let mut bytes = [0; 64];
    let count = socket.recv(&mut bytes).ok()?;
    Some(String::from_utf8(bytes[..count].to_vec()).unwrap())
}

#[track_caller]
fn expect(socket: &UnixDatagram, expected: &str) {
    assert_eq!(message(socket, PATIENCE).as_deref(), Some(expected));
}

#[test]
fn a_manager_hears_ready_alive_and_stopping_and_nothing_from_a_loop_that_hangs() {
    let manager = Manager::new("notify.socket");
    let (mut service, addr) = Service::start(manager.path.to_str().unwrap(), "$$");
    expect(&manager.socket, "READY=1");
    expect(&manager.socket, "WATCHDOG=1");
    expect(&manager.socket, "WATCHDOG=1");

    let mut client = Client::connect(addr);
    client.send(b"hang");
    service.line("it hangs");
    manager.socket.set_nonblocking(true).unwrap();
    while manager.socket.recv(&mut [0; 64]).is_ok() {} // sent before
    manager.socket.set_nonblocking(false).unwrap();
    assert_eq!(
        message(&manager.socket, 3 * WATCHDOG),
        None,
        "the loop hangs, and says it does not"
    );
    service.child.stdin.take().unwrap().write_all(b"\n").unwrap();
    client.expect(b"hang");
    expect(&manager.socket, "WATCHDOG=1");

    client.send(b"stop");
    client.expect(b"stop");
    // It turns on while it drains, and stops at last, which is not told again.
    while message(&manager.socket, PATIENCE).expect("it stops") != "STOPPING=1" {}
    drop(client);
    service.expect_success();
    while let Some(text) = message(&manager.socket, Duration::from_millis(1)) {
        assert_eq!(text, "WATCHDOG=1");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_and_a_watchdog_that_is_for_another_process() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("waterwheel-notify-{}", std::process::id());
    let at = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&at).unwrap();
    let (service, addr) = Service::start(&format!("@{name}"), "1");
    expect(&manager, "READY=1");
    assert_eq!(message(&manager, 3 * WATCHDOG), None);
    let mut client = Client::connect(addr);
    client.send(b"stop");
    client.expect(b"stop");
    drop(client);
    expect(&manager, "STOPPING=1");
    service.expect_success();
}

#[test]
fn without_systemd_nothing_is_told() {
    assert!(!Reactor::new().unwrap().notify_systemd().unwrap());
}

#[test]
#[ignore = "runs in a process that has a service manager"]
fn service() {
    let mut reactor = Reactor::new().unwrap();
    let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
        conn.write(input);
        match input {
            b"hang" => {
                println!("it hangs");
                std::io::stdin().read_exact(&mut [0]).unwrap();
            }
            b"stop" => conn.context().drain(PATIENCE),
            _ => {}
        }
        input.len()
    });
    let addr = reactor.listen("127.0.0.1:0", echo, ListenOptions::default()).unwrap();
    println!("listening on {addr}");
    assert!(reactor.notify_systemd().unwrap());
    reactor.run().unwrap();
}
