//! The echo server for datagrams as a process.
#![cfg(unix)]

#[path = "../src/answerable.rs"]
mod answerable;
#[path = "../../../tests/examples/process.rs"]
mod process;
#[path = "../../../tests/examples/servers.rs"]
mod servers;

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use process::{PATIENCE, Process};
use servers::{expect_clean_end, expect_no_panic_without_a_reader, failure};

const UDP_ECHO: &str = env!("CARGO_BIN_EXE_udp_echo");

/// A path of the test's own; nothing is there when it begins and when it ends.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ww-udp-echo-{}-{name}", std::process::id()));
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn it_does_not_panic_without_a_reader() {
    expect_no_panic_without_a_reader(UDP_ECHO);
}

#[test]
fn datagrams_come_back_and_peers_are_counted() {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for args in [&[][..], &["--sessions", "--idle-timeout", "0.05"]] {
        let (server, addr) = Process::serve(UDP_ECHO, args);
        client.connect(addr).unwrap();
        for text in ["hello", "", "again"] {
            client.send(text.as_bytes()).unwrap();
            let mut buffer = [0; 64];
            let count = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..count], text.as_bytes());
        }
        if !args.is_empty() {
            let expected = format!("{}: ", client.local_addr().unwrap());
            let line = server.line();
            assert!(line.starts_with(&expected) && line.ends_with(", silent"), "{line}");
        }
        let output = expect_clean_end(server);
        let last = output.last().unwrap();
        assert!(last.starts_with("received 3 datagrams (10 bytes), sent 3 (10 bytes)"), "{last}");
    }
    let taken = client.local_addr().unwrap().to_string();
    for (args, told) in [(["--listen", &taken], taken.as_str()), (["--bad", "1"], "--bad")] {
        let (_, text) = failure(UDP_ECHO, &args);
        assert!(text.contains(told), "{text}");
    }
}

#[test]
fn a_limit_out_of_range_is_refused_by_the_name_of_its_option() {
    for seconds in ["1000000000", "0"] {
        let (code, text) = failure(UDP_ECHO, &["--sessions", "--idle-timeout", seconds]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(&format!("--idle-timeout {seconds}: must be from")), "{text}");
    }
}

/// A forged datagram whose source is the server itself has its port; so has this socket, which can
/// hear whether there is an answer.
#[test]
#[cfg(target_os = "linux")] // where all of 127.0.0.0/8 is this machine
fn a_datagram_from_the_port_of_the_server_is_not_answered() {
    for args in [&[][..], &["--sessions"]] {
        let (server, addr) = Process::serve(UDP_ECHO, args);
        let forger = UdpSocket::bind(("127.0.0.2", addr.port())).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        forger.send_to(b"without end", addr).unwrap();
        client.send_to(b"hello", addr).unwrap();
        let mut buffer = [0; 64];
        assert_eq!(client.recv(&mut buffer).unwrap(), 5);
        // What came first would have been answered first.
        forger.set_nonblocking(true).unwrap();
        let error = forger.recv(&mut buffer).expect_err("an answer");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        let output = expect_clean_end(server);
        let told = |told: &str| output.iter().any(|line| line.contains(told));
        assert!(told("received 2 datagrams (16 bytes), sent 1 (5 bytes)"), "{output:?}");
    }
}

#[test]
fn services_of_the_system_are_not_answered() {
    let is_answered = |port| answerable::is_answerable(([192, 0, 2, 1], port).into(), &[7_001]);
    for port in [0, 7, 19, 1_023, 7_001] {
        assert!(!is_answered(port), "{port}");
    }
    assert!(is_answered(1_024) && is_answered(7_002));
}

#[test]
fn datagrams_come_back_over_a_unix_socket_and_it_is_removed() {
    let (place, own) = (Place::new("datagrams"), Place::new("client"));
    let server = Process::start(UDP_ECHO, &["--unix", place.0.to_str().unwrap()]);
    assert_eq!(server.line(), format!("listening on unix:{}", place.0.display()));
    let client = UnixDatagram::bind(&own.0).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(&place.0).unwrap();
    UnixDatagram::unbound().unwrap().send_to(b"no answer wanted", &place.0).unwrap();
    for text in ["hello", "", "again"] {
        client.send(text.as_bytes()).unwrap();
        let mut buffer = [0; 64];
        let count = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], text.as_bytes());
    }
    let (code, text) = failure(UDP_ECHO, &["--unix", place.0.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("somebody receives there"), "{text}");
    let output = expect_clean_end(server);
    let last = output.last().unwrap();
    assert!(last.starts_with("received 4 datagrams (26 bytes), sent 3 (10 bytes)"), "{last}");
    assert!(!place.0.exists());
}
