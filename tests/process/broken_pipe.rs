//! SIGPIPE at its default, as in a program that is not Rust's: a process that hands its sockets on,
//! or takes them, does not end when the other one has.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, mpsc};
use std::thread;

use signal_hook::consts::SIGPIPE;
use waterwheel::fleet::{Fleet, FleetOptions};
use waterwheel::{ListenOptions, send_listeners};

use crate::support::{PATIENCE, scratch_path};

/// Rust programs ignore the signal from the start.
fn let_sigpipe_end_this_process() {
    let always = Arc::new(AtomicBool::new(true));
    signal_hook::flag::register_conditional_default(SIGPIPE, always).unwrap();
}

/// Runs one of the tests below in a process of its own.
fn run(name: &str) -> ExitStatus {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([&format!("broken_pipe::{name}"), "--exact", "--ignored", "--nocapture"]);
    child.status().unwrap()
}

#[test]
#[ignore = "run by other tests"]
fn writes_as_before() {
    let_sigpipe_end_this_process();
    let (old, new) = UnixStream::pair().unwrap();
    drop(new);
    let _ = rustix::io::write(&old, b"!");
}

#[test]
#[ignore = "run by other tests"]
fn hands_on() {
    let_sigpipe_end_this_process();
    let (old, new) = UnixStream::pair().unwrap();
    drop(new);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = send_listeners(&old, &[&listener]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
}

/// The process before it hands its sockets on and ends.
#[test]
#[ignore = "run by other tests"]
fn takes_over() {
    let_sigpipe_end_this_process();
    let path = scratch_path();
    let control = UnixListener::bind(&path).unwrap();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        let (asking, _) = control.accept().unwrap();
        send_listeners(&asking, &[TcpListener::bind("127.0.0.1:0").unwrap()]).unwrap();
        drop((asking, control));
        ended.send(()).unwrap();
    });
    let end = Mutex::new(end);
    let fleet = Fleet::new(FleetOptions::default().threads(Some(1))).unwrap();
    let result = fleet.run_replaceable(&path, PATIENCE, move |member| {
        end.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        let key = member.reactor().register(|_: &mut waterwheel::Conn<'_>, _: &[u8]| 0);
        member.listen("127.0.0.1:0", key, ListenOptions::default())?;
        let remote = member.reactor().remote();
        remote.with(key, |_, cx| cx.stop()).unwrap();
        Ok(())
    });
    result.unwrap();
}

#[test]
fn the_end_of_the_other_process_is_no_signal() {
    assert_eq!(run("writes_as_before").signal(), Some(SIGPIPE), "the signal is not at its default");
    for name in ["hands_on", "takes_over"] {
        let status = run(name);
        assert!(status.success(), "{name}: {status}");
    }
}
