//! The examples, each as a real process: it says where it listens, does its work over a socket,
//! ends when it is told to, and says clearly what is wrong. Where that has a pure part, as the
//! key-value server and the load tester have, that is tested by itself.
#![cfg(unix)]

#[path = "../examples/kv/db/mod.rs"]
mod db;
#[path = "examples/fleets.rs"]
mod fleets;
#[path = "examples/json.rs"]
mod json;
#[path = "examples/kv.rs"]
mod kv;
#[path = "../examples/load/ledger.rs"]
mod ledger;
#[path = "examples/load_ledger.rs"]
mod load_ledger;
#[path = "examples/load_udp.rs"]
mod load_udp;
#[cfg(target_os = "linux")]
#[path = "support/network.rs"]
mod network;
#[path = "examples/pool.rs"]
mod pool;
#[path = "examples/process.rs"]
mod process;
#[cfg(target_os = "linux")]
#[path = "examples/tcpstat.rs"]
mod tcpstat;
#[path = "examples/transfer.rs"]
mod transfer;
#[path = "examples/unix_echo.rs"]
mod unix_echo;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};

use process::{PATIENCE, Process};

/// The examples that listen.
const SERVERS: [&str; 8] =
    ["tiny_echo", "echo", "discard", "chat", "idle", "kv", "fleet", "recv_file"];

/// A client that reads with a deadline.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    #[track_caller]
    fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let stream = BufReader::with_capacity(64 << 10, stream);
        Self { stream }
    }

    #[track_caller]
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    #[track_caller]
    fn finish(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// The next line, without its end.
    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    #[track_caller]
    fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut bytes = vec![0; expected.len()];
        self.stream.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    #[track_caller]
    fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.escape_ascii().to_string(), "");
    }
}

/// Asks a server to end; what it has printed since.
#[track_caller]
fn expect_clean_end(server: Process) -> Vec<String> {
    server.terminate();
    let end = server.end();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(end.errors, "");
    end.output
}

/// Runs an example that cannot work: its exit code, and the one line that it says.
#[track_caller]
fn failure(name: &str, args: &[&str]) -> (Option<i32>, String) {
    let end = Process::start(name, args).end();
    assert_eq!(end.errors.lines().count(), 1, "{end:?}");
    assert_eq!(end.output, Vec::<String>::new());
    assert!(end.errors.starts_with(&format!("{name}: ")), "{end:?}");
    (end.code, end.errors)
}

#[test]
fn every_server_drains_when_told_to() {
    for name in SERVERS {
        let (server, addr) = Process::serve(name, &[]);
        let mut client = Client::connect(addr);
        if matches!(name, "chat" | "idle") {
            client.line(); // it speaks first
        }
        server.terminate();
        client.expect_end();
        drop(client);
        let end = server.end();
        assert_eq!(end.code, Some(0), "{name}: {end:?}");
    }
}

#[test]
fn every_server_listens_again_and_again() {
    for name in SERVERS {
        let (server, first) = Process::serve(name, &["--listen", "127.0.0.1:0"]);
        let second = server.line();
        assert!(second.starts_with("listening on 127.0.0.1:"), "{name}: {second}");
        assert_ne!(second, format!("listening on {first}"), "{name}");
        expect_clean_end(server);
    }
}

#[test]
fn a_bad_option_is_told_in_one_line() {
    for name in SERVERS {
        let (code, text) = failure(name, &["--no-such-option"]);
        assert_eq!(code, Some(2), "{name}");
        assert!(text.contains("--no-such-option"), "{text}");
    }
    for args in [["--listen", "nowhere"], ["--every", "often"], ["--drain", "-1"]] {
        let (code, text) = failure("discard", &args);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(args[0]) && text.contains(args[1]), "{text}");
    }
}

#[test]
fn an_address_in_use_is_told_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for name in SERVERS {
        let (code, text) = failure(name, &["--listen", &addr]);
        assert_eq!(code, Some(1), "{name}: {text}");
        assert!(text.contains(&addr), "{text}");
    }
}

