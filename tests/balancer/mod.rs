//! Behind real balancers: HAProxy and nginx before the servers of this crate, and nginx behind its
//! proxy. What is not installed is skipped, with a word about it.

mod peers;
mod stats;
#[allow(dead_code, unused_imports, reason = "most of it is used in `tests/it/`")]
#[path = "../support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use peers::{Dir, await_listener, configure, find, free_ports, haproxy, local, nginx};
use stats::Socket;
use support::{Client, Server, patiently};
use waterwheel::proxy_protocol::ProxyProtocol;
use waterwheel::{Conn, Handler, ListenOptions, Peer, Reactor};

use crate::process::Process;

/// Tells each client who it is, and counts the connections that are for nobody.
struct Who {
    checks: Arc<AtomicU64>,
}

impl Handler for Who {
    type State = Peer;

    fn on_accept(&mut self, peer: &Peer) -> Option<Peer> {
        if peer.destination.is_none() {
            self.checks.fetch_add(1, Ordering::Relaxed);
        }
        Some(*peer)
    }

    fn on_data(&mut self, peer: &mut Peer, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        assert_eq!(peer.addr, conn.peer_addr());
        let proxy = peer.proxy.map(|addr| addr.ip());
        let text = format!("{} via {proxy:?} to {:?}\n", peer.addr, peer.destination);
        conn.write(text.as_bytes());
        input.len()
    }
}

/// Says `drain` or `ready`.
struct Agent {
    drains: Arc<AtomicBool>,
}

impl Handler for Agent {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, (): &mut (), conn: &mut Conn<'_>) {
        let drains = self.drains.load(Ordering::Relaxed);
        conn.write(if drains { b"drain\n" } else { b"up ready\n" });
        conn.close();
    }

    fn on_data(&mut self, (): &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
        input.len()
    }
}

/// The server behind: where it listens, and what its handlers share with the test.
struct Back {
    server: Server,
    agent: SocketAddr,
    checks: Arc<AtomicU64>,
    drains: Arc<AtomicBool>,
}

impl Back {
    fn start() -> Self {
        let (checks, drains) = (Arc::default(), Arc::default());
        let (who, agent) =
            (Who { checks: Arc::clone(&checks) }, Agent { drains: Arc::clone(&drains) });
        let (send, receive) = std::sync::mpsc::channel();
        let server = Server::start(move |reactor: &mut Reactor| {
            let (who, agent) = (reactor.register(who), reactor.register(agent));
            let trusted = ProxyProtocol::from_trusted(["127.0.0.1"])?;
            let options = ListenOptions::default();
            send.send(reactor.listen("127.0.0.1:0", agent, options.clone())?).unwrap();
            reactor.listen("127.0.0.1:0", who, options.proxy_protocol(Some(trusted)))
        });
        Self { server, agent: receive.recv().unwrap(), checks, drains }
    }
}

/// Asks through a balancer who it is.
#[track_caller]
fn expect_named(front: SocketAddr) {
    let mut client = Client::connect(front);
    client.send(b"who am I?");
    let mut line = String::new();
    BufReader::new(&client.stream).read_line(&mut line).unwrap();
    let expected = format!("{} via Some(127.0.0.1) to Some({front})\n", client.addr());
    assert_eq!(line, expected);
}

struct Haproxy {
    stats: Socket,
    fronts: [SocketAddr; 2],
    _process: Process,
    _dir: Dir,
}

fn start_haproxy(program: &Path, back: &Back) -> Haproxy {
    let dir = Dir::new();
    let ports = free_ports::<2>();
    let socket = dir.path("stats");
    let words = [
        ("FRONT_1", ports[0].to_string()),
        ("FRONT_2", ports[1].to_string()),
        ("BACK", back.server.addr.port().to_string()),
        ("AGENT", back.agent.port().to_string()),
        ("STATS", socket.display().to_string()),
    ];
    let config = configure(&dir, "tests/balancer/haproxy.cfg", &words);
    let process = haproxy(program, &config);
    let fronts = ports.map(local);
    fronts.into_iter().for_each(await_listener);
    let stats = Socket(socket);
    stats.wait();
    Haproxy { stats, fronts, _process: process, _dir: dir }
}

