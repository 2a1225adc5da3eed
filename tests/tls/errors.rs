//! What is told of handshakes that fail: to the handler, to the peer, and in the log.

use std::io;
use std::time::Duration;

use log::Level;
use waterwheel::tls::TlsError;
use waterwheel::{Handler, Reactor};

use super::*;
use crate::support::{Client, keep_log, logged};

/// How a connect fails to a server with this certificate, under this name.
fn failure(served: &str, roots: Roots, name: &str) -> String {
    let config = ServerConfig::new(ServerOptions::new(certificate(served))).unwrap();
    let mut rig = rig(Script::echo(), &config);
    let config = ClientConfig::new(ClientOptions::new(roots)).unwrap();
    let addr = rig.addr;
    rig.connect(addr, 0, &ConnectOptions::default().tls(&config, name));
    let (kind, text) = failed(&mut rig);
    assert_eq!(kind, io::ErrorKind::InvalidData, "{text}");
    // The server has read why.
    rig.until("it is refused", |rig| rig.reactor.stats().handshakes_failed == 1);
    text
}

fn failed(rig: &mut Rig) -> (io::ErrorKind, String) {
    let is_failure = |call: &Call| matches!(call, Call::ConnectFailed(..));
    rig.until("it fails", |rig| rig.journal.count(is_failure) == 1);
    let calls = rig.journal.calls();
    let found = calls.into_iter().find_map(|call| match call {
        Call::ConnectFailed(kind, text) => Some((kind, text)),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn a_certificate_that_is_not_good_is_told_with_the_reason() {
    for (served, roots, name, wanted) in [
        ("foreign", roots(), "localhost", "issuer that is not trusted"),
        ("server", Roots::from_file(file("stranger.pem")), "localhost", "not trusted"),
        ("server", roots(), "wrong.example", "another name"),
        ("expired", roots(), "localhost", "expired"),
    ] {
        let text = failure(served, roots, name);
        assert!(text.contains(wanted) && text.contains("127.0.0.1:"), "{served}: {text}");
    }
}

#[test]
fn a_file_that_is_no_key_is_told_with_what_it_is() {
    let chain = std::fs::read(file("server.pem")).unwrap();
    let refused = |key: &[u8]| {
        let error = ServerConfig::from_pem(chain.clone(), key).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        error.to_string()
    };
    let label = "ENCRYPTED PRIVATE KEY";
    let encrypted = format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    let text = refused(encrypted.as_bytes());
    assert!(text.contains("is encrypted; `openssl pkey"), "{text}");
    let text = refused(&chain);
    assert!(text.contains("a certificate is in it, and no private key"), "{text}");
    let damaged =
        [&chain[..], b"-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n"].concat();
    let text = refused(&damaged);
    assert!(text.contains("no private key in it") && !text.contains("certificate"), "{text}");
    let text = refused(b"nothing");
    assert!(text.contains("no private key in it"), "{text}");
}

#[test]
fn a_plain_server_is_told_apart_from_a_closed_one() {
    for (answer, kind, wanted) in [
        (&b"220 mail.example ESMTP\r\n"[..], io::ErrorKind::InvalidData, "does not speak TLS"),
        (&b""[..], io::ErrorKind::ConnectionAborted, "ended the connection in the handshake"),
    ] {
        let (listener, addr) = crate::support::listener();
        let mut rig = Rig::new(Script::new());
        rig.connect(addr, 0, &ConnectOptions::default().tls(&client(), "localhost"));
        let mut server = rig.accept_at(&listener);
        server.send(answer);
        server.finish();
        let (told, text) = failed(&mut rig);
        assert_eq!(told, kind, "{text}");
        assert!(text.contains(wanted), "{text}");
    }
}

#[test]
fn what_both_sides_have_not_in_common_is_told_on_both() {
    let options = ServerOptions::new(certificate("server")).alpn(["h2"]);
    let mut rig = rig(Script::echo(), &ServerConfig::new(options).unwrap());
    let options = ClientOptions::new(roots()).alpn(["http/1.1"]);
    let config = ClientConfig::new(options).unwrap();
    let addr = rig.addr;
    rig.connect(addr, 0, &ConnectOptions::default().tls(&config, "localhost"));
    let (_, text) = failed(&mut rig);
    assert!(text.contains("none of the protocols offered"), "{text}");
}

#[test]
fn a_name_that_is_none_fails_the_connect() {
    let (listener, addr) = crate::support::listener();
    let mut rig = Rig::new(Script::new());
    rig.connect(addr, 0, &ConnectOptions::default().tls(&client(), "no name"));
    let (kind, text) = failed(&mut rig);
    assert_eq!(kind, io::ErrorKind::InvalidInput);
    assert!(text.contains("\"no name\" is no name"), "{text}");
    drop(listener);
}

#[test]
fn the_cause_can_be_asked_for() {
    struct Asks(bool);
    impl Handler for Asks {
        type State = ();
        fn on_accept(&mut self, _: &waterwheel::Peer) -> Option<()> {
            None
        }
        fn on_data(&mut self, _: &mut (), _: &mut Conn<'_>, input: &[u8]) -> usize {
            input.len()
        }
        fn on_connect_failed(
            &mut self,
            (): (),
            error: io::Error,
            cx: &mut waterwheel::Context<'_>,
        ) {
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = cause {
                let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
                let tls = inner.and_then(|inner| inner.downcast_ref::<TlsError>());
                self.0 |= tls
                    .is_some_and(|tls| matches!(tls.cause(), rustls::Error::InvalidCertificate(_)));
                cause = error.source();
            }
            cx.stop();
        }
    }
    let mut server_side = Reactor::new().unwrap();
    let echo = server_side.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
    let options = ListenOptions::default().tls(&server());
    let addr = server_side.listen("127.0.0.1:0", echo, options).unwrap();
    let mut reactor = Reactor::new().unwrap();
    let asks = reactor.register(Asks(false));
    let options = ConnectOptions::default().tls(&client(), "wrong.example");
    reactor.connect(addr, asks, (), &options);
    while reactor.run_once(Some(Duration::ZERO)).unwrap() {
        server_side.run_once(Some(Duration::from_millis(1))).unwrap();
    }
    assert!(reactor.handler_mut(asks).unwrap().0, "it was found");
}

/// Who speaks HTTP to a TLS port reads an alert and the end, and not a reset.
#[test]
fn a_plain_client_gets_an_alert_and_an_end() {
    keep_log();
    let mut rig = rig(Script::echo(), &server());
    let mut client = Client::connect(rig.addr);
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (bytes, end) = rig.read_to_end(&mut client);
    assert_eq!((bytes.first(), bytes.len(), end), (Some(&21), 7, End::Fin), "an alert");
    client.finish();
    rig.until("it is gone", |rig| rig.reactor.stats().connections == 0);
    let stats = rig.reactor.stats();
    assert_eq!((stats.refused, stats.handshakes_failed), (1, 1));
    let addr = client.addr().to_string();
    let warned = logged(Level::Warn);
    let line = warned.iter().find(|line| line.contains(&addr)).expect("it is logged");
    assert!(line.contains("does not speak TLS") && line.contains("wants TLS"), "{line}");
}

/// What an open connection is failed for is told in an alert. The peer can read it although it has
/// sent far more than was read, and writes on; and so it can when the handler has just had input.
#[test]
fn an_alert_amid_a_connection_can_be_read_behind_input_that_is_not() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for last in [&b""[..], b"last"] {
            let mut rig = rig(Script::echo(), &server());
            let addr = rig.addr;
            let told = beside(&mut rig, move || {
                let mut stream = dial(addr, &Arc::new(foreign(&[version])), "localhost");
                stream.write_all(b"x").unwrap();
                stream.read_exact(&mut [0]).unwrap();
                let mut bytes = Vec::new();
                if !last.is_empty() {
                    stream.conn.writer().write_all(last).unwrap();
                    stream.conn.write_tls(&mut bytes).unwrap();
                }
                let broken = [&[23, 3, 3, 0, 100][..], &[7; 100]].concat();
                bytes.extend(broken.repeat(10_000));
                stream.sock.write_all(&bytes).expect("it is taken");
                let mut rest = Vec::new();
                stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
                stream.sock.read_to_end(&mut rest).expect("FIN, and no reset");
                stream.conn.read_tls(&mut &rest[..]).unwrap();
                stream.conn.process_new_packets().unwrap_err()
            });
            let alert = rustls::AlertDescription::BadRecordMac;
            assert_eq!(told, rustls::Error::AlertReceived(alert));
            let id = rig.journal.last();
            let (reason, unsent) = rig.end_of(id);
            assert!(reason.contains("InvalidData"), "{reason}");
            assert_eq!((unsent, rig.journal.data_of(id)), (0, [b"x", last].concat()));
        }
    }
}
