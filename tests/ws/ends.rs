//! What a program ends, or holds back, while more of the peer's input is here already.

use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::ws::{
    Client as WsClient, CloseCode, Deflate, Ended, Handler, Message, Options, Request, Socket,
};
use waterwheel::{ConnectOptions, Context, Limits, Timer, Written};

use crate::peer::{Log, answer_to, close_frame, masked, plain, read_head, request, serve_with};
use crate::site::site;
use crate::support::Rig;

/// Does what a text says, and writes down what it is told.
struct Acts {
    log: Log,
    pauses_at_open: bool,
}

impl Acts {
    fn new(pauses_at_open: bool) -> (Self, Log) {
        let log = Log::default();
        (Self { log: Rc::clone(&log), pauses_at_open }, log)
    }

    fn note(&self, text: &str) {
        self.log.borrow_mut().push(text.to_owned());
    }
}

impl Handler for Acts {
    type State = ();

    fn on_open(&mut self, _: &mut (), socket: &mut Socket<'_>) {
        self.note("open");
        if self.pauses_at_open {
            socket.pause_reading();
            socket.set_timer(Duration::from_millis(1), 0);
        }
    }

    fn on_message(&mut self, _: &mut (), socket: &mut Socket<'_>, message: Message<'_>) {
        let text = message.text().unwrap_or("bytes");
        self.note(text);
        match text {
            "abort" => socket.abort(),
            "overflow" => assert_eq!(socket.send_binary(&[0; 5_000]), Written::Full),
            "pause" => {
                socket.close(CloseCode::NORMAL, "");
                socket.pause_reading();
            }
            _ => {}
        }
    }

    fn on_timer(&mut self, _: &mut (), socket: &mut Socket<'_>, _: Timer) {
        self.note("resume");
        socket.resume_reading();
    }

    fn on_close(&mut self, _: (), ended: Ended<'_>, _: &mut Context<'_>) {
        self.note(&format!("end {} {}", ended.code, ended.is_clean));
    }
}

/// A server that is told this right behind the request; what its program is told until the end.
#[track_caller]
fn told(limits: Limits, bytes: &[u8]) -> Vec<String> {
    let (acts, log) = Acts::new(false);
    let mut rig = Rig::with_limits(site(acts, Options::default()), limits);
    let (mut client, id) = rig.client();
    client.send(request("").as_bytes());
    read_head(&mut rig, &mut client);
    client.send(bytes);
    rig.end_of(id);
    log.take()
}

#[test]
fn a_connection_that_the_program_ends_gets_no_further_messages() {
    let bytes = [masked(0x81, b"abort"), masked(0x81, b"small"), masked(0x82, &[7; 300])].concat();
    assert_eq!(told(Limits::default(), &bytes), ["open", "abort", "end 1006 false"]);
    let tight = Limits::default().max_output_bytes(4_000).high_mark_bytes(4_000);
    let tight = tight.low_mark_bytes(1_000);
    let bytes = [masked(0x81, b"overflow"), masked(0x81, b"small")].concat();
    assert_eq!(told(tight, &bytes), ["open", "overflow", "end 1006 false"]);
}

#[test]
fn who_pauses_in_on_open_gets_messages_that_are_here_when_it_goes_on() {
    let (acts, log) = Acts::new(true);
    let mut rig = Rig::new(site(acts, Options::default()));
    let (mut client, _id) = rig.client();
    client.send(&[request("").as_bytes(), &masked(0x81, b"one"), &masked(0x81, b"two")].concat());
    rig.until("messages", |_| log.borrow().len() > 3);
    assert_eq!(*log.borrow(), ["open", "resume", "one", "two"]);

    let (acts, log) = Acts::new(true);
    let mut rig = Rig::new(WsClient::new(acts, Options::default()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let state = Request::new("a.example", "/").with_state(());
    let options = ConnectOptions::default();
    let id = rig.connect(listener.local_addr().unwrap(), state, &options);
    let mut server = rig.accept_at(&listener);
    let request = read_head(&mut rig, &mut server);
    let answer = answer_to(&request, "");
    server.send(&[answer.as_bytes(), &plain(0x81, b"one"), &plain(0x81, b"two")].concat());
    rig.until("messages", |_| log.borrow().len() > 3);
    assert_eq!(*log.borrow(), ["open", "resume", "one", "two"]);
    drop(server);
    rig.end_of(id);
}

/// The peer's answer to a Close would wait behind the pause, until the time for it is over.
#[test]
fn a_pause_behind_a_close_does_not_keep_the_answer_from_being_read() {
    let (acts, log) = Acts::new(false);
    let options = Options::default().close_timeout(Duration::from_secs(60));
    let mut rig = Rig::new(site(acts, options));
    let (mut client, id) = rig.client();
    client.send(request("").as_bytes());
    read_head(&mut rig, &mut client);
    client.send(&masked(0x81, b"pause"));
    rig.expect(&mut client, &plain(0x88, b"\x03\xe8"));
    client.send(&close_frame(1000));
    client.finish();
    rig.end_of(id);
    assert_eq!(*log.borrow(), ["open", "pause", "end 1000 true"]);
}

#[test]
fn a_message_may_be_of_any_size_when_the_limit_is_none_at_all() {
    let options = Options::default().max_message_bytes(usize::MAX);
    let options = options.deflate(Some(Deflate::default().keep_peer_context(false)));
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let mut served = serve_with(options, Limits::default(), offer);
    // "Hello", as RFC 7692 has it.
    served.send(&masked(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"));
    served.expect(&plain(0x81, b"Hello"));
    served.send(&masked(0x82, b"plain"));
    served.expect(&plain(0x82, b"plain"));
}