#[test]
fn haproxy_names_the_client_in_both_versions() {
    let Some(program) = find("haproxy", "haproxy") else { return };
    let back = Back::start();
    let haproxy = start_haproxy(&program, &back);
    for front in haproxy.fronts {
        for _ in 0..20 {
            expect_named(front);
        }
    }
    drop(haproxy);
    assert_eq!(back.server.stop().proxy_refused, 0);
}

#[test]
fn health_checks_do_not_disturb() {
    let Some(program) = find("haproxy", "haproxy") else { return };
    let back = Back::start();
    let haproxy = start_haproxy(&program, &back);
    patiently("health checks with a header", || {
        (back.checks.load(Ordering::Relaxed) >= 5).then_some(())
    });
    for proxy in ["version_1", "version_2"] {
        assert_eq!(haproxy.stats.field(proxy, "one", "status"), "UP");
        assert_eq!(haproxy.stats.field(proxy, "one", "chkdown"), "0");
    }
    haproxy.fronts.into_iter().for_each(expect_named);
    drop(haproxy);
    let stats = back.server.stop();
    assert_eq!((stats.proxy_refused, stats.refused), (0, 0));
}

#[test]
fn a_draining_server_is_seen_by_haproxy() {
    let Some(program) = find("haproxy", "haproxy") else { return };
    let back = Back::start();
    let haproxy = start_haproxy(&program, &back);
    let await_status = |wanted: &str| {
        patiently(wanted, || {
            let status = haproxy.stats.field("version_2", "one", "status");
            status.starts_with(wanted).then_some(())
        });
    };
    await_status("UP");
    back.drains.store(true, Ordering::Relaxed);
    await_status("DRAIN");
    back.drains.store(false, Ordering::Relaxed);
    await_status("UP");
    expect_named(haproxy.fronts[1]);
}

#[test]
fn nginx_names_the_client() {
    let Some(program) = find("nginx", "nginx-light") else { return };
    let back = Back::start();
    let dir = Dir::new();
    let [port] = free_ports();
    let words = [
        ("FRONT_1", port.to_string()),
        ("BACK", back.server.addr.port().to_string()),
        ("DIR", dir.path("").display().to_string()),
    ];
    let config = configure(&dir, "tests/balancer/nginx.conf", &words);
    let Some(_nginx) = nginx(&program, &config, &dir) else { return };
    await_listener(local(port));
    for _ in 0..20 {
        expect_named(local(port));
    }
}

/// What wrk counts, what nginx counts and what the proxy passes on are the same.
#[test]
fn wrk_through_the_proxy_to_nginx_loses_nothing() {
    let (Some(wrk), Some(program)) = (find("wrk", "wrk"), find("nginx", "nginx-light")) else {
        return;
    };
    let dir = Dir::new();
    let [port] = free_ports();
    let words = [("BACK", port.to_string()), ("DIR", dir.path("").display().to_string())];
    let config = configure(&dir, "tests/balancer/nginx_http.conf", &words);
    let Some(nginx) = nginx(&program, &config, &dir) else { return };
    await_listener(local(port));
    let (proxy, addr) = Process::serve("proxy", &["--connect", &local(port).to_string()]);
    let url = format!("http://{addr}/");
    let output = Command::new(wrk).args(["-t1", "-c50", "-d2s", &url]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    let line = text.lines().find(|line| line.contains(" requests in ")).expect(&text);
    let counted: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
    // Once the proxy has ended, so have its connections.
    proxy.terminate();
    let end = proxy.end();
    assert_eq!(end.code, Some(0), "{end:?}");
    nginx.signal("QUIT");
    assert_eq!(nginx.end().code, Some(0));
    let log = std::fs::read_to_string(dir.path("access.log")).unwrap();
    let failed = log.lines().filter(|line| !line.contains("\" 200 ")).count();
    assert_eq!(failed, 0);
    // wrk stops in the middle: up to one request of each connection is under way.
    let served = log.lines().count() as u64;
    assert!((counted..=counted + 50).contains(&served), "{counted} and {served}");
    assert!(counted > 1_000, "{counted}");
}
