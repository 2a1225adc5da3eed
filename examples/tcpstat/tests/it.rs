//! The watcher of a port, held against what is open there. It needs the program `echo`.
#![cfg(target_os = "linux")]

#[path = "../../../tests/examples/json.rs"]
mod json;
#[path = "../../../tests/support/network.rs"]
mod network;
#[path = "../../../tests/examples/process.rs"]
mod process;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use json::Json;
use network::alone;
use process::{PATIENCE, Process};

const TCPSTAT: &str = env!("CARGO_BIN_EXE_tcpstat");

/// What it says of a port.
#[track_caller]
fn look(port: u16) -> Json {
    let end = Process::start(TCPSTAT, &[&port.to_string(), "--json"]).end();
    assert_eq!((end.code, end.errors.as_str()), (Some(0), ""), "{end:?}");
    assert_eq!(end.output.len(), 1, "{end:?}");
    Json::parse(&end.output[0])
}

/// Looks again and again until there is what there should be.
#[track_caller]
fn look_until(port: u16, done: impl Fn(&Json) -> bool) -> Json {
    let start = Instant::now();
    loop {
        let report = look(port);
        if done(&report) {
            return report;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {report:?}");
    }
}

/// Connections in a state, with the port at this end and at the other.
#[track_caller]
fn count(report: &Json, state: &str) -> (u64, u64) {
    let state = report.at(&["states", state]);
    (state.at(&["local"]).whole(), state.at(&["remote"]).whole())
}

#[track_caller]
fn listener(report: &Json) -> &Json {
    let listeners = report.at(&["listeners"]).list();
    assert_eq!(listeners.len(), 1, "{listeners:?}");
    &listeners[0]
}

#[test]
fn a_server_and_its_clients_are_counted_by_state() {
    alone(|| {
        let (server, addr) = Process::serve("echo", &[]);
        let mut clients: Vec<_> = (0..5)
            .map(|_| {
                let mut client = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                // Once it has been answered it has been accepted.
                client.write_all(b"x").unwrap();
                client.read_exact(&mut [0]).unwrap();
                client
            })
            .collect();
        let report = look(addr.port());
        assert_eq!(report.at(&["port"]).whole(), u64::from(addr.port()));
        assert_eq!(count(&report, "ESTABLISHED"), (5, 5));
        assert_eq!(count(&report, "CLOSE_WAIT"), (0, 0));
        assert_eq!(listener(&report).at(&["addr"]), &Json::Text(addr.to_string()));
        assert_eq!(listener(&report).at(&["accept_queue"]).whole(), 0);
        let pid = Json::Whole(server.id().into());
        assert_eq!(listener(&report).at(&["processes"]).list(), std::slice::from_ref(&pid));

        let processes = report.at(&["processes"]).list();
        let echo = processes.iter().find(|process| *process.at(&["pid"]) == pid).unwrap();
        assert_eq!(echo.at(&["name"]), &Json::Text("echo".to_owned()));
        let files = std::fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count();
        assert_eq!(echo.at(&["open_files"]).whole(), files as u64);
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let limit = limit.split_whitespace().next().unwrap();
        assert_eq!(echo.at(&["open_files_limit"]).whole().to_string(), limit);

        // Both ends see a client off that closes first.
        drop(clients.pop());
        look_until(addr.port(), |report| count(report, "ESTABLISHED") == (4, 4));
        drop(clients);
        server.terminate();
        assert_eq!(server.end().code, Some(0));
        assert!(look(addr.port()).at(&["listeners"]).list().is_empty());
    });
}

#[test]
fn an_accept_queue_is_told_with_its_limit_and_half_closes_with_their_side() {
    alone(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(2).unwrap();
        let addr = socket.local_addr().unwrap().as_socket().unwrap();
        let clients: Vec<_> =
            (0..3).map(|_| TcpStream::connect_timeout(&addr, PATIENCE).unwrap()).collect();
        clients[0].shutdown(Shutdown::Write).unwrap();
        let late = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        late.set_nonblocking(true).unwrap();
        late.connect(&addr.into()).expect_err("it waits");
        // The ACK of a FIN may be delayed.
        let report = look_until(addr.port(), |report| count(report, "FIN_WAIT_1") == (0, 0));
        assert_eq!(listener(&report).at(&["accept_queue"]).whole(), 3);
        assert_eq!(listener(&report).at(&["accept_queue_limit"]).whole(), 2);
        assert_eq!(count(&report, "ESTABLISHED"), (2, 2));
        assert_eq!(count(&report, "FIN_WAIT_2"), (0, 1));
        assert_eq!(count(&report, "CLOSE_WAIT"), (1, 0));
        assert_eq!(count(&report, "SYN_SENT"), (0, 1));
        for name in ["ListenOverflows", "ListenDrops"] {
            assert!(report.at(&["counters", name]).whole() > 0, "{report:?}");
        }

        let text = Process::start(TCPSTAT, &[&addr.port().to_string()]).end().output.join("\n");
        for line in ["accept queue 3 of 2", "! the accept queue is full", "  CLOSE_WAIT: the other"]
        {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("  TIME_WAIT: "), "{text}");
        assert!(!text.contains("nobody listens"), "{text}");
    });
}

