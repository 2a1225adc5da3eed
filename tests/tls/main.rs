//! TLS over real sockets, against rustls's own blocking client and against itself. Foreign clients
//! are in `tests/tls/clients`.

mod cuts;
mod errors;
mod failures;
mod hostile;
#[cfg(feature = "http")]
mod http;
mod peers;
mod pool;
#[allow(dead_code, reason = "the tests of the pool by itself use the rest")]
#[path = "../it/pool/rig.rs"]
mod pool_rig;
mod reconnect;
mod reload;
#[allow(dead_code, unused_imports, reason = "the tests of other binaries use the rest")]
#[path = "../support/mod.rs"]
mod support;
mod writes;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use waterwheel::tls::rustls::pki_types::ServerName;
use waterwheel::tls::rustls::{self, ClientConnection, StreamOwned};
use waterwheel::tls::{
    Certificate, ClientAuth, ClientConfig, ClientOptions, Roots, ServerConfig, ServerOptions,
    TlsVersion,
};
use waterwheel::{Conn, ConnectOptions, Limits, ListenOptions, ReactorOptions};

use support::{Call, End, Journal, Rig, Script, pattern, scratch_file};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/certs").join(name)
}

fn certificate(name: &str) -> Certificate {
    Certificate::from_files(file(&format!("{name}.pem")), file(&format!("{name}.key")))
}

fn roots() -> Roots {
    Roots::from_file(file("ca.pem"))
}

fn server() -> ServerConfig {
    ServerConfig::new(ServerOptions::new(certificate("server"))).unwrap()
}

fn client() -> ClientConfig {
    ClientConfig::new(ClientOptions::new(roots())).unwrap()
}

fn rig(script: Script, config: &ServerConfig) -> Rig {
    let options = ListenOptions::default().tls(config);
    Rig::with(script, Journal::default(), options, ReactorOptions::default())
}

/// A configuration of rustls for a client that is not of this library.
fn foreign(versions: &[&'static rustls::SupportedProtocolVersion]) -> rustls::ClientConfig {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut store = rustls::RootCertStore::empty();
    store.add(CertificateDer::from_pem_file(file("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth()
}

type Blocking = StreamOwned<ClientConnection, TcpStream>;

fn dial(addr: SocketAddr, config: &Arc<rustls::ClientConfig>, name: &str) -> Blocking {
    over(TcpStream::connect(addr).unwrap(), config, name)
}

fn over(stream: TcpStream, config: &Arc<rustls::ClientConfig>, name: &str) -> Blocking {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream)
}

/// Runs a blocking client in a thread of its own while the reactor turns.
fn beside<R: Send + 'static>(rig: &mut Rig, run: impl FnOnce() -> R + Send + 'static) -> R {
    let client = thread::spawn(run);
    rig.until("the client is done", |_| client.is_finished());
    client.join().unwrap()
}

/// What `conn.tls()` has told at `on_open`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Agreed {
    version: Option<TlsVersion>,
    cipher: String,
    alpn: Option<Vec<u8>>,
    name: Option<String>,
    certificates: usize,
    is_resumed: bool,
}

fn agreed(conn: &Conn<'_>) -> Agreed {
    let tls = conn.tls().expect("it is encrypted");
    Agreed {
        version: Some(tls.version),
        cipher: tls.cipher.to_owned(),
        alpn: tls.alpn.map(<[u8]>::to_vec),
        name: tls.server_name.map(str::to_owned),
        certificates: tls.peer_certificates.len(),
        is_resumed: tls.is_resumed,
    }
}

/// An echo that notes what was agreed on.
fn noting() -> (Script, Rc<RefCell<Vec<Agreed>>>) {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let notes = Rc::clone(&seen);
    let script = Script::echo().open(move |conn| notes.borrow_mut().push(agreed(conn)));
    (script, seen)
}

#[test]
fn an_echo_speaks_both_versions_and_tells_what_was_agreed() {
    let options = ServerOptions::new(certificate("server")).alpn(["h2", "echo"]);
    let config = ServerConfig::new(options).unwrap();
    for (version, told) in
        [(&rustls::version::TLS12, TlsVersion::V1_2), (&rustls::version::TLS13, TlsVersion::V1_3)]
    {
        let (script, seen) = noting();
        let mut rig = rig(script, &config);
        let addr = rig.addr;
        let answer = beside(&mut rig, move || {
            let mut config = foreign(&[version]);
            config.alpn_protocols = vec![b"echo".to_vec()];
            let mut stream = dial(addr, &Arc::new(config), "a.example");
            stream.write_all(b"hello").unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).expect("close_notify comes before FIN");
            answer
        });
        assert_eq!(&answer, b"hello");
        let seen = seen.borrow();
        let [seen] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((seen.version, seen.certificates), (Some(told), 0));
        assert_eq!(seen.alpn.as_deref(), Some(&b"echo"[..]));
        assert_eq!(seen.name.as_deref(), Some("a.example"));
        assert!(seen.cipher.starts_with("TLS") && !seen.is_resumed, "{seen:?}");
        assert_eq!(rig.journal.calls()[..2], [Call::Accept, Call::Open]);
    }
}

