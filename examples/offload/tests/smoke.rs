//! The example as a process: it serves many requests at once and in order, holds back who asks too
//! much, and does not mind who is gone when the answer comes.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Longest wait for anything that should come soon.
const PATIENCE: Duration = Duration::from_secs(30);

/// The server, with a database of its own; killed and cleaned up when the test ends early.
struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    addr: SocketAddr,
    folder: PathBuf,
}

impl Server {
    #[track_caller]
    fn start(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_offload"));
        command.arg("--database").arg(folder.join("offload.db"));
        Self::spawn(&mut command, folder)
    }

    #[track_caller]
    fn spawn(command: &mut Command, folder: PathBuf) -> Self {
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--threads", "2"])
            .env("RUST_LOG", "off")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening on ").expect(&line).parse().expect(&line);
        Self { child, output, addr, folder }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect_timeout(&self.addr, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    /// Asks it to end, as an operator would. It waits a while for clients that stay.
    #[track_caller]
    fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Waits for its end; what it says at last.
    #[track_caller]
    fn end(mut self) -> String {
        let mut last = String::new();
        self.output.read_to_string(&mut last).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        last.trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A client that waits no longer than it has patience.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    #[track_caller]
    fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    fn expect(&mut self, expected: &str) {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), expected);
    }

    #[track_caller]
    fn expect_end(&mut self) {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }
}

#[test]
fn many_requests_under_way_are_answered_in_their_order() {
    let server = Server::start("order");
    let mut client = server.client();
    client.send("put greeting hello world\n");
    client.expect("ok");
    client.send("slow 100\nget greeting\nget nothing\nnonsense\nslow 0\r\nslow 99999\nquit\nget");
    client.expect("slept 100");
    client.expect("value hello world");
    client.expect("none");
    client.expect("error: put KEY TEXT, get KEY, slow MS, quit");
    client.expect("slept 0");
    client.expect("error: slow takes 0 to 10000 milliseconds");
    client.expect("bye");
    client.expect_end();
    drop(client);
    server.terminate();
    assert_eq!(server.end(), "answered 8, too late 0; at most 7 at once");
}

/// With two threads that take what comes, one in a hundred gets the value before.
#[test]
fn a_request_sees_what_the_one_before_it_has_done() {
    let server = Server::start("sequence");
    let mut client = server.client();
    for at in 0..300 {
        client.send(&format!("put key v{at}\nget key\n"));
        client.expect("ok");
        client.expect(&format!("value v{at}"));
    }
    let puts: String = (0..30).map(|at| format!("put key last-{at}\n")).collect();
    client.send(&(puts + "get key\n"));
    (0..30).for_each(|_| client.expect("ok"));
    client.expect("value last-29");
    drop(client);
    server.terminate();
    server.end();
}

#[test]
fn an_answer_for_somebody_who_has_gone_reaches_nobody() {
    let server = Server::start("gone");
    let mut leaver = server.client();
    leaver.send("slow 0\nslow 1000\n");
    // With the first answer unread the socket closes with a reset.
    assert_eq!(leaver.stream.get_ref().peek(&mut [0]).unwrap(), 1);
    drop(leaver);
    // The heir is very likely in the same slot. Its answer comes after the other one.
    let mut heir = server.client();
    heir.send("slow 1100\nslow 0\n");
    heir.expect("slept 1100");
    heir.expect("slept 0");
    drop(heir);
    server.terminate();
    // What had not begun when the leaver had gone is not done at all.
    let end = server.end();
    let too_late = ["0", "1"].map(|n| format!("answered 3, too late {n}; at most 2 at once"));
    assert!(too_late.contains(&end), "{end}");
}

#[test]
fn a_thousand_requests_at_once_are_held_back_and_all_answered() {
    let server = Server::start("flood");
    let mut client = server.client();
    let requests: String = (0..1_000).map(|at| format!("put key-{at} text {at}\n")).collect();
    client.send(&requests);
    let requests: String = (0..1_000).map(|at| format!("get key-{at}\n")).collect();
    client.send(&requests);
    client.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    (0..1_000).for_each(|_| client.expect("ok"));
    (0..1_000).for_each(|at| client.expect(&format!("value text {at}")));
    client.expect_end();
    drop(client);
    server.terminate();
    assert_eq!(server.end(), "answered 2000, too late 0; at most 32 at once");
}

/// What a browser sends for `fetch(url, {method: "POST", body: "put a stolen\n"})` of any page.
#[test]
fn a_web_page_changes_nothing() {
    let server = Server::start("page");
    for method in ["POST", "PUT"] {
        let mut browser = server.client();
        browser
            .send(&format!("{method} / HTTP/1.1\r\nHost: {}\r\n\r\nput a stolen\n", server.addr));
        if method == "PUT" {
            browser.expect("error: put KEY TEXT, get KEY, slow MS, quit");
        }
        browser.expect("error: this is no web server");
        browser.expect_end();
    }
    let mut client = server.client();
    client.send("get a\nquit\n");
    client.expect("none");
    client.expect("bye");
    drop(client);
    server.terminate();
    server.end();
}

/// It may be started in a checkout, or in any other folder that is not its own, and by two users.
#[test]
fn without_a_place_for_its_database_it_shares_none_and_leaves_nothing() {
    use std::os::unix::fs::PermissionsExt;

    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("no_place");
    let _ = fs::remove_dir_all(&folder);
    let [temporary, one, other] = ["temporary", "one", "other"].map(|name| folder.join(name));
    fs::create_dir_all(&temporary).unwrap();
    let servers = [one, other].map(|started| {
        fs::create_dir_all(&started).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_offload"));
        command.current_dir(&started).env("TMPDIR", &temporary);
        Server::spawn(&mut command, started)
    });
    for server in &servers {
        let mut client = server.client();
        client.send("get greeting\nput greeting hello\nget greeting\nquit\n");
        for answer in ["none", "ok", "value hello", "bye"] {
            client.expect(answer);
        }
        client.expect_end();
        assert_eq!(fs::read_dir(&server.folder).unwrap().count(), 0);
    }
    let made = fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap());
    let modes: Vec<_> = made.map(|entry| entry.metadata().unwrap().permissions().mode()).collect();
    assert_eq!(modes, [0o40700; 2], "a folder each that only its owner looks into");
    servers.iter().for_each(Server::terminate);
    for server in servers {
        assert!(server.end().starts_with("answered 4, "));
    }
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}

#[test]
fn an_end_that_is_asked_for_waits_for_answers() {
    let server = Server::start("drain");
    let mut client = server.client();
    client.send("slow 0\n");
    client.expect("slept 0");
    client.send("slow 300\n");
    let mut other = server.client();
    other.send("slow 0\n");
    other.expect("slept 0"); // and so the slow one has begun
    drop(other);
    server.terminate();
    client.expect("slept 300");
    client.expect_end();
    drop(client);
    assert_eq!(server.end(), "answered 3, too late 0; at most 1 at once");
}
