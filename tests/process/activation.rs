//! Listening sockets that come as systemd gives them: from descriptor 3 on, told by the
//! environment. The test that is ignored is the child of the other one.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use waterwheel::{Conn, ListenOptions, Reactor, activated_listeners};

use crate::support::{Client, PATIENCE};

/// Ends with the test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_socket_from_systemd_is_served() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    let early = Client::connect(addr);
    let own = std::env::current_exe().unwrap();
    let child = Command::new("sh")
        .args(["-c", r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@" 3<&0 </dev/null"#])
        .arg(own)
        .args(["activation::child_serves_what_it_was_given", "--exact", "--ignored", "--nocapture"])
        .stdin(OwnedFd::from(socket))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Guard(child);
    for mut client in [early, Client::connect(addr)] {
        client.send(b"hello");
        client.expect(b"hello");
    }
    let mut last = Client::connect(addr);
    last.send(b"stop");
    last.expect(b"stop");
    drop(last);
    assert!(child.0.wait().unwrap().success());
}

#[test]
fn without_systemd_there_are_none() {
    assert!(activated_listeners().unwrap().is_empty());
}

#[test]
#[ignore = "runs in a process that was given a socket"]
fn child_serves_what_it_was_given() {
    let mut given = activated_listeners().unwrap();
    assert_eq!(given.len(), 1);
    assert!(activated_listeners().unwrap().is_empty(), "a second call gives none");
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
        conn.write(input);
        if input == b"stop" {
            conn.context().drain(PATIENCE);
        }
        input.len()
    });
    reactor.adopt(given.pop().unwrap(), service, ListenOptions::default()).unwrap();
    reactor.run().unwrap();
}
