//! The examples of one file, each as a real process: it says where it listens, does its work over a
//! socket, and says what is wrong. Those of more files are packages with tests of their own.
//! Another test of processes stands beside them: servers of this crate behind balancers.
#![cfg(unix)]

#[cfg(feature = "proxy-protocol")]
#[path = "balancer/mod.rs"]
mod balancer;
#[path = "examples/mistakes.rs"]
mod mistakes;
#[path = "examples/process.rs"]
mod process;
#[path = "examples/servers.rs"]
mod servers;

#[cfg(all(feature = "http", feature = "ws"))]
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use process::Process;
use servers::{Client, expect_clean_end};

const EXAMPLES: [&str; 4] = ["tiny_echo", "discard", "chat", "idle"];

/// Starts an example on a port of the system's choice.
#[track_caller]
fn serve(name: &str) -> (Process, SocketAddr) {
    Process::start(name, &["127.0.0.1:0"]).listening()
}

/// Ends a server that leaves signals to the system. Returns what it has printed since.
#[track_caller]
fn expect_end_by_signal(server: Process) -> Vec<String> {
    server.terminate();
    let end = server.end();
    assert_eq!((end.code, end.errors.as_str()), (None, ""), "{end:?}");
    end.output
}

#[test]
fn an_address_in_use_and_one_that_is_none_are_told_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for name in EXAMPLES {
        for addr in [taken.as_str(), "nowhere", "--help"] {
            let end = Process::start(name, &[addr]).end();
            assert_eq!((end.code, end.errors.lines().count()), (Some(1), 1), "{name}: {end:?}");
            assert!(end.errors.contains(addr), "{name}: {end:?}");
        }
    }
    let end = Process::start("discard", &["127.0.0.1:0", "often"]).end();
    assert_eq!(end.code, Some(1), "{end:?}");
    assert_eq!(end.errors, "discard: \"often\" is no number of seconds\n");
}

