//! TLS on listeners: certificates by name, clients' certificates, tickets, and all of that anew
//! without a restart.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;

use crate::base::stats::Stats;
use crate::options::{HandshakeFailure, Layer, LayerFactory, LayerOption, ListenOptions};
use crate::tls::certificate::{Certificate, Roots};
use crate::tls::failures::{Counters, HandshakeFailures};
use crate::tls::layer::{TlsLayer, note_name};
use crate::tls::provider::{provider, ticketer};

/// Whether clients must send certificates, and which issuers are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuth {
    /// Clients are not asked for one. The default.
    #[default]
    None,
    /// A client may send one. It must then be valid for these roots.
    Optional(Roots),
    /// A client must send one that is valid for these roots.
    Required(Roots),
}

/// Options of a server: its certificates, and what it asks of clients.
///
/// # Examples
/// ```no_run
/// use waterwheel::tls::{Certificate, ServerConfig, ServerOptions};
/// let main = Certificate::from_files("cert.pem", "key.pem");
/// let other = Certificate::from_files("b.pem", "b.key").names(["b.example", "*.b.example"]);
/// let options = ServerOptions::new(main).certificate(other).alpn(["http/1.1"]);
/// let config = ServerConfig::new(options)?;
/// # let _ = config;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The first is shown where no other is for the name that a client asks for.
    certificates: Vec<Certificate>,
    /// Protocols, the best first; a client that offers some must offer one of these. Default none.
    pub alpn: Vec<Vec<u8>>,
    /// Whether clients show certificates. Default: no.
    pub client_auth: ClientAuth,
    /// Longest time from accept, or from the end of a balancer's header, to the end of the
    /// handshake. Default 10 s; 1 ms to 49 days.
    pub handshake_timeout: Duration,
}

impl ServerOptions {
    /// A single certificate, and the defaults.
    #[must_use]
    pub fn new(certificate: Certificate) -> Self {
        Self {
            certificates: vec![certificate],
            alpn: Vec::new(),
            client_auth: ClientAuth::None,
            handshake_timeout: Duration::from_secs(10),
        }
    }

    /// Adds a certificate for the names that it has.
    #[must_use]
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificates.push(certificate);
        self
    }

    /// Sets [`alpn`](Self#structfield.alpn).
    #[must_use]
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Sets [`client_auth`](Self#structfield.client_auth).
    #[must_use]
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = client_auth;
        self
    }

    /// Sets [`handshake_timeout`](Self#structfield.handshake_timeout).
    #[must_use]
    pub fn handshake_timeout(mut self, handshake_timeout: Duration) -> Self {
        self.handshake_timeout = handshake_timeout;
        self
    }
}

/// A configuration that listeners share: a handle, which can be cloned and sent to other threads.
///
/// TLS 1.2 and 1.3. Sessions are resumed by tickets, so the server keeps nothing for them; the keys
/// of the tickets rotate. Early data is refused, because it can be replayed. A change of the
/// configuration applies to later handshakes; live connections are not affected.
///
/// # Examples
/// An echo server; the handler knows nothing of TLS:
/// ```no_run
/// use waterwheel::tls::ServerConfig;
/// use waterwheel::{Conn, ListenOptions, Reactor};
///
/// let tls = ServerConfig::from_pem_files("cert.pem", "key.pem")?;
/// let mut reactor = Reactor::new()?;
/// let echo = reactor.register(|conn: &mut Conn<'_>, input: &[u8]| {
///     conn.write(input);
///     input.len()
/// });
/// reactor.listen("0.0.0.0:8443", echo, ListenOptions::default().tls(&tls))?;
/// // From any thread, when the files have changed:
/// tls.reload()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct ServerConfig(Arc<Shared>);

struct Shared {
    /// `None` if the program has made the configuration itself.
    options: Option<ServerOptions>,
    timeout: Duration,
    current: RwLock<Current>,
    failures: Counters,
}

