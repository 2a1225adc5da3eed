//! Another process of a test, which is told things and asked things, a line each.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use waterwheel::{Context, Handler, Reactor, Service};

/// A process that is killed when this goes.
#[derive(Debug)]
pub(crate) struct Actor {
    child: Child,
    orders: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Actor {
    #[track_caller]
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (send, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        thread::spawn(move || {
            let all = output.lines().map_while(Result::ok);
            all.take_while(|line| send.send(line.clone()).is_ok()).for_each(drop);
        });
        let orders = child.stdin.take();
        Self { child, orders, lines }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    #[track_caller]
    pub(crate) fn tell(&mut self, line: &str) {
        let orders = self.orders.as_mut().expect("it is still told things");
        writeln!(orders, "{line}").expect("it listens");
    }

    /// Waits for a line that begins so, and gives the rest of it.
    #[track_caller]
    pub(crate) fn hear(&self, beginning: &str, patience: Duration) -> String {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("waited for {beginning:?}: {error}"));
            if let Some(rest) = line.strip_prefix(beginning) {
                return rest.trim().to_owned();
            }
        }
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, order: &str, beginning: &str, patience: Duration) -> String {
        self.tell(order);
        self.hear(beginning, patience)
    }

    /// Tells it no more, upon which it is to end, and well.
    #[track_caller]
    pub(crate) fn finish(mut self, patience: Duration) {
        drop(self.orders.take());
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("a child") {
                assert!(status.success(), "{status}");
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not end");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// The other side: every line that this process is told goes to a handler, and with the last the
/// reactor stops, so that no actor outlives who leads it.
pub(crate) fn obey<H: Handler>(
    reactor: &Reactor,
    service: Service<H>,
    act: fn(&mut H, &str, &mut Context<'_>),
) {
    let remote = reactor.remote();
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if remote.with(service, move |handler, cx| act(handler, &line, cx)).is_err() {
                return;
            }
        }
        let _ = remote.stop(); // it may have stopped by itself
    });
}