#[test]
fn a_session_is_resumed_by_its_ticket() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (script, seen) = noting();
        let mut rig = rig(script, &server());
        let addr = rig.addr;
        beside(&mut rig, move || {
            let config = Arc::new(foreign(&[version]));
            for _ in 0..2 {
                let mut stream = dial(addr, &config, "localhost");
                stream.write_all(b"x").unwrap();
                stream.read_exact(&mut [0]).unwrap();
            }
        });
        let resumed: Vec<_> = seen.borrow().iter().map(|seen| seen.is_resumed).collect();
        assert_eq!(resumed, [false, true]);
    }
}

#[test]
fn the_certificate_is_that_of_the_name() {
    let other = certificate("other").names(["b.example", "*.b.example"]);
    let options = ServerOptions::new(certificate("server")).certificate(other);
    let mut rig = rig(Script::echo(), &ServerConfig::new(options).unwrap());
    let addr = rig.addr;
    beside(&mut rig, move || {
        let config = Arc::new(foreign(rustls::ALL_VERSIONS));
        for name in ["b.example", "X.b.example", "a.example", "localhost"] {
            let mut stream = dial(addr, &config, name);
            stream.write_all(b"x").unwrap_or_else(|error| panic!("{name}: {error}"));
            stream.read_exact(&mut [0]).unwrap();
        }
        let mut stream = dial(addr, &config, "nobody.example");
        assert!(stream.write_all(b"x").is_err(), "the certificate is of another name");
    });
}

/// 20 MiB each way, with a file between, and small writes before and behind it.
#[test]
fn much_goes_both_ways_in_order() {
    const LOTS: usize = 20 << 20;
    let bytes = Arc::new(pattern(LOTS));
    let sent = Arc::clone(&bytes);
    let script = Script::new().open(move |conn| {
        let (head, rest) = sent.split_at(7);
        let (middle, tail) = rest.split_at(LOTS - 1_000_000);
        assert!(conn.write(head).is_accepted());
        conn.send_file(scratch_file(middle), ..middle.len() as u64).unwrap();
        assert!(conn.write(tail).is_accepted());
    });
    // The client writes all before it reads.
    let limits = Limits::default().pause_at_high_mark(false);
    let options = ListenOptions::default().tls(&server()).limits(limits);
    let script = script.eof(|conn| conn.close());
    let mut rig = Rig::with(script, Journal::default(), options, ReactorOptions::default());
    let (addr, expected) = (rig.addr, Arc::clone(&bytes));
    beside(&mut rig, move || {
        let mut stream = dial(addr, &Arc::new(foreign(rustls::ALL_VERSIONS)), "localhost");
        for piece in expected.chunks(100_000) {
            stream.write_all(piece).unwrap();
        }
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(received == *expected, "{} bytes", received.len());
    });
    assert!(rig.journal.data_of(rig.journal.last()) == *bytes);
}

