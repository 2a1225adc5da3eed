//! Two servers behind HAProxy that are restarted one after the other, with connections kept on both
//! sides. The configuration is the one that users are given, `haproxy.cfg`, on other ports. The
//! load is of the program `load`, which checks each answer.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Instant;

use crate::WEB;
use crate::peers::{Dir, await_listener, configure, find, free_ports, haproxy, local};
use crate::process::{End, PATIENCE, Process};
use crate::stats::Socket;

/// The servers, by the names that HAProxy has for them.
const NAMES: [&str; 2] = ["one", "two"];

struct Site {
    front: String,
    stats: Socket,
    ports: [u16; 2],
    servers: Vec<Process>,
    _haproxy: Process,
    _dir: Dir,
}

impl Site {
    /// `None` without HAProxy.
    fn start() -> Option<Self> {
        let program = find("haproxy", "haproxy")?;
        let dir = Dir::new();
        let [front, ports @ ..] = free_ports::<3>();
        let words = [
            ("127.0.0.1:8080", local(front).to_string()),
            ("127.0.0.1:8081", local(ports[0]).to_string()),
            ("127.0.0.1:8082", local(ports[1]).to_string()),
        ];
        let config = configure(&dir, "haproxy.cfg", &words);
        let socket = dir.path("stats");
        let mut file = OpenOptions::new().append(true).open(&config).unwrap();
        writeln!(file, "global\n    stats socket {}", socket.display()).unwrap();
        let servers = ports.iter().map(|port| start(*port)).collect();
        let haproxy = haproxy(&program, &config);
        await_listener(local(front));
        let (front, stats) = (local(front).to_string(), Socket(socket));
        stats.wait();
        Some(Self { front, stats, ports, servers, _haproxy: haproxy, _dir: dir })
    }

    /// What an operator does: ask to end, wait, start again, wait until it counts.
    fn restart(&mut self, which: usize) {
        let old = self.servers.remove(which);
        old.terminate();
        let end = old.end();
        assert_eq!(end.code, Some(0), "{end:?}");
        self.servers.insert(which, start(self.ports[which]));
        let before = self.served(NAMES[which]);
        self.wait_until(|site| {
            site.stats.field("servers", NAMES[which], "status") == "UP"
                && site.served(NAMES[which]) > before + 100
        });
    }

    /// Requests that a server has had.
    fn served(&self, name: &str) -> u64 {
        self.stats.field("servers", name, "stot").parse().unwrap()
    }

    #[track_caller]
    fn wait_until(&self, is_so: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !is_so(self) {
            assert!(begin.elapsed() < PATIENCE, "it does not come about");
            std::thread::yield_now();
        }
    }
}

/// A server on its own port.
fn start(port: u16) -> Process {
    let addr = local(port).to_string();
    let server = Process::start(WEB, &["--listen", &addr, "--echo"]);
    assert_eq!(server.line(), format!("listening on {addr}"));
    server
}

/// The number behind a key of a JSON object.
#[track_caller]
fn number(text: &str, key: &str) -> u64 {
    let (_, rest) = text.split_once(&format!("\"{key}\":")).expect(text);
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect(text)
}

fn roll(load: &[&str]) {
    let Some(mut site) = Site::start() else { return };
    let to = format!("http://{}/user/12", site.front);
    let bounds = ["--json", "--warmup", "0", "--duration", "60", &to];
    let load = Process::start("load", &[&["http"], load, &bounds].concat());
    for name in NAMES {
        site.wait_until(|site| site.served(name) > 100);
    }
    for which in [0, 1, 0, 1] {
        site.restart(which);
    }
    load.signal("INT");
    let End { code, output, errors } = load.end();
    let text = output.join("\n");
    assert_eq!(code, Some(0), "{text} {errors}");
    assert!(text.contains("\"errors\": []"), "{text}");
    assert_eq!(number(&text, "wrong"), 0, "{text}");
    assert_eq!(number(&text, "reconnects"), 0, "the balancer keeps its clients: {text}");
    assert!(number(&text, "messages") > 400, "{text}");
}

#[test]
fn two_servers_restart_under_a_closed_load_and_no_request_fails() {
    roll(&["closed", "--connections", "16"]);
}

#[test]
fn two_servers_restart_while_bodies_are_sent_and_no_request_fails() {
    roll(&["closed", "--connections", "8", "--method", "PUT", "--size", "3000"]);
}
