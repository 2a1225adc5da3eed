//! Handshakes that fail, counted by reason.

use waterwheel::tls::HandshakeFailures;

use super::*;
use crate::support::Client;

/// What `config` counts once one handshake has failed, of a client that `run` makes.
fn counted(config: &ServerConfig, run: impl FnOnce(&mut Rig)) -> HandshakeFailures {
    let mut rig = rig(Script::echo(), config);
    run(&mut rig);
    rig.until("one has failed", |rig| rig.reactor.stats().handshakes_failed == 1);
    rig.until("all are gone", |rig| rig.reactor.stats().connections == 0);
    let failures = config.failures();
    assert_eq!(failures.total(), 1, "{failures:?}");
    failures
}

fn default(options: ServerOptions, run: impl FnOnce(&mut Rig)) -> HandshakeFailures {
    counted(&ServerConfig::new(options).unwrap(), run)
}

fn options() -> ServerOptions {
    ServerOptions::new(certificate("server"))
}

/// The first bytes of a hello.
const HALF: [u8; 6] = [22, 3, 1, 2, 0, 1];

/// A client that says this, and ends.
fn says(bytes: &[u8]) -> HandshakeFailures {
    let mut client = None;
    default(options(), |rig| {
        let mut it = Client::connect(rig.addr);
        it.send(bytes);
        it.finish();
        client = Some(it);
    })
}

/// A connect of this library, with a configuration of its own.
fn connects(rig: &mut Rig, options: ClientOptions) {
    let config = ClientConfig::new(options).unwrap();
    let addr = rig.addr;
    rig.connect(addr, 0, &ConnectOptions::default().tls(&config, "localhost"));
}

#[test]
fn plain_http_is_told_from_other_nonsense_and_from_an_end() {
    for request in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\n", b"DEL"] {
        assert_eq!(says(request).plain_http, 1);
    }
    for nonsense in
        [&b"SSH-2.0-it\r\n"[..], b"get / HTTP/1.1\r\n\r\n", &[22, 3, 1, 0, 4, 9, 0, 0, 0]]
    {
        assert_eq!(says(nonsense).not_tls, 1, "{}", nonsense.escape_ascii());
    }
    assert_eq!(says(&HALF).closed, 1);
}

#[test]
fn one_that_is_late_has_timed_out() {
    for bytes in [&HALF[..], b""] {
        let mut client = None;
        let options = options().handshake_timeout(Duration::from_millis(50));
        let failures = default(options, |rig| {
            let mut it = Client::connect(rig.addr);
            it.send(bytes);
            client = Some(it);
        });
        assert_eq!(failures.timed_out, 1);
    }
}

#[test]
fn one_that_gives_its_place_up_is_crowded_out() {
    let mut clients = Vec::new();
    let config = server();
    let mut rig = Rig::with(
        Script::echo(),
        Journal::default(),
        ListenOptions::default().tls(&config).max_handshakes(1),
        ReactorOptions::default(),
    );
    for _ in 0..2 {
        let mut client = Client::connect(rig.addr);
        client.send(&HALF);
        clients.push(client);
    }
    rig.until("one has failed", |rig| rig.reactor.stats().handshakes_failed == 1);
    assert_eq!((config.failures().crowded_out, config.failures().total()), (1, 1));
}

#[test]
fn what_is_not_in_common_is_incompatible() {
    let failures = default(options().alpn(["h2"]), |rig| {
        connects(rig, ClientOptions::new(roots()).alpn(["http/1.1"]));
    });
    assert_eq!(failures.incompatible, 1, "{failures:?}");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let old = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    let config = ServerConfig::from_rustls(old);
    let failures = counted(&config, |rig| {
        let addr = rig.addr;
        beside(rig, move || {
            let config = Arc::new(foreign(&[&rustls::version::TLS13]));
            let mut stream = dial(addr, &config, "localhost");
            assert!(stream.write_all(b"x").is_err());
        });
    });
    assert_eq!(failures.incompatible, 1, "{failures:?}");
}

#[test]
fn a_certificate_is_the_reason_on_either_side() {
    let wants_one = options().client_auth(ClientAuth::Required(roots()));
    let failures = default(wants_one, |rig| connects(rig, ClientOptions::new(roots())));
    assert_eq!(failures.client_certificate, 1, "{failures:?}");

    let stranger = ClientAuth::Required(Roots::from_file(file("stranger.pem")));
    let failures = default(options().client_auth(stranger), |rig| {
        connects(rig, ClientOptions::new(roots()).certificate(certificate("client")));
    });
    assert_eq!(failures.client_certificate, 1, "{failures:?}");

    let failures = default(options(), |rig| {
        connects(rig, ClientOptions::new(Roots::from_file(file("stranger.pem"))));
    });
    assert_eq!(failures.refused_by_client, 1, "{failures:?}");
}

/// Two reactors with one configuration, and reloads between.
#[test]
fn one_configuration_counts_for_all_its_listeners() {
    let config = server();
    for count in 1..=2 {
        let mut rig = rig(Script::echo(), &config.clone());
        let mut client = Client::connect(rig.addr);
        client.send(b"GET / HTTP/1.1\r\n\r\n");
        client.finish();
        rig.until("it is gone", |rig| rig.reactor.stats().handshakes_failed == 1);
        assert_eq!(config.failures().plain_http, count);
        config.reload().unwrap();
    }
}
