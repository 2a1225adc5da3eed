//! A blocking client of TLS that is not of this library, and the certificates of the tests.
#![allow(dead_code)] // Each test program uses a part of it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use waterwheel::tls::rustls::client::WantsClientCert;
use waterwheel::tls::rustls::crypto::aws_lc_rs;
use waterwheel::tls::rustls::pki_types::pem::PemObject;
use waterwheel::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use waterwheel::tls::rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, ServerConfig, ServerConnection,
    StreamOwned,
};

use crate::process::{PATIENCE, Process};

/// A file of the certificates.
pub(crate) fn cert(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tls/certs").join(name);
    path.to_str().unwrap().to_owned()
}

/// `--tls` with the certificate for `localhost` and `a.example`.
pub(crate) fn server_args() -> [String; 3] {
    ["--tls".to_owned(), cert("server.pem"), cert("server.key")]
}

pub(crate) type Client = StreamOwned<ClientConnection, TcpStream>;

/// A client that trusts the root of the tests, once its handshake is done.
#[track_caller]
pub(crate) fn dial(addr: SocketAddr, name: &str) -> Client {
    finish(addr, name, roots().with_no_client_auth())
}

/// A client that shows a certificate of the tests.
#[track_caller]
pub(crate) fn dial_as(addr: SocketAddr, name: &str, own: &str) -> Client {
    let chain = vec![CertificateDer::from_pem_file(cert(&format!("{own}.pem"))).unwrap()];
    let key = PrivateKeyDer::from_pem_file(cert(&format!("{own}.key"))).unwrap();
    finish(addr, name, roots().with_client_auth_cert(chain, key).unwrap())
}

fn roots() -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cert("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

#[track_caller]
fn finish(addr: SocketAddr, name: &str, config: ClientConfig) -> Client {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client =
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream);
    while client.conn.is_handshaking() {
        client.conn.complete_io(&mut client.sock).unwrap();
    }
    client
}

/// The other end of a handshake, with the certificate for `localhost`.
#[track_caller]
pub(crate) fn accept(stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
    let chain = vec![CertificateDer::from_pem_file(cert("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(cert("server.key")).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream)
}

#[track_caller]
pub(crate) fn expect_echo(stream: &mut (impl Read + Write), text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, text.as_bytes());
}

/// The files of a certificate, which a test replaces; they go with their value.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ww-tls-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str) {
        fs::copy(cert(&format!("{name}.pem")), self.0.join("cert.pem")).unwrap();
        fs::copy(cert(&format!("{name}.key")), self.0.join("key.pem")).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that echoes reads its certificate anew at SIGHUP; live connections keep theirs, and an
/// unreadable one changes nothing.
#[track_caller]
pub(crate) fn expect_reload(program: &str, name: &str, args: &[&str]) {
    let files = Files::new(name);
    files.put("server");
    let (chain, key) = (files.path("cert.pem"), files.path("key.pem"));
    let args = [args, &["--tls", &chain, &key]].concat();
    let (server, addr) = Process::serve(program, &args);
    let mut live = dial(addr, "localhost");
    expect_echo(&mut live, "one");

    files.put("other");
    server.signal("HUP");
    assert_eq!(server.line(), format!("certificate: read anew from {chain}"));
    expect_echo(&mut dial(addr, "b.example"), "two");
    expect_echo(&mut live, "three");

    fs::write(&key, "nonsense").unwrap();
    server.signal("HUP");
    let line = server.line();
    let (told, kept) = (format!("{key}: no private key in it"), "; the old one stays");
    assert!(line.contains(&told) && line.ends_with(kept), "{line}");
    fs::remove_file(&chain).unwrap();
    server.signal("HUP");
    let line = server.line();
    assert!(line.contains(&format!("cannot read {chain}")) && line.ends_with(kept), "{line}");
    expect_echo(&mut dial(addr, "b.example"), "four");
    expect_echo(&mut live, "five");

    files.put("server");
    server.signal("HUP");
    assert_eq!(server.line(), format!("certificate: read anew from {chain}"));
    expect_echo(&mut dial(addr, "localhost"), "six");
    drop(live);
    server.terminate();
    let end = server.end();
    assert_eq!(end.code, Some(0), "{end:?}");
}

/// Without the feature, or with files that are none, the program says so and ends.
#[track_caller]
pub(crate) fn expect_no_files(program: &str) {
    let end = Process::start(program, &["--tls", "/nowhere/cert", "/nowhere/key"]).end();
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.errors.contains("cannot read /nowhere/cert"), "{end:?}");
}
