//! The proxy as a process, between sockets of the test: every byte both ways whatever the
//! pace, each end passed on as what it is.
#![cfg(unix)]

#[path = "../../../../tests/examples/process.rs"]
mod process;
#[path = "../../../../tests/examples/servers.rs"]
mod servers;
#[cfg(feature = "tls")]
#[path = "../../../../tests/examples/tls.rs"]
mod tls;
#[cfg(feature = "tls")]
mod with_tls;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use process::{PATIENCE, Process};
use servers::failure;
use socket2::SockRef;

const PROXY: &str = env!("CARGO_BIN_EXE_proxy");

/// The proxy before a listener of the test.
struct Site {
    upstream: TcpListener,
    proxy: Process,
    addr: SocketAddr,
}

impl Site {
    #[track_caller]
    fn start(args: &[&str]) -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = upstream.local_addr().unwrap().to_string();
        let (proxy, addr) = Process::serve(PROXY, &[&["--connect", &target], args].concat());
        Self { upstream, proxy, addr }
    }

    fn client(&self) -> TcpStream {
        connect(self.addr)
    }

    /// A client and its connection at the upstream.
    #[track_caller]
    fn pair(&self) -> (TcpStream, TcpStream) {
        let client = self.client();
        let (server, _) = self.upstream.accept().unwrap();
        (client, patient(server))
    }

    #[track_caller]
    fn end(self) {
        self.proxy.terminate();
        let end = self.proxy.end();
        assert_eq!((end.code, &*end.errors), (Some(0), ""));
        assert_eq!(end.output, [""; 0]);
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    patient(TcpStream::connect_timeout(&addr, PATIENCE).unwrap())
}

/// No call waits for ever.
fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[track_caller]
fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut found = vec![0; bytes.len()];
    stream.read_exact(&mut found).unwrap();
    assert_eq!(found.escape_ascii().to_string(), bytes.escape_ascii().to_string());
}

#[track_caller]
fn expect_end(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
}

#[track_caller]
fn expect_reset(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let error = stream.read_to_end(&mut rest).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "after {} bytes", rest.len());
}

/// Closes with a reset.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

const MIB: usize = 1 << 20;

/// An endless stream of bytes that repeats itself after a prime number of them, so that no buffer's
/// size fits; a mebibyte from anywhere is one slice.
struct Noise(Vec<u8>);

impl Noise {
    const PERIOD: usize = 32_749;

    fn new(seed: usize) -> Self {
        let period =
            (0..Self::PERIOD).map(|at| ((seed + at).wrapping_mul(0x9e37_79b9) >> 13) as u8);
        Self(period.cycle().take(Self::PERIOD + MIB).collect())
    }

    fn piece(&self, from: usize, count: usize) -> &[u8] {
        &self.0[from % Self::PERIOD..][..count]
    }