#[test]
fn both_echoes_echo() {
    for name in ["tiny_echo", "echo"] {
        let (server, addr) = Process::serve(name, &[]);
        let mut client = Client::connect(addr);
        client.send("hello");
        client.expect("hello");
        client.send(" again");
        client.finish();
        client.expect(" again");
        client.expect_end();
        expect_clean_end(server);
    }
}

#[test]
fn datagrams_come_back_and_peers_are_counted() {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for args in [&[][..], &["--sessions", "--idle-timeout", "0.05"]] {
        let (server, addr) = Process::serve("udp_echo", args);
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
        let (_, text) = failure("udp_echo", &args);
        assert!(text.contains(told), "{text}");
    }
}

#[test]
fn discard_counts_what_it_takes() {
    let (server, addr) = Process::serve("discard", &["--every", "0.05"]);
    let mut client = Client::connect(addr);
    client.send([0; 3_000]);
    client.finish();
    client.expect_end();
    let line = server.line();
    assert!(line.contains(" bytes of ") && line.ends_with(" MB/s"), "{line}");
    let output = expect_clean_end(server);
    assert_eq!(output.last().map(String::as_str), Some("3000 bytes in all"));
}

#[test]
fn a_chat_passes_lines_on() {
    let (server, addr) = Process::serve("chat", &[]);
    let mut ann = Client::connect(addr);
    assert!(ann.line().starts_with("* you are guest-1"));
    let mut bob = Client::connect(addr);
    assert!(bob.line().starts_with("* you are guest-2"));
    assert_eq!(ann.line(), "* guest-2 has joined");

    ann.send("/nick ann\r\nhi all\x1b[2J\n");
    assert_eq!(ann.line(), "* you are ann");
    assert_eq!(bob.line(), "* guest-1 is now ann");
    assert_eq!(bob.line(), "<ann> hi all[2J");
    bob.send("/nick ann\n/who\n/fly\n/quit\nnot said\n");
    assert_eq!(bob.line(), "* ann is taken");
    assert_eq!(bob.line(), "* here: ann, guest-2");
    assert!(bob.line().starts_with("* no command /fly"));
    bob.expect_end();
    drop(bob);
    assert_eq!(ann.line(), "* guest-2 has left: closed here");
    ann.send(vec![b'a'; 2_000]);
    assert_eq!(ann.line(), "* a line has at most 1024 bytes");
    ann.expect_end();
    drop(ann);
    expect_clean_end(server);
}

#[test]
fn a_chat_parts_with_who_does_not_read() {
    const LINES: usize = 64;
    let (server, addr) = Process::serve("chat", &[]);
    let mut loud = Client::connect(addr);
    loud.line();
    let mut other = Client::connect(addr);
    other.line();
    let deaf = Client::connect(addr);
    assert_eq!(other.line(), "* guest-3 has joined");
    let batch = ("x".repeat(1_000) + "\n").repeat(LINES);
    // More than any kernel keeps for a peer: the other reads along, one does not.
    let mut lines = (0..2_000).flat_map(|_| {
        loud.send(&batch);
        (0..LINES).map(|_| other.line()).collect::<Vec<_>>()
    });
    let last = lines.find(|line| !line.starts_with("<guest-1> x")).expect("nobody has left");
    assert!(last.starts_with("* guest-3 has left: "), "{last}");
    drop((loud, other, deaf));
    expect_clean_end(server);
}

#[test]
fn idle_shows_what_expires() {
    let (server, addr) = Process::serve("idle", &[]);
    let mut client = Client::connect(addr);
    client.send("after 0.01\nfly\nread 0\n");
    for expected in ["open; type help", "ok", "no: no such command", "no: ", "timer"] {
        let line = client.line();
        assert!(line.starts_with(expected), "{line}, not {expected}");
    }
    client.send("keep 1\nall 0.05\n");
    for expected in ["ok", "ok", "idle (All): kept, 0 left", "idle (All): closing"] {
        assert_eq!(client.line(), expected);
    }
    client.expect_end();
    let mut late = Client::connect(addr);
    late.send("every 0.01\ndeadline 0.1\n");
    late.line();
    late.expect("ok\nok\ntimer\ntimer\n");
    drop((client, late));
    let output = expect_clean_end(server).join("\n");
    assert!(output.contains("idle (All): closing") && output.contains(": idle"), "{output}");
}

