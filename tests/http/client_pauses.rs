//! A client whose program stops reading for a while.

use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use waterwheel::http::{Answer, AnswerReader, Call, Client, ClientError, ClientOptions, Flow};
use waterwheel::{ConnId, Context, Reactor};

use crate::client_bodies::{PATIENCE, read_until, serve, until};

/// Pauses behind each part that is no end, and says on which connection.
struct Pauser {
    conn: Rc<Cell<Option<ConnId>>>,
    told: mpsc::Sender<String>,
}

impl AnswerReader for Pauser {
    fn on_head(&mut self, answer: &Answer<'_>, _: &mut Context<'_>) {
        self.conn.set(Some(answer.conn()));
    }

    fn on_chunk(&mut self, chunk: &[u8], _: &mut Context<'_>) -> Flow {
        self.told.send(String::from_utf8(chunk.to_vec()).unwrap()).unwrap();
        Flow::Pause
    }

    fn on_end(self: Box<Self>, _: &mut Context<'_>) {
        self.told.send("end".to_owned()).unwrap();
    }

    fn on_error(self: Box<Self>, error: ClientError, _: &mut Context<'_>) {
        self.told.send(error.to_string()).unwrap();
    }
}

/// The clock of a body stands still in a pause, and goes on behind it.
#[test]
fn a_server_that_says_nothing_behind_a_pause_is_given_up() {
    const SHORT: Duration = Duration::from_millis(50);
    for goes_on in [true, false] {
        let (go, gone) = mpsc::channel();
        let (done, is_done) = mpsc::channel();
        let addr = serve(move |mut stream, _| {
            read_until(&mut stream, b"\r\n\r\n");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nhalf").unwrap();
            let _ = gone.recv_timeout(PATIENCE);
            if goes_on {
                stream.write_all(b"and").unwrap();
            }
            done.send(()).unwrap();
            let _ = stream.read(&mut [0]); // until the client has ended it
        });
        let mut reactor = Reactor::new().unwrap();
        let options = ClientOptions::default().body_timeout(SHORT);
        let client = Client::register(&mut reactor, addr, options).unwrap();
        let (told, texts) = mpsc::channel();
        let conn = Rc::default();
        let reader = Pauser { conn: Rc::clone(&conn), told };
        client.stream(&mut reactor.context(), Call::get("/"), reader);
        let next = |reactor: &mut Reactor| until(reactor, |_| texts.try_recv().ok());
        assert_eq!(next(&mut reactor), "half");
        let began = Instant::now();
        until(&mut reactor, |_| (began.elapsed() > 5 * SHORT).then_some(()));
        assert!(texts.try_recv().is_err(), "the program may pause for as long as it likes");
        go.send(()).unwrap();
        is_done.recv_timeout(PATIENCE).unwrap();
        let id = conn.get().unwrap();
        reactor.context().conn(id).unwrap().resume_reading();
        let rest: &[&str] = if goes_on { &["and", "end"] } else { &["not gone on"] };
        for text in rest {
            let told = next(&mut reactor);
            assert!(told.contains(text), "{told} instead of {text}");
        }
    }
}
