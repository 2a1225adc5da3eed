//! A reactor on a thread of its own, whose CPU time can be asked for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use waterwheel::{Context, HandlerKey, Reactor, Remote};

/// Longest wait for anything that should come at once.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server<H> {
    remote: Remote,
    key: HandlerKey<H>,
    thread: Option<JoinHandle<()>>,
}

impl<H: 'static> Server<H> {
    /// Runs a handler, registered by a closure on its thread.
    pub(crate) fn start<T: Send + 'static>(
        set_up: impl FnOnce(&mut Reactor) -> (HandlerKey<H>, T) + Send + 'static,
    ) -> (Self, T) {
        let (give, receive) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new().expect("a reactor");
            let (key, made) = set_up(&mut reactor);
            give.send((reactor.remote(), key, made)).expect("it is waited for");
            reactor.run().expect("no error");
        });
        let (remote, key, made) = receive.recv().expect("the reactor starts");
        (Self { remote, key, thread: Some(thread) }, made)
    }

    /// Runs a closure on the loop, and waits for its result.
    pub(crate) fn on_loop<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut H, &mut Context<'_>) -> T + Send + 'static,
    ) -> T {
        let (give, receive) = mpsc::channel();
        let asked = self.remote.with(self.key, move |handler, cx| {
            let _ = give.send(call(handler, cx));
        });
        asked.expect("the reactor runs");
        receive.recv_timeout(PATIENCE).expect("the loop answers")
    }

    /// CPU time that the loop took for what a closure has it do.
    pub(crate) fn cost(&self, work: impl FnOnce()) -> Duration {
        let before = self.on_loop(|_, _| cpu_time());
        work();
        self.on_loop(|_, _| cpu_time()) - before
    }
}

impl<H> Drop for Server<H> {
    fn drop(&mut self) {
        let _ = self.remote.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// CPU time of this thread so far.
pub(crate) fn cpu_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// A connection that blocks, with a deadline.
pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("the server accepts");
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream
}

/// Sends something and reads as many bytes as are expected, so many times.
pub(crate) fn ping_pong(stream: &mut TcpStream, sent: &[u8], answer: usize, times: usize) {
    let mut bytes = vec![0; answer];
    for _ in 0..times {
        stream.write_all(sent).expect("it is taken");
        stream.read_exact(&mut bytes).expect("an answer");
    }
}