/// What handshakes that begin now go by.
#[derive(Clone)]
struct Current {
    config: Arc<rustls::ServerConfig>,
    /// Whose certificates clients must show: a change makes old tickets worthless.
    client_roots: Option<RootCertStore>,
    ticketer: Option<Arc<dyn ProducesTickets>>,
}

impl ServerConfig {
    /// A certificate and its key from files of PEM text, and the defaults.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> io::Result<Self> {
        Self::new(ServerOptions::new(Certificate::from_files(chain, key)))
    }

    /// A certificate and its key as PEM text, and the defaults.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn from_pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> io::Result<Self> {
        Self::new(ServerOptions::new(Certificate::from_pem(chain, key)))
    }

    /// A configuration by options.
    ///
    /// # Errors
    /// - `InvalidData`: a text is no PEM, a key does not fit its certificate, or a root is none.
    /// - `InvalidInput`: the handshake timeout is out of range.
    /// - `Unsupported`: no cryptography was chosen by a feature, and none is installed.
    /// - The system's, if a file cannot be read.
    pub fn new(options: ServerOptions) -> io::Result<Self> {
        let timeout = options.handshake_timeout;
        crate::options::at_least_1ms("handshake_timeout", Some(timeout))?;
        crate::options::at_most("handshake_timeout", Some(timeout), crate::options::MAX_LIMIT)?;
        let current = RwLock::new(build(&options, None)?);
        Ok(Self(Arc::new(Shared {
            options: Some(options),
            timeout,
            current,
            failures: Counters::default(),
        })))
    }

    /// A configuration of rustls that the program has made. Handshakes may take 10 s; early data is
    /// refused even if the configuration allows it.
    pub fn from_rustls(config: rustls::ServerConfig) -> Self {
        let current = RwLock::new(Current::from_rustls(config));
        Self(Arc::new(Shared {
            options: None,
            timeout: Duration::from_secs(10),
            current,
            failures: Counters::default(),
        }))
    }

    /// Reads the files again, for handshakes that begin from now on. If anything is wrong with the
    /// files, the old configuration stays.
    ///
    /// Sessions from before can still be resumed, unless the rules for certificates of clients
    /// ([`ClientAuth`]) have changed.
    ///
    /// # Errors
    /// - `Unsupported`: the program has made the configuration; see [`replace`](Self::replace).
    /// - As for [`new`](Self::new).
    pub fn reload(&self) -> io::Result<()> {
        let Some(options) = &self.0.options else {
            let text = "a configuration made by the program cannot be reloaded, only replaced";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        };
        let before = self.0.current();
        let current = build(options, Some(&before))?;
        self.0.set(current);
        Ok(())
    }

    /// How many handshakes have failed since the configuration was made, by reason: those of all
    /// its listeners, in all reactors. A limited number of them is logged, one a second for each
    /// listener.
    #[must_use]
    pub fn failures(&self) -> HandshakeFailures {
        self.0.failures.told()
    }

    /// Puts a configuration of rustls in the place of what there was, for handshakes that begin
    /// from now on.
    pub fn replace(&self, config: rustls::ServerConfig) {
        self.0.set(Current::from_rustls(config));
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl Shared {
    /// A thread that panicked has left nothing half done: what is here is set in one step.
    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a handshake goes by. Not a part of a clone of it all, in which the roots are: they may
    /// be hundreds, and this is asked for by each connection.
    fn config(&self) -> Arc<rustls::ServerConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current.config)
    }

    fn set(&self, current: Current) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
    }
}

impl Current {
    fn from_rustls(mut config: rustls::ServerConfig) -> Self {
        config.cert_resolver = Arc::new(Noting(Arc::clone(&config.cert_resolver)));
        config.max_early_data_size = 0;
        Self { config: Arc::new(config), client_roots: None, ticketer: None }
    }
}

