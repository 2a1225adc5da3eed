//! Servers behind HAProxy that are restarted one after another under load, and no request fails.
//!
//! The configuration is the one that users are given, `haproxy.cfg`, on other ports. The load is of
//! the program `load`. The long run is `tests/balancer/run`.
#![cfg(unix)]

#[path = "../../../tests/balancer/peers.rs"]
mod peers;
#[path = "../../../tests/examples/process.rs"]
mod process;
#[path = "../../../tests/examples/servers.rs"]
mod servers;
#[path = "../../../tests/balancer/stats.rs"]
mod stats;

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use peers::{Dir, await_listener, configure, find, free_ports, haproxy, local};
use process::{End, PATIENCE, Process};
use stats::Socket;

const BEHIND_HAPROXY: &str = env!("CARGO_BIN_EXE_behind_haproxy");

/// One server and the ports that it keeps.
struct Place {
    listen: String,
    agent: String,
}

impl Place {
    fn start(&self) -> Process {
        let args = ["--listen", &self.listen, "--agent", &self.agent];
        let server = Process::start(BEHIND_HAPROXY, &args);
        assert_eq!(server.line(), format!("listening on {}", self.listen));
        assert_eq!(server.line(), format!("agent on {}", self.agent));
        server
    }
}

/// Everything but the load.
struct Site {
    front: String,
    stats: Socket,
    places: Vec<Place>,
    servers: Vec<Process>,
    _haproxy: Process,
    _dir: Dir,
}

impl Site {
    /// `None` without HAProxy.
    fn start() -> Option<Self> {
        let program = find("haproxy", "haproxy")?;
        let dir = Dir::new();
        let ports = free_ports::<7>();
        let mut words = vec![("127.0.0.1:7000", local(ports[0]).to_string())];
        for (server, pair) in ["7001", "7002", "7003"].into_iter().zip(&ports[1..4]) {
            words.push((server, pair.to_string()));
        }
        for (agent, port) in ["8001", "8002", "8003"].into_iter().zip(&ports[4..]) {
            words.push((agent, port.to_string()));
        }
        let config = configure(&dir, "haproxy.cfg", &words);
        let socket = dir.path("stats");
        let mut file = OpenOptions::new().append(true).open(&config).unwrap();
        writeln!(file, "global\n    stats socket {}", socket.display()).unwrap();
        let places: Vec<Place> = (1..4)
            .map(|at| Place {
                listen: local(ports[at]).to_string(),
                agent: local(ports[at + 3]).to_string(),
            })
            .collect();
        let servers: Vec<Process> = places.iter().map(Place::start).collect();
        let haproxy = haproxy(&program, &config);
        for server in &servers {
            assert_eq!(server.line(), "in service");
        }
        await_listener(local(ports[0]));
        let (front, stats) = (local(ports[0]).to_string(), Socket(socket));
        stats.wait();
        Some(Self { front, stats, places, servers, _haproxy: haproxy, _dir: dir })
    }

    /// What an operator does: ask to end, wait, start again, wait until it counts.
    fn restart(&mut self, which: usize) {
        let which = which % self.places.len();
        let old = self.servers.remove(which);
        old.terminate();
        let end = old.end();
        assert_eq!(end.code, Some(0), "{end:?}");
        self.servers.insert(which, self.places[which].start());
        assert_eq!(self.servers[which].line(), "in service");
    }

    /// Connections that HAProxy has had from clients.
    fn requests(&self) -> u64 {
        self.stats.field("clients", "FRONTEND", "stot").parse().unwrap()
    }
}

/// Connect, send, answer, close, again and again.
fn storm(front: &str) -> Process {
    let args = ["storm", "--connect", front, "--duration", "3600", "--warmup", "0", "--json"];
    Process::start("load", &args)
}

/// Ends the load; how many requests were answered and how many failed.
#[track_caller]
fn result_of(load: Process) -> (u64, u64) {
    load.signal("INT");
    let End { code, output, errors } = load.end();
    let text = output.join("\n");
    assert!(matches!(code, Some(0 | 1)), "{code:?} {text} {errors}");
    println!("{text}");
    (number(&text, "connections"), number(&text, "failed") + number(&text, "unanswered"))
}

/// The number behind a key of a JSON object.
#[track_caller]
fn number(text: &str, key: &str) -> u64 {
    let (_, rest) = text.split_once(&format!("\"{key}\":")).expect(text);
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect(text)
}

/// Connects as a balancer does and has a word echoed.
fn echo_through(addr: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\nhello")?;
    expect_echo(&mut stream)?;
    Ok(stream)
}

fn expect_echo(stream: &mut TcpStream) -> io::Result<()> {
    let mut found = [0; 5];
    stream.read_exact(&mut found)?;
    assert_eq!(&found, b"hello");
    Ok(())
}

/// What the agent says.
fn ask(agent: &str) -> io::Result<String> {
    let mut text = String::new();
    TcpStream::connect(agent)?.read_to_string(&mut text)?;
    Ok(text)
}

/// The order in which a server leaves, with the test in the place of the balancer.
#[test]
fn a_server_that_leaves_serves_until_the_balancer_knows() {
    let [listen, agent] = free_ports().map(|port| local(port).to_string());
    let place = Place { listen, agent };
    let server = place.start();
    assert_eq!(ask(&place.agent).unwrap(), "up ready\n");
    server.terminate();
    let begin = Instant::now();
    while ask(&place.agent).unwrap() != "drain\n" {
        assert!(begin.elapsed() < PATIENCE, "it does not say that it leaves");
        drop(echo_through(&place.listen).unwrap()); // nobody has been told
    }
    // Half a second is left for those that were on their way.
    let mut last = echo_through(&place.listen).unwrap();
    while TcpStream::connect(&place.listen).is_ok() {
        assert!(begin.elapsed() < PATIENCE, "it goes on accepting");
    }
    last.write_all(b"hello").unwrap();
    expect_echo(&mut last).unwrap();
    drop(last);
    assert_eq!(server.end().code, Some(0));
}

#[test]
fn three_servers_restart_under_load_and_no_request_fails() {
    let Some(mut site) = Site::start() else { return };
    let load = storm(&site.front);
    for which in 0..3 {
        site.restart(which);
    }
    let (answered, failed) = result_of(load);
    assert_eq!(failed, 0);
    assert!(answered > 1_000, "{answered}");
}

/// `RESTARTS` and `REQUESTS` say how much.
#[test]
#[ignore = "takes minutes: tests/balancer/run"]
fn many_restarts_under_load_and_no_request_fails() {
    let Some(mut site) = Site::start() else { return };
    let wanted =
        |name: &str, most: u64| env::var(name).map_or(most, |text| text.parse().expect("a number"));
    let (restarts, requests) = (wanted("RESTARTS", 100), wanted("REQUESTS", 1_000_000));
    let load = storm(&site.front);
    let begin = Instant::now();
    let mut done = 0;
    while done < restarts || site.requests() < requests {
        assert!(begin.elapsed() < Duration::from_secs(3_000), "{done} restarts are too slow");
        site.restart(done as usize);
        done += 1;
    }
    let (answered, failed) = result_of(load);
    println!("{done} restarts, {answered} requests, {failed} failed, {:?}", begin.elapsed());
    assert_eq!(failed, 0);
    assert!(answered >= requests, "{answered}");
}

#[test]
fn it_does_not_panic_without_a_reader() {
    servers::expect_no_panic_without_a_reader(BEHIND_HAPROXY);
}
