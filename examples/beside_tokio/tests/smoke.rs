//! The example as a process: tokio answers the clients of the reactor, and the reactor those of
//! tokio.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Longest wait for anything that should come soon.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program; killed when the test ends early.
struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Program {
    #[track_caller]
    fn start() -> (Self, SocketAddr, SocketAddr) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_beside_tokio"))
            .args(["--listen", "127.0.0.1:0", "--status", "127.0.0.1:0"])
            .env("RUST_LOG", "off")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self { child, output };
        let lines = [program.line(), program.line()];
        let addr = |line: &str, what: &str| line.strip_prefix(what).expect(line).parse().unwrap();
        (program, addr(&lines[0], "listening on "), addr(&lines[1], "status on "))
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Asks it to end, as an operator would, and waits for that.
    #[track_caller]
    fn end(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[track_caller]
fn read_all(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn each_side_asks_the_other_one() {
    let (program, addr, status) = Program::start();
    let mut client = connect(addr);
    // In one segment, with the end behind it: every line is answered, and in its order.
    client.write_all(b"one\ntwo\nthree\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(client), "ONE\nTWO\nTHREE\n");

    let mut stays = connect(addr);
    stays.write_all(b"four\n").unwrap();
    let mut answer = [0; 5];
    stays.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"FOUR\n");
    assert_eq!(read_all(connect(status)), "connections 1, answered 4, too late 0\n");
    drop(stays);
    program.end();
}