    fn send(&self, mut stream: &TcpStream, total: usize) {
        for from in (0..total).step_by(MIB) {
            stream.write_all(self.piece(from, MIB)).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads to the end, and gives way so often that the other side is always ahead.
    fn receive(&self, mut stream: &TcpStream, total: usize) {
        let mut buffer = vec![0; 256 << 10];
        let mut from = 0;
        loop {
            let count = stream.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            assert!(&buffer[..count] == self.piece(from, count), "other bytes at {from}");
            from += count;
            thread::yield_now();
        }
        assert_eq!(from, total);
    }
}

/// The most memory that a process has had, in KiB.
#[cfg(target_os = "linux")]
fn peak_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

/// One side reads only once the other has all it wants: the proxy keeps no more than its marks
/// allow, and neither direction waits for the other.
#[test]
fn much_passes_both_ways_at_once_beside_a_slow_reader() {
    const TOTAL: usize = 64 * MIB;
    let site = Site::start(&[]);
    let (client, server) = site.pair();
    let (forth, back) = (Noise::new(1), Noise::new(2));
    thread::scope(|scope| {
        scope.spawn(|| forth.send(&client, TOTAL));
        scope.spawn(|| back.send(&server, TOTAL));
        forth.receive(&server, TOTAL);
        // By now the other direction has long been full.
        back.receive(&client, TOTAL);
    });
    #[cfg(target_os = "linux")]
    {
        let peak = peak_kib(site.proxy.id());
        assert!(peak < 24 << 10, "{peak} KiB");
    }
    drop((client, server));
    site.end();
}

#[test]
fn the_end_of_one_direction_leaves_the_other_open() {
    let site = Site::start(&[]);
    for client_first in [true, false] {
        let (client, server) = site.pair();
        let (mut first, mut second) =
            if client_first { (client, server) } else { (server, client) };
        first.write_all(b"question").unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        expect(&mut second, b"question");
        expect_end(&mut second);
        for _ in 0..3 {
            second.write_all(b"answer").unwrap();
            expect(&mut first, b"answer");
        }
        second.shutdown(Shutdown::Write).unwrap();
        expect_end(&mut first);
    }
    site.end();
}

#[test]
fn a_reset_is_passed_on_as_one() {
    let site = Site::start(&[]);
    for client_first in [true, false] {
        let (mut client, mut server) = site.pair();
        client.write_all(b"hello").unwrap();
        expect(&mut server, b"hello");
        server.write_all(b"hi").unwrap();
        expect(&mut client, b"hi");
        if client_first {
            reset(client);
            expect_reset(&mut server);
        } else {
            reset(server);
            expect_reset(&mut client);
        }
    }
    site.end();
}

/// An upstream that is killed with bytes before it that it has not read: the client must not take
/// the part for the whole.
#[test]
fn an_upstream_that_is_killed_resets_its_client() {
    let (echo, target) = Process::serve("echo", &[]);
    let (proxy, addr) = Process::serve(PROXY, &["--connect", &target.to_string()]);
    let mut client = connect(addr);
    client.write_all(b"hello").unwrap();
    expect(&mut client, b"hello");
    echo.signal("STOP");
    // Until everything is full, its own socket too. Were that empty, its kernel would end the
    // connection like one that has said all.
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let flood = vec![7; MIB];
    while client.write(&flood).is_ok() {}
    drop(echo);
    expect_reset(&mut client);
    expect_turned_away(addr, b"");
    proxy.terminate();
    assert_eq!(proxy.end().code, Some(0));
}

/// Connects and sends, and is told at some point of it that nobody is there.
#[track_caller]
fn expect_turned_away(addr: SocketAddr, bytes: &[u8]) {
    let attempt = || -> std::io::Result<()> {
        let mut client = TcpStream::connect(addr)?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.write_all(bytes)?;
        client.read_to_end(&mut Vec::new())?;
        Ok(())
    };
    assert_eq!(attempt().map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
}

#[test]
fn an_upstream_that_refuses_resets_its_client() {
    let Site { upstream, proxy, addr } = Site::start(&[]);
    drop(upstream);
    expect_turned_away(addr, b"");
    expect_turned_away(addr, b"hello");
    proxy.terminate();
    assert_eq!(proxy.end().code, Some(0));
}

/// The upstream is slow to accept: the proxy keeps what the client sends, but not without bound.
#[test]
fn what_comes_before_the_upstream_is_kept() {
    let site = Site::start(&[]);
    let mut client = site.client();
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (mut server, _) = site.upstream.accept().unwrap();
    expect(&mut server, b"hello");
    expect_end(&mut server);
    drop(server);
    expect_end(&mut client);
    site.end();
}

/// An address that never answers (RFC 5737): the client is held back, and reset in the end.
#[test]
fn an_upstream_that_is_not_there_holds_back_and_resets() {
    let args = ["--connect", "192.0.2.1:9", "--connect-timeout", "0.3"];
    let (proxy, addr) = Process::serve(PROXY, &args);
    let mut client = connect(addr);
    let (flood, mut sent) = (vec![7; MIB], 0);
    let error = loop {
        match client.write(&flood) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    // Its own 256 KiB, and what two kernels take.
    assert!(sent < 16 * MIB, "{sent}");
    proxy.terminate();
    assert_eq!(proxy.end().code, Some(0));
}

#[test]
fn silence_ends_a_session_on_both_sides() {
    let site = Site::start(&["--idle-timeout", "0.1"]);
    let (mut client, mut server) = site.pair();
    client.write_all(b"hello").unwrap();
    expect(&mut server, b"hello");
    expect_reset(&mut client);
    expect_reset(&mut server);
    site.end();
}

#[test]
fn a_session_may_finish_after_the_signal() {
    let site = Site::start(&["--drain", "20"]);
    let (mut client, mut server) = site.pair();
    client.write_all(b"before").unwrap();
    expect(&mut server, b"before");
    site.proxy.terminate();
    // Nobody else comes in.
    while TcpStream::connect(site.addr).is_ok() {}
    client.write_all(b"after").unwrap();
    expect(&mut server, b"after");
    drop(client);
    expect_end(&mut server);
    drop(server);
    assert_eq!(site.proxy.end().code, Some(0));
}

#[test]
fn a_session_that_does_not_finish_is_reset() {
    let site = Site::start(&["--drain", "0.3"]);
    let (mut client, mut server) = site.pair();
    client.write_all(b"before").unwrap();
    expect(&mut server, b"before");
    site.proxy.terminate();
    expect_reset(&mut client);
    expect_reset(&mut server);
    assert_eq!(site.proxy.end().code, Some(0));
}

#[test]
fn the_upstream_is_told_who_the_client_is() {
    let site = Site::start(&["--proxy-protocol", "v1"]);
    let (mut client, mut server) = site.pair();
    client.write_all(b"hello").unwrap();
    let (from, to) = (client.local_addr().unwrap(), site.addr);
    let line =
        format!("PROXY TCP4 {} {} {} {}\r\nhello", from.ip(), to.ip(), from.port(), to.port());
    expect(&mut server, line.as_bytes());
    drop((client, server));
    site.end();
}

/// To a listener for both families an IPv4 client is `::ffff:127.0.0.1`.
#[test]
fn the_upstream_is_told_an_ipv4_address_as_such() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = upstream.local_addr().unwrap().to_string();
    let args = ["--listen", "[::]:0", "--connect", &target, "--proxy-protocol", "v1"];
    let (proxy, addr) = Process::start(PROXY, &args).listening();
    for (ip, family) in [("127.0.0.1", "TCP4"), ("::1", "TCP6")] {
        let client = connect(SocketAddr::new(ip.parse().unwrap(), addr.port()));
        let mut server = patient(upstream.accept().unwrap().0);
        let from = client.local_addr().unwrap().port();
        let line = format!("PROXY {family} {ip} {ip} {from} {}\r\n", addr.port());
        expect(&mut server, line.as_bytes());
    }
    servers::expect_clean_end(proxy);
}

#[test]
fn it_says_where_it_listens_and_what_is_wrong() {
    servers::expect_a_command_line(PROXY);
}

#[test]
fn a_time_in_which_nothing_can_connect_is_refused() {
    let (code, text) = failure(PROXY, &["--connect-timeout", "0"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--connect-timeout 0"), "{text}");
}

#[test]
fn a_limit_out_of_range_is_refused_by_the_name_of_its_option() {
    for args in [
        ["--idle-timeout", "1000000000"],
        ["--idle-timeout", "0.0001"],
        ["--connect-timeout", "1000000000"],
    ] {
        let (code, text) = failure(PROXY, &args);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(&format!("{}: must be from", args.join(" "))), "{text}");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn without_the_feature_it_says_how_to_build_it() {
    for args in [&["--tls", "cert", "key"][..], &["--connect-tls", "a.example"]] {
        let (code, text) = failure(PROXY, args);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("cargo run --release -p proxy --features tls"), "{text}");
    }
}
