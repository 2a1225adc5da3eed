//! A reactor on a thread of its own, stopped and joined when the guard goes.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use waterwheel::{Reactor, Remote, Stats};

use super::PATIENCE;

/// A reactor that runs on its own thread.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) remote: Remote,
    thread: Option<JoinHandle<io::Result<Stats>>>,
}

impl Server {
    /// Runs a reactor after `set_up` has registered and bound what it serves.
    #[track_caller]
    pub(crate) fn start(
        set_up: impl FnOnce(&mut Reactor) -> io::Result<SocketAddr> + Send + 'static,
    ) -> Self {
        let (send, receive) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new()?;
            let addr = set_up(&mut reactor)?;
            send.send((addr, reactor.remote())).expect("the test waits");
            reactor.run()?;
            Ok(reactor.stats())
        });
        let (addr, remote) = receive.recv_timeout(PATIENCE).expect("the server starts");
        Self { addr, remote, thread: Some(thread) }
    }

    /// Stops it and gives its last numbers.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Stats {
        let thread = self.thread.take().expect("it runs until it is stopped");
        let _ = self.remote.stop(); // it may have stopped by itself
        thread.join().expect("no panic").expect("no error")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(running) = self.thread.take() else {
            return;
        };
        let _ = self.remote.stop(); // it may have stopped by itself
        let result = running.join();
        if !thread::panicking() {
            result.expect("no panic").expect("no error");
        }
    }
}
