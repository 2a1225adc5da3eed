//! A reactor that is driven by hand, with a recorder, an echo server and clients beside it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use waterwheel::inspect::{Recorder, RecorderOptions};
use waterwheel::observer::ObserverKey;
use waterwheel::{
    Conn, Context, Handler, HandlerKey, ListenOptions, Peer, Reactor, Timer, TimerHandler,
};

/// No wait of a test is longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Sends back what comes in, and does as it is told by the first byte.
pub(crate) struct Echo;

/// How long the stall of a test is.
pub(crate) const STALL: Duration = Duration::from_millis(50);

impl Handler for Echo {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        match input {
            [b's', ..] => std::thread::sleep(STALL),
            [b'p', ..] => conn.pause_reading(),
            [b'k', ..] => return 0,
            [b'o', ..] => drop(conn.write(&vec![b'o'; 8 << 20])),
            [b'm', ..] => conn.context().mark("a \"mark\"</script>"),
            [b'!', ..] => panic!("on purpose"),
            _ => {}
        }
        conn.write(input);
        input.len()
    }
}

impl TimerHandler for Echo {
    fn on_handler_timer(&mut self, _: Timer, _: &mut Context<'_>) {}
}

pub(crate) struct Rig {
    pub(crate) reactor: Reactor,
    pub(crate) recorder: ObserverKey<Recorder>,
    pub(crate) echo: HandlerKey<Echo>,
    pub(crate) addr: SocketAddr,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(Recorder::with_options(RecorderOptions::default().stuck(STALL)))
    }

    pub(crate) fn with(recorder: Recorder) -> Self {
        let mut reactor = Reactor::new().unwrap();
        let echo = reactor.register(Echo);
        let recorder = reactor.observe(recorder);
        let addr = reactor.listen("127.0.0.1:0", echo, ListenOptions::default()).unwrap();
        Self { reactor, recorder, echo, addr }
    }

    pub(crate) fn recorder(&mut self) -> &mut Recorder {
        self.reactor.observer_mut(self.recorder).unwrap()
    }

    /// Turns until `done`.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
            self.reactor.run_once(Some(Duration::from_millis(1))).unwrap();
        }
    }

    /// A client that has been accepted.
    #[track_caller]
    pub(crate) fn client(&mut self) -> TcpStream {
        let opened = self.reactor.stats().accepted;
        let client = TcpStream::connect(self.addr).unwrap();
        self.until("accepted", |rig| rig.reactor.stats().accepted > opened);
        client
    }

    /// Sends this, and waits until it has come back.
    #[track_caller]
    pub(crate) fn echo(&mut self, client: &mut TcpStream, bytes: &[u8]) {
        self.tell(client, bytes);
        client.set_nonblocking(true).unwrap();
        let mut left = bytes.len();
        self.until("the echo", |_| {
            left -= client.read(&mut vec![0; left]).unwrap_or(0);
            left == 0
        });
        client.set_nonblocking(false).unwrap();
    }

    /// Sends this, and waits until it was read.
    #[track_caller]
    pub(crate) fn tell(&mut self, client: &mut TcpStream, bytes: &[u8]) {
        let read = self.reactor.stats().bytes_read + bytes.len() as u64;
        client.write_all(bytes).unwrap();
        self.until("read", |rig| rig.reactor.stats().bytes_read >= read);
    }
}
