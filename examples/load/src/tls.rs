//! `--tls`: what encrypts the connections, and the server in this process.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use waterwheel::tls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use waterwheel::tls::rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use waterwheel::tls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use waterwheel::tls::rustls::pki_types::pem::PemObject;
use waterwheel::tls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use waterwheel::tls::rustls::{
    self, DigitallySignedStruct, NamedGroup, RootCertStore, SignatureScheme,
};
use waterwheel::tls::{ClientConfig, ServerConfig};
use waterwheel::{ConnectOptions, ListenOptions};

/// What the command line asks for.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    /// What the server is called; the host of `--connect` if that is not given.
    pub(crate) name: String,
    /// A file of PEM text with the certificates that are trusted; `None` trusts all.
    pub(crate) roots: Option<String>,
    /// Whether earlier sessions are resumed.
    pub(crate) resumes: bool,
    /// Whether the server is in this process.
    pub(crate) is_own: bool,
}

/// The configurations of both ends.
#[derive(Debug)]
pub(crate) struct Tls {
    client: ClientConfig,
    name: String,
    /// Of the server in this process.
    server: Option<ServerConfig>,
    /// How far the certificate of the server is looked at, for people.
    pub(crate) trust: &'static str,
    /// Whether sessions are resumed.
    pub(crate) resumes: bool,
}

impl Tls {
    pub(crate) fn new(wish: Wish) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (server, own_root) = match wish.is_own {
            true => own_server().map(|(config, root)| (Some(config), Some(root)))?,
            false => (None, None),
        };
        let roots = match (own_root, &wish.roots) {
            (Some(root), _) => Some(store([root])?),
            (None, Some(path)) => Some(read_roots(path)?),
            (None, None) => None,
        };
        let trust = match (&roots, wish.is_own) {
            (_, true) => "of this process",
            (Some(_), _) => "verified",
            (None, _) => "not verified",
        };
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("--tls: {error}"))?;
        let builder = match roots {
            Some(roots) => builder.with_root_certificates(roots),
            None => {
                let verifier = Arc::new(AnyCertificate(provider));
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
        };
        let mut config = builder.with_no_client_auth();
        config.resumption = match wish.resumes {
            true => Resumption::store(Arc::new(Sessions::default())),
            false => Resumption::disabled(),
        };
        let Wish { name, resumes, .. } = wish;
        ServerName::try_from(name.as_str())
            .map_err(|_| format!("--tls: {name:?} is no name of a server"))?;
        Ok(Self { client: ClientConfig::from_rustls(config), name, server, trust, resumes })
    }

    /// Has outgoing connections encrypted.
    pub(crate) fn encrypt(&self, options: ConnectOptions) -> ConnectOptions {
        options.tls(&self.client, self.name.clone())
    }

    /// Has the connections of the server in this process encrypted.
    pub(crate) fn serve(&self, options: ListenOptions) -> ListenOptions {
        match &self.server {
            Some(config) => options.tls(config),
            None => options,
        }
    }
}

/// Whether a connection has resumed an earlier session; `None` if it is not encrypted.
pub(crate) fn is_resumed(conn: &waterwheel::Conn<'_>) -> Option<bool> {
    conn.tls().map(|tls| tls.is_resumed)
}

/// A server with a certificate that nobody has seen before, and that certificate.
fn own_server() -> Result<(ServerConfig, CertificateDer<'static>), String> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)
        .map_err(|error| format!("--tls: no certificate could be made: {error}"))?;
    let config = ServerConfig::from_pem(made.cert.pem(), made.signing_key.serialize_pem())
        .map_err(|error| format!("--tls: {error}"))?;
    Ok((config, made.cert.der().clone()))
}

fn read_roots(path: &str) -> Result<RootCertStore, String> {
    let wrong = |error: &dyn fmt::Display| format!("--tls-roots {path}: {error}");
    let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?;
    let roots: Result<Vec<_>, _> = found.collect();
    let roots = roots.map_err(|error| wrong(&error))?;
    if roots.is_empty() {
        return Err(wrong(&"there is no certificate in it; PEM text is wanted"));
    }
    store(roots)
}

fn store(
    roots: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(|error| format!("--tls: a root is not good: {error}"))?;
    }
    Ok(store)
}

/// Takes any certificate: what is measured is a server that its own operator chose. Its signature
/// over the handshake is verified all the same, so that the work is that of a client.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Tickets that are kept at the most: two come with each handshake and one is used up by the next,
/// and those that come early must not push out those that others are about to use.
const MOST_TICKETS: usize = 4_096;

/// The sessions that may be resumed. The store of rustls keeps eight tickets a server, too few for
/// many connections at a time.
#[derive(Default)]
struct Sessions(Mutex<HashMap<ServerName<'static>, Kept>>);

#[derive(Default)]
struct Kept {
    group: Option<NamedGroup>,
    v1_2: Option<Tls12ClientSessionValue>,
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl Sessions {
    fn with<R>(&self, name: &ServerName<'_>, run: impl FnOnce(&mut Kept) -> R) -> R {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        run(kept.entry(name.to_owned()).or_default())
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.with(&name, |kept| kept.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.with(name, |kept| kept.group)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.with(&name, |kept| kept.v1_2 = Some(value));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.with(name, |kept| kept.v1_2.clone())
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.with(name, |kept| kept.v1_2 = None);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.with(&name, |kept| {
            if kept.tickets.len() == MOST_TICKETS {
                kept.tickets.pop_front();
            }
            kept.tickets.push_back(value);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.with(name, |kept| kept.tickets.pop_back())
    }
}
