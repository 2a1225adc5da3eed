//! A server on a thread of its own, and a client that says what comes back, byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use waterwheel::http::{self, ReplyId, Response, Router, Server};
use waterwheel::{Context, HandlerKey, ListenOptions, Reactor, Remote};

/// No wait of a test is longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that runs until it is dropped.
pub(crate) struct Web {
    pub(crate) addr: SocketAddr,
    pub(crate) remote: Remote,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// Serves with what the closure makes on the thread of the loop.
    pub(crate) fn serve<A: 'static>(server: impl FnOnce() -> Server<A> + Send + 'static) -> Self {
        Self::serve_with(ListenOptions::default().limits(http::limits()), server)
    }

    pub(crate) fn serve_with<A: 'static>(
        options: ListenOptions,
        server: impl FnOnce() -> Server<A> + Send + 'static,
    ) -> Self {
        Self::serve_in(options, |_| server())
    }

    /// Serves with what the closure makes for the reactor.
    pub(crate) fn serve_in<A: 'static>(
        options: ListenOptions,
        server: impl FnOnce(&mut Reactor) -> Server<A> + Send + 'static,
    ) -> Self {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new().unwrap();
            let server = server(&mut reactor);
            let web = reactor.register(server);
            let addr = reactor.listen("127.0.0.1:0", web, options).unwrap();
            sender.send((addr, reactor.remote())).unwrap();
            reactor.run().unwrap();
        });
        let (addr, remote) = receiver.recv_timeout(PATIENCE).expect("the server has begun");
        Self { addr, remote, thread: Some(thread) }
    }

    /// Serves these routes.
    pub(crate) fn of(routes: impl FnOnce() -> Router<()> + Send + 'static) -> Self {
        Self::serve(move || Server::new((), routes()))
    }

    /// Gives an answer from this thread.
    pub(crate) fn answer<A: 'static>(
        &self,
        (id, key): (ReplyId, HandlerKey<Server<A>>),
        call: impl FnOnce(&mut A, &mut Response<'_, A>) + Send + 'static,
    ) {
        let task = move |server: &mut Server<A>, cx: &mut Context<'_>| {
            server.answer(cx, id, call);
        };
        self.remote.with(key, task).unwrap();
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// Sends this as a new client, and returns all that comes back before the end.
    #[track_caller]
    pub(crate) fn tell(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.client();
        client.send(bytes);
        client.finish();
        client.rest()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.remote.stop();
        let result = self.thread.take().map(JoinHandle::join);
        if let (Some(Err(_)), false) = (result, thread::panicking()) {
            panic!("the thread of the server has panicked");
        }
    }
}

/// A client, and what it has received and not looked at.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    input: Vec<u8>,
}

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a field, if it is there once.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.head.lines().filter_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        });
        let value = found.next();
        assert_eq!(found.next(), None, "{name} is there twice: {}", self.head);
        value
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16, body: &str) -> Self {
        assert_eq!((self.status, self.text()), (status, body), "{}", self.head);
        self
    }
}

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("the server takes connections");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, input: Vec::new() }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Ends the sending side.
    pub(crate) fn finish(&mut self) {
        // The server may have ended it already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads more; `false` at the end.
    #[track_caller]
    fn read(&mut self) -> bool {
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                panic!("reset behind {:?}", String::from_utf8_lossy(&self.input));
            }
            Err(error) => {
                panic!("{error} behind {:?}", String::from_utf8_lossy(&self.input));
            }
        }
    }

    /// What is still to come, up to the end, which is no reset.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> String {
        while self.read() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.input)).into_owned()
    }

    /// That the connection ends with a reset.
    #[track_caller]
    pub(crate) fn expect_reset(&mut self) {
        let mut buffer = [0; 64 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("an end, and no reset"),
                Ok(_) => {}
                Err(error) => return assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
    }

    /// That the server ends the connection, with nothing behind what was looked at.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.rest(), "");
    }

    /// That nothing more has come, by asking for something that is answered behind it.
    #[track_caller]
    pub(crate) fn expect_alive(&mut self) {
        self.send("GET /alive HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = self.answer();
        assert!(answer.status == 404 || answer.status == 200, "{answer:?}");
    }

    /// Reads so many bytes.
    #[track_caller]
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        while self.input.len() < count {
            assert!(self.read(), "the end, within {count} bytes");
        }
        self.input.drain(..count).collect()
    }

    /// Reads up to and with an empty line.
    #[track_caller]
    pub(crate) fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                return String::from_utf8(self.take(at + 4)).expect("a head of text");
            }
            assert!(self.read(), "the end, in a head: {:?}", String::from_utf8_lossy(&self.input));
        }
    }

    /// The answer to a request that was no HEAD.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = self.answer_to_head();
        if answer.status < 200 || answer.status == 204 || answer.status == 304 {
            return answer;
        }
        if let Some(length) = answer.field("content-length") {
            let length = length.parse().expect("a length");
            answer.body = self.take(length);
        } else if answer.field("transfer-encoding") == Some("chunked") {
            answer.body = self.chunks();
        } else {
            answer.body = self.rest().into_bytes();
        }
        answer
    }

    /// The answer to HEAD.
    #[track_caller]
    pub(crate) fn answer_to_head(&mut self) -> Answer {
        let head = self.head();
        let status = head.get(9..12).and_then(|digits| digits.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {head:?}"));
        assert!(head.starts_with("HTTP/1.1 "), "{head:?}");
        Answer { status, head, body: Vec::new() }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.input.windows(2).position(|two| two == b"\r\n") {
                let line = self.take(at + 2);
                return String::from_utf8(line[..at].to_vec()).unwrap();
            }
            assert!(self.read(), "the end, in a line");
        }
    }

    #[track_caller]
    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let size = usize::from_str_radix(&line, 16).expect("the size of a chunk");
            body.extend(self.take(size));
            assert_eq!(self.line(), "");
            if size == 0 {
                return body;
            }
        }
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request);
        self.answer()
    }

    /// Asks for a path.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }
}