#[test]
fn both_ends_may_be_of_this_library() {
    let (script, seen) = noting();
    let mut rig = rig(script, &server());
    let options = ConnectOptions::default().tls(&client(), "localhost");
    let addr = rig.addr;
    let id = rig.connect(addr, 0, &options);
    // What is written before it is up is sent once it is.
    rig.reactor.context().conn(id).unwrap().write(b"early");
    rig.until("both have heard", |rig| {
        let opened = rig.journal.opened();
        opened.len() == 2 && opened.iter().all(|id| rig.journal.data_of(*id).len() >= 5)
    });
    assert!(seen.borrow().iter().all(|seen| seen.name.as_deref() == Some("localhost")));
}

#[test]
fn a_client_shows_its_certificate_where_one_is_wanted() {
    for (auth, shows, is_let_in) in [
        (ClientAuth::Required(roots()), true, true),
        (ClientAuth::Required(roots()), false, false),
        (ClientAuth::Optional(roots()), true, true),
        (ClientAuth::Optional(roots()), false, true),
        (ClientAuth::Required(Roots::from_file(file("stranger.pem"))), true, false),
    ] {
        let (script, seen) = noting();
        let options = ServerOptions::new(certificate("server")).client_auth(auth.clone());
        let mut rig = rig(script, &ServerConfig::new(options).unwrap());
        let mut options = ClientOptions::new(roots());
        if shows {
            options = options.certificate(certificate("client"));
        }
        let config = ClientConfig::new(options).unwrap();
        let addr = rig.addr;
        rig.connect(addr, 0, &ConnectOptions::default().tls(&config, "localhost"));
        if is_let_in {
            rig.until("both are open", |_| seen.borrow().len() == 2);
            let shown = seen.borrow().iter().map(|seen| seen.certificates).min();
            assert_eq!(shown, Some(usize::from(shows)), "{auth:?}");
        } else {
            rig.until("it is refused", |rig| rig.reactor.stats().handshakes_failed == 1);
            // The client hears of it behind its own handshake, in TLS 1.3.
            rig.until("it ends", |rig| rig.reactor.stats().connections == 0);
            assert_eq!(rig.reactor.stats().accepted, 0);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_encrypted_too() {
    use waterwheel::unix::UnixListenOptions;
    let (script, seen) = noting();
    let mut rig = Rig::new(script);
    let path = support::scratch_path();
    let options = UnixListenOptions::default().tls(&server());
    let addr = rig.reactor.listen_unix(&path, rig.service, options).unwrap();
    rig.connect(addr, 0, &ConnectOptions::default().tls(&client(), "localhost"));
    rig.until("both are open", |_| seen.borrow().len() == 2);
}

/// Who is accepted is known by then.
#[cfg(feature = "proxy-protocol")]
#[test]
fn a_balancer_s_header_comes_before_the_handshake() {
    use waterwheel::proxy_protocol::ProxyProtocol;
    let loopback = ProxyProtocol::from_trusted(["127.0.0.1"]).unwrap();
    let accepted = Rc::new(RefCell::new(Vec::new()));
    let notes = Rc::clone(&accepted);
    let script = Script::echo().accept(move |peer| {
        notes.borrow_mut().push((peer.addr, peer.destination));
        true
    });
    let options = ListenOptions::default().tls(&server()).proxy_protocol(Some(loopback));
    let mut rig = Rig::with(script, Journal::default(), options, ReactorOptions::default());
    let addr = rig.addr;
    let is_served = beside(&mut rig, move || {
        let headers: [&[u8]; 3] = [
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x12\x67\x01\xbb",
            b"",
        ];
        headers.map(|header| {
            let mut socket = TcpStream::connect(addr).unwrap();
            socket.write_all(header).unwrap();
            let config = Arc::new(foreign(rustls::ALL_VERSIONS));
            let mut stream = over(socket, &config, "localhost");
            stream.write_all(b"x").and_then(|()| stream.read_exact(&mut [0])).is_ok()
        })
    });
    assert_eq!(is_served, [true, true, false]);
    let client = "192.0.2.7:4711".parse().unwrap();
    let destination = Some("198.51.100.1:443".parse().unwrap());
    assert_eq!(*accepted.borrow(), [(client, destination); 2]);
    assert_eq!(rig.reactor.stats().proxy_refused, 1);
}

#[test]
fn a_fin_without_close_notify_is_a_truncation() {
    let truncated = Rc::new(RefCell::new(Vec::new()));
    let notes = Rc::clone(&truncated);
    let script = Script::echo().eof(move |conn| {
        notes.borrow_mut().push(conn.is_truncated());
        conn.close();
    });
    let mut rig = rig(script, &server());
    let addr = rig.addr;
    beside(&mut rig, move || {
        for is_said in [true, false] {
            let config = Arc::new(foreign(rustls::ALL_VERSIONS));
            let mut stream = dial(addr, &config, "localhost");
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            if is_said {
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            }
            stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
            stream.read_to_end(&mut Vec::new()).expect("close_notify comes back");
        }
    });
    assert_eq!(*truncated.borrow(), [false, true]);
}

/// With the socket's end behind it or not, or with that alone.
#[test]
fn an_end_that_is_given_back_is_told_again_as_it_was() {
    for (is_said, is_shut) in [(true, false), (true, true), (false, true)] {
        let truncated = Rc::new(RefCell::new(Vec::new()));
        let notes = Rc::clone(&truncated);
        let script = Script::new().eof(move |conn| notes.borrow_mut().push(conn.is_truncated()));
        let mut rig = rig(script, &server());
        let addr = rig.addr;
        let client = thread::spawn(move || {
            let mut stream = dial(addr, &Arc::new(foreign(rustls::ALL_VERSIONS)), "localhost");
            stream.write_all(b"abc").unwrap();
            if is_said {
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            }
            if is_shut {
                stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
            }
            stream.read_to_end(&mut Vec::new()).expect("close_notify comes back");
        });
        rig.until("the end", |rig| rig.journal.has(&Call::Eof));
        rig.expect_quiet();
        let id = rig.journal.last();
        rig.journal.note_end_given_back(id);
        rig.reactor.context().conn(id).unwrap().give_back(b"bc");
        rig.until("the end again", |rig| truncated.borrow().len() == 2 || !rig.lives(id));
        rig.expect_quiet();
        rig.reactor.context().conn(id).unwrap().close();
        rig.expect_end(id, "Peer");
        rig.until("the client is done", |_| client.is_finished());
        client.join().unwrap();
        let [abc, bc] = [&b"abc"[..], b"bc"].map(|bytes| Call::Data(bytes.to_vec()));
        assert_eq!(rig.journal.calls_of(id)[1..5], [abc, Call::Eof, bc, Call::Eof]);
        assert_eq!(*truncated.borrow(), [!is_said; 2]);
    }
}

#[test]
fn an_abort_says_nothing() {
    let script = Script::new().data(|conn, input| {
        conn.abort();
        input.len()
    });
    let mut rig = rig(script, &server());
    let addr = rig.addr;
    let kind = beside(&mut rig, move || {
        let mut stream = dial(addr, &Arc::new(foreign(rustls::ALL_VERSIONS)), "localhost");
        stream.write_all(b"x").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap_err().kind()
    });
    assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
}

/// A thousand records of one byte are a thousand callbacks at most, and one answer each.
#[test]
fn small_writes_of_a_callback_are_one_record() {
    let script = Script::new().data(|conn, input| {
        for byte in input {
            conn.write(&[*byte]);
        }
        input.len()
    });
    let mut rig = rig(script, &server());
    let addr = rig.addr;
    beside(&mut rig, move || {
        let mut stream = dial(addr, &Arc::new(foreign(&[&rustls::version::TLS13])), "localhost");
        stream.write_all(&[1; 1_000]).unwrap();
        let mut answer = [0; 1_000];
        stream.read_exact(&mut answer).unwrap();
    });
    // The server's flight, its tickets, one record, and perhaps the end.
    assert!(rig.reactor.stats().writes <= 4, "{} writes", rig.reactor.stats().writes);
}

#[test]
fn one_that_ends_in_the_handshake_is_gone() {
    let mut rig = rig(Script::echo(), &server());
    let mut client = support::Client::connect(rig.addr);
    client.send(&[22, 3, 1, 2, 0, 1]);
    client.finish();
    assert_eq!(rig.read_to_end(&mut client), (vec![], End::Reset));
    assert_eq!(rig.reactor.stats().handshakes_failed, 1);
}
