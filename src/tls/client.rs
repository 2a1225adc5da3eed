//! TLS on outgoing connections.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;

use crate::base::stats::Stats;
use crate::options::{ConnectOptions, Layer, LayerFactory, LayerOption};
use crate::tls::certificate::{Certificate, Roots};
use crate::tls::layer::TlsLayer;
use crate::tls::provider::provider;

/// Options of a client: the servers that it trusts, its own certificate, and its protocols.
///
/// # Examples
/// ```no_run
/// use waterwheel::tls::{Certificate, ClientConfig, ClientOptions, Roots};
/// let own = Certificate::from_files("client.pem", "client.key");
/// let options = ClientOptions::new(Roots::from_file("ca.pem")).certificate(own);
/// let config = ClientConfig::new(options)?;
/// # let _ = config;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientOptions {
    /// The trusted issuers of server certificates.
    pub roots: Roots,
    /// What is shown to a server that asks for a certificate. Default none.
    pub certificate: Option<Certificate>,
    /// Protocols that are offered, the best first. Default none.
    pub alpn: Vec<Vec<u8>>,
}

impl ClientOptions {
    /// Trusts servers with these roots.
    #[must_use]
    pub fn new(roots: Roots) -> Self {
        Self { roots, certificate: None, alpn: Vec::new() }
    }

    /// Sets what is shown to a server that asks for a certificate.
    #[must_use]
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Sets [`alpn`](Self#structfield.alpn).
    #[must_use]
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }
}

/// A configuration that outgoing connections share, together with the sessions that they can
/// resume.
///
/// # Examples
/// A client of a server with a certificate that the system trusts:
/// ```no_run
/// use waterwheel::tls::ClientConfig;
/// use waterwheel::{Conn, ConnectOptions, Reactor};
///
/// let tls = ClientConfig::with_platform_roots()?;
/// let mut reactor = Reactor::new()?;
/// let reader = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
/// let options = ConnectOptions::default().tls(&tls, "example.org");
/// reactor.connect("example.org:443", reader, (), &options);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct ClientConfig(Arc<rustls::ClientConfig>);

impl ClientConfig {
    /// A client that trusts the roots of the operating system.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_platform_roots() -> io::Result<Self> {
        Self::new(ClientOptions::new(Roots::platform()))
    }

    /// A configuration by options.
    ///
    /// # Errors
    /// - `InvalidData`: a text is no PEM, a key does not fit its certificate, or a root is none.
    /// - `NotFound`: the system has no trusted roots.
    /// - `Unsupported`: no cryptography was chosen by a feature, and none is installed.
    /// - The system's, if a file cannot be read.
    pub fn new(options: ClientOptions) -> io::Result<Self> {
        let provider = provider()?;
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(options.roots.load()?);
        let mut config = match &options.certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let key = SingleCertAndKey::from(certificate.load(&provider)?);
                let resolver: Arc<dyn ResolvesClientCert> = Arc::new(key);
                builder.with_client_cert_resolver(resolver)
            }
        };
        config.alpn_protocols = options.alpn;
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Self::from_rustls(config))
    }

    /// A configuration of rustls that the program has made. Early data is not sent, even if the
    /// configuration allows it.
    pub fn from_rustls(mut config: rustls::ClientConfig) -> Self {
        config.enable_early_data = false;
        Self(Arc::new(config))
    }
}

/// Servers whose last session is kept, to be resumed: as rustls has it by default.
const SESSIONS: usize = 256;

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig").finish_non_exhaustive()
    }
}

/// Connections to one name.
#[derive(Debug)]
struct Factory {
    config: ClientConfig,
    name: String,
}

impl LayerFactory for Factory {
    fn layer(&self, _: SocketAddr) -> Result<Box<dyn Layer>, Cow<'static, str>> {
        let name = ServerName::try_from(self.name.clone())
            .map_err(|_| format!("{:?} is no name or address of a TLS server", self.name))?;
        let layer = TlsLayer::client(Arc::clone(&self.config.0), name)
            .map_err(|error| format!("TLS: {error}"))?;
        Ok(Box::new(layer))
    }

    fn timeout(&self) -> Duration {
        Duration::MAX
    }

    fn demand(&self) -> &'static str {
        ""
    }

    fn failures<'a>(&self, stats: &'a mut Stats) -> &'a mut u64 {
        &mut stats.handshakes_failed
    }

    fn is_costly(&self) -> bool {
        true
    }
}

impl ConnectOptions {
    /// Makes the connection begin with a TLS handshake. `name` is a host name or an IP address, and
    /// the certificate of the server must be valid for it. The `timeout` of the connect covers the
    /// handshake. A handshake that fails counts as a failed connect: `reconnect` tries again, and
    /// `on_connect_failed` gets the cause. With the feature `tls`.
    #[must_use]
    pub fn tls(mut self, config: &ClientConfig, name: impl Into<String>) -> Self {
        let factory = Factory { config: config.clone(), name: name.into() };
        self.layer = Some(LayerOption(Arc::new(factory)));
        self
    }
}
