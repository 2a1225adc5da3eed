//! Clients and servers that mean no good.

use rustls::crypto::CipherSuiteCommon;
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, OutboundOpaqueMessage, OutboundPlainMessage,
    Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite};
use waterwheel::observer::Observer;
use waterwheel::{ConnId, Context};

use super::*;
use crate::support::Client;

/// A configuration of rustls with a resolver of the program's own.
fn with_resolver(resolver: Arc<dyn ResolvesServerCert>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    ServerConfig::from_rustls(config)
}

fn key() -> CertifiedKey {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = vec![CertificateDer::from_pem_file(file("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).unwrap()
}

/// Panics for one name.
#[derive(Debug)]
struct Panicking(Arc<CertifiedKey>);

impl ResolvesServerCert for Panicking {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        assert_ne!(hello.server_name(), Some("b.example"), "as the test wants");
        Some(Arc::clone(&self.0))
    }
}

#[test]
fn a_name_is_not_that_of_another_connection() {
    let script = Script::new().data(|conn, input| {
        let name = conn.tls().unwrap().server_name.unwrap_or_default().to_owned();
        conn.write(name.as_bytes());
        input.len()
    });
    let mut rig = rig(script, &with_resolver(Arc::new(Panicking(Arc::new(key())))));
    rig.panics = 1;
    let addr = rig.addr;
    let name = beside(&mut rig, move || {
        let config = Arc::new(foreign(rustls::ALL_VERSIONS));
        let mut stream = dial(addr, &config, "a.example");
        stream.write_all(b"1").unwrap();
        stream.read_exact(&mut [0; 9]).unwrap();
        let mut other = dial(addr, &config, "b.example");
        assert!(other.write_all(b"x").is_err(), "its handshake panics");
        stream.write_all(b"2").unwrap();
        let mut name = [0; 9];
        stream.read_exact(&mut name).unwrap();
        String::from_utf8_lossy(&name).into_owned()
    });
    assert_eq!(name, "a.example");
}

#[test]
fn what_follows_close_notify_is_ignored() {
    let script = Script::new().eof(|conn| {
        conn.write(b"bye");
        conn.close();
    });
    let mut rig = rig(script, &server());
    let addr = rig.addr;
    let mut client = Client::connect(addr);
    let name = ServerName::try_from("localhost").unwrap();
    let config = Arc::new(foreign(rustls::ALL_VERSIONS));
    let mut tls = ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    while tls.is_handshaking() {
        while tls.wants_write() {
            tls.write_tls(&mut client.stream).unwrap();
        }
        rig.turn();
        client.stream.set_nonblocking(true).unwrap();
        if tls.read_tls(&mut client.stream).is_ok() {
            tls.process_new_packets().unwrap();
        }
        client.stream.set_nonblocking(false).unwrap();
    }
    tls.writer().write_all(b"word").unwrap();
    tls.send_close_notify();
    while tls.wants_write() {
        tls.write_tls(&mut bytes).unwrap();
    }
    bytes.extend([0; 50_000]);
    client.send(&bytes);
    rig.until("it is open", |rig| !rig.journal.opened().is_empty());
    let id = rig.journal.last();
    rig.expect_end(id, "Peer");
    assert_eq!(rig.journal.data_of(id), b"word");
}

/// Key updates, tickets, empty records: whatever a peer says again and again is bounded.
#[test]
fn a_flood_of_key_updates_ends() {
    let mut rig = rig(Script::echo(), &server());
    let addr = rig.addr;
    beside(&mut rig, move || {
        let mut stream = dial(addr, &Arc::new(foreign(&[&rustls::version::TLS13])), "localhost");
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        for _ in 0..100 {
            stream.conn.refresh_traffic_keys().unwrap();
            if stream.flush().is_err() {
                return;
            }
        }
        let _ = stream.write_all(b"y");
        assert!(stream.read(&mut [0]).is_err());
    });
    let id = rig.journal.last();
    let (reason, _) = rig.end_of(id);
    assert!(reason.contains("InvalidData"), "{reason}");
}

/// Half of a message of a handshake stays with the layer; the rest comes when the handler has
/// closed already, and nobody reads it.
#[test]
fn half_of_a_message_before_a_close_is_no_panic() {
    let script = Script::new().data(|conn, input| {
        conn.write(&vec![0; 20 << 20]);
        conn.close();
        input.len()
    });
    let limits = Limits::default().high_mark_bytes(32 << 20).max_output_bytes(64 << 20);
    let options = ListenOptions::default().tls(&server()).limits(limits);
    let mut rig = Rig::with(script, Journal::default(), options, ReactorOptions::default());
    let addr = rig.addr;
    let received = beside(&mut rig, move || {
        let mut config = foreign(&[&rustls::version::TLS13]);
        config.enable_secret_extraction = true;
        let mut stream = dial(addr, &Arc::new(config), "localhost");
        stream.flush().unwrap();
        let (tls, mut socket) = stream.into_parts();
        let records = Records::of(tls);
        let data = records.record(0, ContentType::ApplicationData, b"x");
        let half = records.record(1, ContentType::Handshake, &[24, 0, 0]);
        socket.write_all(&[data, half].concat()).unwrap();
        thread::sleep(Duration::from_millis(50));
        socket.write_all(&records.record(2, ContentType::Handshake, &[1, 0])).unwrap();
        thread::sleep(Duration::from_millis(50));
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut received = Vec::new();
        socket.read_to_end(&mut received).map(|_| received.len())
    });
    assert!(received.unwrap() > 20 << 20);
    let id = rig.journal.last();
    rig.expect_end(id, "Local");
}

/// What a client sends, made by hand.
struct Records {
    encrypter: RefCell<Box<dyn MessageEncrypter>>,
    first: u64,
}

impl Records {
    fn of(tls: ClientConnection) -> Self {
        let Some(SupportedCipherSuite::Tls13(suite)) = tls.negotiated_cipher_suite() else {
            panic!("TLS 1.3 is agreed on");
        };
        let (first, secrets) = tls.dangerous_extract_secrets().unwrap().tx;
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
            panic!("AES-256 is chosen");
        };
        Self { encrypter: RefCell::new(suite.aead_alg.encrypter(key, iv)), first }
    }

    fn record(&self, number: u64, typ: ContentType, content: &[u8]) -> Vec<u8> {
        let version = ProtocolVersion::TLSv1_2;
        let message = OutboundPlainMessage { typ, version, payload: content.into() };
        let mut encrypter = self.encrypter.borrow_mut();
        encrypter.encrypt(message, self.first + number).unwrap().encode()
    }
}

/// Cryptography of the program's own that panics at a byte.
struct PanickingAead(&'static dyn Tls13AeadAlgorithm);

struct PanickingEncrypter(Box<dyn MessageEncrypter>);

impl Tls13AeadAlgorithm for PanickingAead {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(PanickingEncrypter(self.0.encrypter(key, iv)))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }
}

impl MessageEncrypter for PanickingEncrypter {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        number: u64,
    ) -> Result<OutboundOpaqueMessage, rustls::Error> {
        assert_ne!(message.payload.to_vec(), b"panic", "as the test wants");
        self.0.encrypt(message, number)
    }

    fn encrypted_payload_len(&self, length: usize) -> usize {
        self.0.encrypted_payload_len(length)
    }
}