/// Makes what handshakes go by; `before` is what they have gone by so far.
fn build(options: &ServerOptions, before: Option<&Current>) -> io::Result<Current> {
    let provider = provider()?;
    let mut choices = Vec::new();
    for certificate in &options.certificates {
        let key = Arc::new(certificate.load(&provider)?);
        choices.push((certificate.clone(), key));
    }
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let client_roots = match &options.client_auth {
        ClientAuth::None => None,
        ClientAuth::Optional(roots) | ClientAuth::Required(roots) => Some(roots.load()?),
    };
    let builder = match &client_roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = verifier(&options.client_auth, roots, provider)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(Chooser(choices)));
    config.alpn_protocols.clone_from(&options.alpn);
    let same_clients = |before: &&Current| {
        let roots = |store: &Option<RootCertStore>| store.as_ref().map(|it| it.roots.clone());
        roots(&before.client_roots) == roots(&client_roots)
    };
    // What the program has put in its place meanwhile has none.
    let kept = before.filter(same_clients).and_then(|before| before.ticketer.clone());
    let ticketer = kept.or_else(ticketer);
    if let Some(ticketer) = &ticketer {
        config.ticketer = Arc::clone(ticketer);
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(Current { config: Arc::new(config), client_roots, ticketer })
}

fn verifier(
    client_auth: &ClientAuth,
    roots: &RootCertStore,
    provider: Arc<CryptoProvider>,
) -> io::Result<Arc<dyn rustls::server::danger::ClientCertVerifier>> {
    let roots = Arc::new(roots.clone());
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    if matches!(client_auth, ClientAuth::Optional(_)) {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| {
        let text = format!("the roots for clients are not good: {error}");
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

/// Chooses the certificate by the name that a client asks for.
#[derive(Debug)]
struct Chooser(Vec<(Certificate, Arc<CertifiedKey>)>);

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        note_name(name);
        let wanted = name.map(str::to_ascii_lowercase);
        let for_name =
            self.0.iter().find(|(own, _)| wanted.as_ref().is_some_and(|name| own.is_for(name)));
        let (_, key) = for_name.or(self.0.first())?;
        Some(Arc::clone(key))
    }
}

/// Notes the name, and leaves the choice to the program's own resolver.
#[derive(Debug)]
struct Noting(Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        note_name(hello.server_name());
        self.0.resolve(hello)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

impl LayerFactory for ServerConfig {
    fn layer(&self, _: SocketAddr) -> Result<Box<dyn Layer>, Cow<'static, str>> {
        let config = self.0.config();
        let layer = TlsLayer::server(config).map_err(|error| error.to_string())?;
        Ok(Box::new(layer))
    }

    fn timeout(&self) -> Duration {
        self.0.timeout
    }

    fn demand(&self) -> &'static str {
        "the listener wants TLS"
    }

    fn failures<'a>(&self, stats: &'a mut Stats) -> &'a mut u64 {
        &mut stats.handshakes_failed
    }

    fn note_failure(&self, failure: &HandshakeFailure<'_>) {
        self.0.failures.count(failure);
    }

    fn is_costly(&self) -> bool {
        true
    }
}

impl ListenOptions {
    /// Makes each connection begin with a TLS handshake, after a balancer's header if there is one.
    /// `on_accept` and `on_open` come after it; [`Conn::tls`](crate::Conn::tls) returns what the
    /// handshake agreed on. With the feature `tls`.
    #[must_use]
    pub fn tls(mut self, config: &ServerConfig) -> Self {
        self.layer = Some(LayerOption(Arc::new(config.clone())));
        self
    }
}

#[cfg(unix)]
impl crate::options::UnixListenOptions {
    /// Has each connection begin with a TLS handshake. With the feature `tls`.
    #[must_use]
    pub fn tls(mut self, config: &ServerConfig) -> Self {
        self.layer = Some(LayerOption(Arc::new(config.clone())));
        self
    }
}