#[test]
fn it_looks_again_and_again() {
    alone(|| {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 0)).into()).unwrap();
        socket.listen(1).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        let watcher = Process::start(TCPSTAT, &["--json", &port.to_string(), "--watch", "0.01"]);
        let waiting = |line: &str| listener(&Json::parse(line)).at(&["accept_queue"]).whole();
        assert_eq!(waiting(&watcher.line()), 0);
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let start = Instant::now();
        while waiting(&watcher.line()) == 0 {
            assert!(start.elapsed() < PATIENCE, "nobody waits");
        }
        drop((client, watcher));
    });
}

#[test]
fn a_wrong_command_line_is_told_in_one_line() {
    let cases: [(&[&str], &str); 5] = [
        (&[], "which port"),
        (&["0"], "\"0\""),
        (&["http"], "\"http\""),
        (&["80", "--watch", "0"], "--watch is \"0\""),
        (&["80", "--no-such-option"], "--no-such-option"),
    ];
    for (args, expected) in cases {
        let end = Process::start(TCPSTAT, args).end();
        assert_eq!(end.code, Some(2), "{end:?}");
        assert_eq!(end.errors.lines().count(), 1, "{end:?}");
        assert!(end.errors.contains(expected), "{end:?}");
    }
}

/// What it says where /proc is an empty folder, in a namespace of its own.
#[track_caller]
fn look_without_proc(args: &[&str]) -> Vec<String> {
    let script = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
    let end = Process::start_by(&["unshare", "-rm", "sh", "-c", script], TCPSTAT, args).end();
    assert_eq!((end.code, end.errors.as_str()), (Some(0), ""), "{end:?}");
    end.output
}

#[test]
fn states_are_told_without_proc_and_what_is_lacking_too() {
    alone(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let _client = TcpStream::connect(addr).unwrap();
        let port = addr.port().to_string();
        let lines = look_without_proc(&[&port]);
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        assert!(has(&format!("LISTEN {addr}, accept queue 1 of ")), "{lines:?}");
        assert!(has("no counters: /proc/net/netstat: No such file or directory"), "{lines:?}");
        assert!(has("no processes: /proc/self/fd: No such file or directory"), "{lines:?}");
        assert!(!has("may not be looked at"), "{lines:?}");
        let report = Json::parse(&look_without_proc(&[&port, "--json"]).concat());
        assert_eq!(count(&report, "ESTABLISHED"), (1, 1));
        assert_eq!(report.at(&["counters"]), &Json::Null);
        assert_eq!(report.at(&["processes"]), &Json::Null);
    });
}