#[test]
fn kv_serves_and_expires() {
    let (server, addr) = Process::serve("kv", &[]);
    let mut client = Client::connect(addr);
    client.send("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\nhe");
    client.send("llo\r\nget a\r\nSET b 1 PX 40\r\nSET c 2 EX 100\r\n");
    client.expect("+OK\r\n$5\r\nhello\r\n+OK\r\n+OK\r\n");
    // Nobody touches b; the count of keys is what the table holds.
    let mut keys = String::new();
    while keys != ":2" {
        client.send("DBSIZE\r\n");
        keys = client.line();
        assert!(matches!(keys.as_str(), ":3" | ":2"), "{keys}");
    }
    client.send("GET b\r\nINFO\r\nQUIT\r\nPING\r\n");
    client.expect("$-1\r\n");
    let mut info = String::new();
    client.stream.read_to_string(&mut info).unwrap();
    assert!(info.contains("connected_clients:1\r\n"), "{info}");
    assert!(info.contains("expired_keys:1\r\n"), "{info}");
    assert!(info.contains("db0:keys=2,expires=1\r\n"), "{info}");
    assert!(info.ends_with("\r\n+OK\r\n"), "{info}");
    drop(client);
    expect_clean_end(server);
}

#[test]
fn kv_ends_a_client_that_talks_nonsense() {
    let (server, addr) = Process::serve("kv", &[]);
    let mut client = Client::connect(addr);
    client.send("PING\r\n*1\r\n:1\r\nPING\r\n");
    client.expect("+PONG\r\n-ERR Protocol error: expected '$', got ':'\r\n");
    client.expect_end();
    drop(client);
    expect_clean_end(server);
}

/// Replies of 200 MB are asked for in one go, and read only then.
#[test]
fn kv_holds_back_a_client_that_does_not_read() {
    const GETS: usize = 2_000;
    let (server, addr) = Process::serve("kv", &[]);
    let mut client = Client::connect(addr);
    let value = "v".repeat(100_000);
    client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\n{value}\r\n"));
    client.expect("+OK\r\n");
    client.send("GET a\r\n".repeat(GETS));
    let mut other = Client::connect(addr);
    other.send("PING\r\n");
    other.expect("+PONG\r\n");
    let reply = format!("$100000\r\n{value}\r\n");
    for _ in 0..GETS {
        client.expect(&reply);
    }
    if cfg!(target_os = "linux") {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak_kib < 32 << 10, "{peak_kib} KiB");
    }
    drop((client, other));
    expect_clean_end(server);
}

#[test]
fn load_prints_one_json_object() {
    let args = ["closed", "--duration", "1", "--warmup", "0", "--connections", "4", "--json"];
    let end = Process::start("load", &args).end();
    assert_eq!(end.code, Some(0), "{end:?}");
    let text = end.output.join("\n");
    assert_eq!(objects_in(&text), 1, "{text}");
    assert!(text.contains("\"mode\""), "{text}");
}

/// How many JSON objects stand side by side in a text that has nothing else.
#[track_caller]
fn objects_in(text: &str) -> usize {
    let (mut count, mut depth, mut is_quoted) = (0, 0, false);
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' if is_quoted => drop(chars.next()),
            '"' => is_quoted = !is_quoted,
            '{' if !is_quoted => depth += 1,
            '}' if !is_quoted => {
                depth -= 1;
                count += usize::from(depth == 0);
            }
            _ => assert!(depth > 0 || char.is_whitespace(), "{char:?} is in no object"),
        }
    }
    assert_eq!(depth, 0);
    count
}