#[test]
fn what_is_mistyped_at_a_chat_over_a_fleet_is_told() {
    let dir = std::env::temp_dir().join(format!("fleet_chat-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (file, socket) = (dir.join("file"), dir.join("socket"));
    std::fs::write(&file, "precious").unwrap();
    let (file, socket) = (file.to_str().unwrap(), socket.to_str().unwrap());
    mistakes::expect_wrong_addresses_refused("fleet_chat", &[socket]);
    let usage = "usage: fleet_chat [HOST:PORT [SOCKET]]";
    mistakes::expect_refusal("fleet_chat", &["127.0.0.1:0", socket, "more"], &[usage]);
    let words = [file, "no socket", "take another path"];
    mistakes::expect_refusal("fleet_chat", &["127.0.0.1:0", file], &words);
    let missing = "/nowhere/fleet_chat.sock";
    let words = [missing, "No such file or directory"];
    mistakes::expect_refusal("fleet_chat", &["127.0.0.1:0", missing], &words);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "precious");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[cfg(feature = "http-files")]
#[test]
fn what_is_mistyped_at_a_server_of_files_is_told() {
    mistakes::expect_wrong_addresses_refused("http_files", &["."]);
    let usage = "usage: http_files [HOST:PORT [DIRECTORY]]";
    mistakes::expect_refusal("http_files", &["127.0.0.1:0", ".", "more"], &[usage]);
    for root in ["/nowhere", "Cargo.toml"] {
        let words = [root, "no such directory"];
        mistakes::expect_refusal("http_files", &["127.0.0.1:0", root], &words);
    }
}

/// What `discard` and `idle` print in callbacks is lost then.
#[test]
fn a_server_goes_on_when_its_reader_has_gone() {
    for name in EXAMPLES {
        let args = ["127.0.0.1:0", "0.01"];
        let program = process::path_of(name);
        servers::expect_to_go_on_without_a_reader(program, &args, |client| {
            client.send("off\n");
            client.finish();
            while !matches!(name, "discard") && client.line() != "" {}
        });
    }
}

#[test]
fn tiny_echo_echoes() {
    let (server, addr) = serve("tiny_echo");
    let mut client = Client::connect(addr);
    client.send("hello");
    client.expect("hello");
    client.send(" again");
    client.finish();
    client.expect(" again");
    client.expect_end();
    expect_end_by_signal(server);
}

#[test]
#[cfg(feature = "http-forms")]
fn what_is_uploaded_is_listed_and_comes_back() {
    let directory = std::env::temp_dir().join(format!("waterwheel-{}", std::process::id()));
    let args = ["127.0.0.1:0", directory.to_str().unwrap()];
    let (server, addr) = Process::start("http_upload", &args).listening();
    let ask = |request: &str| {
        let mut client = Client::connect(addr);
        client.send(request);
        client.finish();
        // A head and a body, up to an empty line or the end.
        let mut part = || {
            let lines = std::iter::from_fn(|| Some(client.line()).filter(|line| !line.is_empty()));
            lines.collect::<Vec<_>>().join("\n")
        };
        (part(), part())
    };
    let body = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"<b>.txt\"\r\n\r\n\
        text\r\n--B--";
    let (head, told) = ask(&format!(
        "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let path = told.strip_prefix("4 bytes: ").expect(&told);
    let (_, page) = ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(page.contains(&format!("<a href=\"{path}\">&lt;b&gt;.txt</a>")), "{page}");
    let (head, text) = ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(head.contains("nosniff") && head.contains("attachment"), "{head}");
    assert_eq!(text, "text");
    expect_end_by_signal(server);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
#[cfg(feature = "http-files")]
fn a_part_of_a_file_is_served() {
    let (server, addr) = Process::start("http_files", &["127.0.0.1:0", "."]).listening();
    let mut client = Client::connect(addr);
    client.send("GET /README.md HTTP/1.1\r\nHost: x\r\nRange: bytes=2-11\r\n\r\n");
    assert!(client.line().starts_with("HTTP/1.1 206 "));
    while !client.line().is_empty() {}
    client.expect("waterwheel");
    expect_end_by_signal(server);
}

/// After the last number a page begins anew, and the others go on.
#[test]
#[cfg(feature = "http")]
fn an_event_has_any_number_as_its_last() {
    let (server, addr) = Process::start("http_events", &["127.0.0.1:0"]).listening();
    let listen = |last: u64| {
        let mut page = Client::connect(addr);
        page.send(format!("GET /events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {last}\r\n\r\n"));
        page
    };
    let mut pages = [41, u64::MAX - 1, 7, u64::MAX].map(|last| (listen(last), last));
    for _ in 0..20 {
        for (page, last) in &mut pages {
            *last = last.wrapping_add(1);
            let line = format!("id: {last}");
            // A heartbeat comes where no event does.
            let lines = std::iter::repeat_with(|| page.line()).take(30);
            assert!(lines.take_while(|line| !line.starts_with(':')).any(|it| it == line), "{line}");
        }
    }
    expect_end_by_signal(server);
}

/// The socket by which a fleet is replaced, which stays where it is when the fleet has ended.
struct Control(String);

impl Control {
    fn new(name: &str) -> Self {
        let name = format!("waterwheel-{name}-{}.sock", std::process::id());
        Self(std::env::temp_dir().join(name).into_os_string().into_string().unwrap())
    }

    fn path(&self) -> &str {
        &self.0
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_chat_on_all_cores_is_replaced() {
    let control = Control::new("chat");
    let args = ["127.0.0.1:0", control.path()];
    let (first, addr) = Process::start("fleet_chat", &args).listening();
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(addr)).collect();
    for client in &mut clients {
        assert_eq!(client.line(), "* you are in");
    }
    clients[7].send("hello\n");
    for client in &mut clients {
        assert_eq!(client.line(), "hello");
    }
    let (second, again) = Process::start("fleet_chat", &args).listening();
    assert_eq!(again, addr);
    for client in &mut clients {
        client.expect_end();
    }
    assert_eq!(first.end().code, Some(0));
    assert_eq!(Client::connect(addr).line(), "* you are in");
    expect_end_by_signal(second);
}

/// Many more than a channel of the fleet has room for.
#[test]
fn a_chat_on_all_cores_passes_on_all_that_is_said_at_once() {
    const LINES: usize = 20_000;
    let control = Control::new("much");
    let args = ["127.0.0.1:0", control.path()];
    let (server, addr) = Process::start("fleet_chat", &args).listening();
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(addr)).collect();
    for client in &mut clients {
        assert_eq!(client.line(), "* you are in");
    }
    clients[0].send((0..LINES).map(|number| format!("{number}\n")).collect::<String>());
    for number in 0..LINES {
        for client in &mut clients {
            assert_eq!(client.line(), number.to_string());
        }
    }
    expect_end_by_signal(server);
}

#[test]
fn discard_counts_what_it_takes() {
    let (server, addr) = Process::start("discard", &["127.0.0.1:0", "0.05"]).listening();
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
    let (server, addr) = serve("chat");
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

#[cfg(feature = "tls-ring")]
#[test]
fn a_chat_over_tls_passes_lines_on_and_is_for_its_own_name() {
    use std::io::Write;
    use std::process::{ChildStdin, Command};
    use std::time::Duration;

    let cert = |name: &str| format!("{}/tests/tls/certs/{name}", env!("CARGO_MANIFEST_DIR"));
    let join = |addr: &str, roots: &str| -> (Process, ChildStdin) {
        let mut command = Command::new(process::path_of("tls_chat"));
        Process::spawn_with_input(command.args(["join", addr, &cert(roots)]))
    };
    let args = ["serve", "127.0.0.1:0", &cert("server.pem"), &cert("server.key")];
    let (server, addr) = Process::start("tls_chat", &args).listening();
    let addr = addr.to_string();
    let (ann, mut ann_types) = join(&addr, "ca.pem");
    let (bob, mut bob_types) = join(&addr, "ca.pem");
    // Either may be there first: each says a line until the other has heard one.
    let begun = Instant::now();
    loop {
        writeln!(ann_types, "hello bob").unwrap();
        if bob.line_within(Duration::from_millis(20)).is_some() {
            break;
        }
        assert!(begun.elapsed() < process::PATIENCE, "they do not meet");
    }
    writeln!(bob_types, "hello ann\x1b[2J\nthis is bob").unwrap();
    assert_eq!(ann.line(), "this is bob");
    // What is typed before the end of the input arrives.
    writeln!(ann_types, "bye").unwrap();
    drop(ann_types);
    assert_eq!(ann.end().code, Some(0));
    while bob.line() != "bye" {}
    drop(bob_types);
    assert_eq!(bob.end().code, Some(0));

    let (stranger, _types) = join(&addr, "foreign.pem");
    let end = stranger.end();
    assert_eq!(end.code, Some(1));
    assert!(end.errors.contains("certificate"), "{}", end.errors);
    expect_end_by_signal(server);
}

/// Each line goes to everybody: all that one read brings would take seconds with many members. The
/// test may stall just when it is the other's turn, so it may try again.
#[test]
fn a_chat_lets_others_speak_while_one_says_much() {
    let (server, addr) = serve("chat");
    let mut listener = Client::connect(addr);
    listener.line();
    let (mut loud, mut other) = (Client::connect(addr), Client::connect(addr));
    while listener.line() != "* guest-3 has joined" {}
    let much = "a\n".repeat(10_000) + "end\n";
    let comes_between = (0..10).any(|_| {
        loud.send(&much);
        assert_eq!(listener.line(), "<guest-2> a");
        other.send("now\n");
        let mut lines = std::iter::from_fn(|| Some(listener.line()));
        let is_other = |line: &String| line.starts_with("<guest-3>");
        let is_between = lines
            .find(|line| is_other(line) || line.ends_with("end"))
            .as_ref()
            .is_some_and(is_other);
        let last = if is_between { "<guest-2> end" } else { "<guest-3> now" };
        lines.find(|line| line == last);
        is_between
    });
    assert!(comes_between, "all of it was passed on at once");
    drop((listener, loud, other));
    expect_clean_end(server);
}

/// As above, over WebSocket: what one read brings is many messages.
#[cfg(all(feature = "http", feature = "ws"))]
#[test]
fn a_chat_in_the_browser_lets_others_speak_while_one_says_much() {
    let (server, addr) = serve("chat_web");
    let enter = |name: &str| {
        let mut client = Client::connect(addr);
        client.send(format!(
            "GET /chat/x?name={name} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
        assert!(client.line().starts_with("HTTP/1.1 101 "));
        while !client.line().is_empty() {}
        client
    };
    let say = |text: &str| [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat();
    let hear = |client: &mut Client| {
        let mut head = [0; 2];
        client.stream.read_exact(&mut head).unwrap();
        let mut text = vec![0; head[1].into()];
        client.stream.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    };
    let mut listener = enter("ear");
    let (mut loud, mut other) = (enter("loud"), enter("other"));
    while hear(&mut listener) != "other has come in" {}
    let much = [say("a").repeat(3_000), say("end")].concat();
    let comes_between = (0..10).any(|_| {
        loud.send(&much);
        assert_eq!(hear(&mut listener), "loud: a");
        other.send(say("now"));
        let heard: Vec<_> = (0..3_001).map(|_| hear(&mut listener)).collect();
        heard.last().is_some_and(|last| last == "loud: end")
    });
    assert!(comes_between, "all of it was passed on at once");
    drop((listener, loud, other));
    expect_end_by_signal(server);
}

/// What would show a line in another order, as two, or hide a part of it.
#[test]
fn a_chat_passes_nothing_on_that_is_not_shown() {
    let (server, addr) = serve("chat");
    let mut ann = Client::connect(addr);
    ann.line();
    let mut bob = Client::connect(addr);
    bob.line();
    ann.line();
    for hidden in [
        '\u{ad}',
        '\u{61c}',
        '\u{200b}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{202e}',
        '\u{2060}',
        '\u{2066}',
        '\u{2069}',
        '\u{feff}',
        '\u{e0041}',
    ] {
        ann.send(format!("a{hidden}b\n/nick x{hidden}y\n"));
        assert_eq!(bob.line(), "<guest-1> ab", "{}", hidden.escape_unicode());
        assert_eq!(bob.line(), "* guest-1 is now xy", "{}", hidden.escape_unicode());
        ann.send("/nick guest-1\n");
        assert_eq!(bob.line(), "* xy is now guest-1");
    }
    bob.send("\u{5e9}\u{5dc}\u{5d5}\u{5dd} gr\u{fc}n \u{65e5}\u{672c}\n");
    ann.send("/who\n");
    while !ann.line().starts_with("* here") {}
    drop((ann, bob));
    expect_clean_end(server);
}

#[test]
fn a_chat_parts_with_who_does_not_read() {
    const LINES: usize = 64;
    let (server, addr) = serve("chat");
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
    let (server, addr) = serve("idle");
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
    let output = expect_end_by_signal(server).join("\n");
    assert!(output.contains("idle (All): closing") && output.contains(": idle"), "{output}");
}

/// Sixteen timers of a thousandth and as many commands as fit make thousands of lines a second.
#[test]
fn idle_prints_no_more_lines_than_can_be_read() {
    const COMMANDS: usize = 2_000;
    let (server, addr) = serve("idle");
    let mut client = Client::connect(addr);
    client.line();
    let start = Instant::now();
    client.send("every 0.001\n".repeat(16));
    for _ in 0..COMMANDS / 100 {
        client.send("keep 1\n".repeat(100));
    }
    let mut answers = 0;
    while answers < COMMANDS {
        answers += usize::from(client.line() == "ok");
    }
    drop(client);
    let output = expect_end_by_signal(server);
    let seconds = start.elapsed().as_secs() as usize + 2;
    assert!(output.len() <= 100 * seconds, "{} lines in {seconds} s", output.len());
}