/// A server whose cryptography is such.
fn panicking() -> ServerConfig {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    let Some(SupportedCipherSuite::Tls13(suite)) = provider.cipher_suites.first().copied() else {
        panic!("it has TLS 1.3");
    };
    let aead_alg: &'static dyn Tls13AeadAlgorithm =
        Box::leak(Box::new(PanickingAead(suite.aead_alg)));
    let common = CipherSuiteCommon { ..suite.common };
    let hkdf_provider = suite.hkdf_provider;
    let own = rustls::Tls13CipherSuite { common, hkdf_provider, aead_alg, quic: None };
    provider.cipher_suites = vec![SupportedCipherSuite::Tls13(Box::leak(Box::new(own)))];
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key())));
    ServerConfig::from_rustls(config)
}

/// A client of a server whose answer to a byte it has, and what it reads last; and the connection.
fn answered(rig: &mut Rig) -> (ConnId, thread::JoinHandle<std::io::ErrorKind>) {
    let addr = rig.addr;
    let client = thread::spawn(move || {
        let mut stream = dial(addr, &Arc::new(foreign(rustls::ALL_VERSIONS)), "localhost");
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap_err().kind()
    });
    rig.until("it has an answer", |rig| !rig.journal.opened().is_empty());
    let id = rig.journal.last();
    rig.until("data", |rig| !rig.journal.data_of(id).is_empty());
    (id, client)
}

/// Output that is sent with no callback running: the connection ends whose layer has panicked.
#[test]
fn a_layer_that_panics_at_output_ends_its_connection() {
    let mut rig = rig(Script::echo(), &panicking());
    rig.panics = 1;
    let (id, client) = answered(&mut rig);
    rig.reactor.context().conn(id).unwrap().write(b"panic");
    let (reason, _) = rig.end_of(id);
    assert_eq!(reason, "Panic");
    assert_eq!(client.join().unwrap(), std::io::ErrorKind::ConnectionReset);
}

/// Whose panics were told.
#[derive(Clone, Default)]
struct Panics(Rc<RefCell<Vec<String>>>);

impl Observer for Panics {
    fn on_panic(&mut self, handler: Option<u32>, text: &str) {
        self.0.borrow_mut().push(format!("{handler:?}: {text}"));
    }
}

/// The closure that has written has returned by the time the layer works on its output, and was
/// the last callback before it.
#[test]
fn a_panic_of_a_layer_is_told_as_no_handlers() {
    let mut rig = rig(Script::echo(), &panicking());
    rig.panics = 1;
    let panics = Panics::default();
    rig.reactor.observe(panics.clone());
    let (id, client) = answered(&mut rig);
    let write = move |_: &mut _, cx: &mut Context<'_>| {
        assert!(cx.conn(id).unwrap().write(b"panic").is_accepted());
    };
    rig.reactor.remote().with(rig.service, write).unwrap();
    assert_eq!(rig.end_of(id).0, "Panic");
    assert_eq!(client.join().unwrap(), std::io::ErrorKind::ConnectionReset);
    let told = panics.0.borrow();
    assert!(told.len() == 1 && told[0].starts_with("None: "), "{told:?}");
    assert!(told[0].contains("as the test wants"), "{told:?}");
}
