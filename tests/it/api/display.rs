//! What ids, reasons and errors say in a log, and what can be told apart and copied.

use std::error::Error;
use std::io;
use std::time::Duration;

use waterwheel::frame::LengthPrefix;
use waterwheel::wheel::Wheel;
use waterwheel::{CloseReason, ConnectOptions, ListenOptions, Reactor, TcpOptions, TimeoutKind};

use crate::support::{Call, Rig, Script, patiently};

#[test]
fn a_reason_says_what_happened() {
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    let failed = format!("failed: {refused}");
    let expected = [
        (CloseReason::Local, "closed here"),
        (CloseReason::Peer, "closed by the peer"),
        (CloseReason::Reset, "reset by the peer"),
        (CloseReason::Idle, "idle"),
        (CloseReason::Timeout(TimeoutKind::User), "timed out: the handler's deadline passed"),
        (CloseReason::Overflow, "a buffer cap was exceeded"),
        (CloseReason::Panic, "a callback panicked"),
        (CloseReason::Io(refused), failed.as_str()),
        (CloseReason::Shutdown, "the reactor was stopped"),
    ];
    for (reason, text) in expected {
        assert_eq!(reason.to_string(), text);
    }
}

#[test]
fn a_timeout_says_what_was_waited_for() {
    let expected = [
        (TimeoutKind::FirstByte, "no first byte in time"),
        (TimeoutKind::Message, "a message was not complete in time"),
        (TimeoutKind::ReceiveRate, "the peer sent too slowly"),
        (TimeoutKind::SendRate, "the peer read too slowly"),
        (TimeoutKind::Close, "the output did not leave in time"),
        (TimeoutKind::User, "the handler's deadline passed"),
    ];
    for (kind, text) in expected {
        assert_eq!(kind.to_string(), text);
    }
}

#[test]
fn ids_and_the_wheel_say_what_they_are() {
    let mut rig = Rig::new(Script::echo());
    let (_client, id) = rig.client();
    assert_eq!(format!("{id:?}"), format!("ConnId({id})"));
    let mut wheel = Wheel::new();
    let first = wheel.insert(5, ());
    assert_eq!(format!("{first:?}"), "TimerId(0.1)");
    assert_eq!(format!("{wheel:?}"), "Wheel { tick: 0, len: 1, .. }");
}

#[test]
fn a_reactor_says_how_much_it_holds() {
    let mut rig = Rig::new(Script::echo());
    let empty = format!("{:?}", rig.reactor);
    assert!(empty.contains("connections: 0") && empty.contains("listeners: 1"), "{empty}");
    let (_client, _) = rig.client();
    let one = format!("{:?}", rig.reactor);
    assert!(one.contains("connections: 1") && one.contains("handlers: 1"), "{one}");
}

#[test]
fn keys_of_handlers_are_copied_and_told_apart() {
    let mut reactor = Reactor::new().unwrap();
    let one = reactor.register(Script::echo());
    let other = reactor.register(Script::echo());
    #[expect(clippy::clone_on_copy, reason = "the clone is what is looked at")]
    let same = one.clone();
    assert_eq!(one, same);
    assert_ne!(one, other);
    assert_eq!(format!("{other:?}"), "HandlerKey(1)");
}

/// Who logs the error sees the address, and who looks for the code of the system finds it.
#[test]
fn a_failed_connect_keeps_its_cause() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut rig = Rig::new(Script::new());
    rig.connect(closed, 7, &ConnectOptions::default());
    rig.until("failed", |rig| {
        rig.journal.calls().iter().any(|call| matches!(call, Call::ConnectFailed(..)))
    });
    let is_told = |call: &Call| match call {
        Call::ConnectFailed(kind, text) => {
            *kind == io::ErrorKind::ConnectionRefused && text.contains(&closed.to_string())
        }
        _ => false,
    };
    assert!(rig.journal.calls().iter().any(is_told), "{:?}", rig.journal.calls());
}

/// The same, for who walks down the causes.
#[test]
fn a_cause_can_be_walked_down_to() {
    use std::cell::RefCell;
    use std::rc::Rc;
    use waterwheel::{Conn, Context, Handler, Peer};

    struct Keeps(Rc<RefCell<Option<io::Error>>>);

    impl Handler for Keeps {
        type State = ();

        fn on_accept(&mut self, _: &Peer) -> Option<()> {
            None
        }

        fn on_data(&mut self, (): &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
            input.len()
        }

        fn on_connect_failed(&mut self, (): (), error: io::Error, _: &mut Context<'_>) {
            *self.0.borrow_mut() = Some(error);
        }
    }

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let kept = Rc::default();
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(Keeps(Rc::clone(&kept)));
    reactor.connect(closed, service, (), &ConnectOptions::default());
    patiently("failed", || {
        reactor.run_once(Some(Duration::from_millis(1))).unwrap();
        kept.borrow().is_some().then_some(())
    });
    let error = kept.take().unwrap();
    let inner = error.get_ref().and_then(Error::source).expect("a cause");
    let cause = inner.downcast_ref::<io::Error>().expect("the system's error");
    assert_eq!(cause.kind(), io::ErrorKind::ConnectionRefused);
    assert!(cause.raw_os_error().is_some());
}

#[test]
fn a_linger_of_parts_of_a_second_is_refused_with_the_reason() {
    let mut reactor = Reactor::new().unwrap();
    let service = reactor.register(Script::echo());
    let mut listen = |linger: Duration| {
        let tcp = TcpOptions::default().linger(Some(linger));
        reactor.listen("127.0.0.1:0", service, ListenOptions::default().tcp(tcp))
    };
    for (linger, said) in [(Duration::from_millis(999), "999ms"), (Duration::new(2, 1), "2.00")] {
        let error = listen(linger).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let text = error.to_string();
        for word in ["linger", said, "whole seconds"] {
            assert!(text.contains(word), "{text}");
        }
    }
    for seconds in [0, 1, 2] {
        listen(Duration::from_secs(seconds)).unwrap();
    }
}

#[test]
fn an_encoded_length_is_bytes() {
    let encoded = LengthPrefix::U16_BE.encode(258).unwrap();
    assert_eq!(encoded.as_ref(), [1, 2]);
    assert_eq!(*encoded, [1, 2]);
}

/// No address of a link is ours for sure, but that the interface was found can be seen.
#[cfg(target_os = "linux")]
#[test]
fn an_address_to_listen_on_may_name_its_interface() {
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.register(Script::echo());
    let mut listen = |addr: &str| {
        reactor.listen(addr, handler, ListenOptions::default()).unwrap_err().to_string()
    };
    let text = listen("[fe80::77%lo]:9");
    assert!(text.contains("[fe80::77%1]:9"), "{text}");
    let text = listen("[fe80::77%no-such]:9");
    assert!(text.contains("fe80::77%no-such"), "{text}");
    for (wrong, why) in [
        ("localhost", "it has no port"),
        ("localhost:", "no port behind the colon"),
        (":9", "it has no host"),
        ("localhost:99999", "more than 65535"),
        ("localhost:http", "neither an address nor a name"),
        ("fe80::77%lo:9", "neither an address nor a name"),
        ("[fe80::77%]:9", "neither an address nor a name"),
        ("[fe80::77%lo]", "neither an address nor a name"),
        ("unix:/tmp/a", "no Unix socket"),
    ] {
        let text = listen(wrong);
        let is_told = text.contains(wrong) && text.contains(why);
        assert!(is_told || cfg!(not(unix)) && wrong.starts_with("unix:"), "{text}");
    }
}
