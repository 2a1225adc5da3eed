//! TLS of the servers: a certificate from files, read anew at SIGHUP, or one that is made here.

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

use waterwheel::tls::{
    Certificate, ClientAuth, ClientConfig, ClientOptions, Roots, ServerConfig, ServerOptions,
};
use waterwheel::{ConnectOptions, ListenOptions};

#[cfg(unix)]
use crate::say;
use crate::{CertificateSource, ClientRoots};

const DAY: Duration = Duration::from_secs(86_400);

/// How long a certificate that is made here is valid: browsers refuse those of more than 398 days.
const LIFE: Duration = Duration::from_secs(300 * 86_400);

/// What the listeners of a server share.
#[derive(Clone, Debug)]
pub struct Tls(ServerConfig);

impl Tls {
    /// Reads or makes the certificate. Files are read anew when the process gets SIGHUP.
    ///
    /// # Errors
    /// - the files cannot be read, or do not belong together
    pub fn new(program: &str, source: &CertificateSource) -> Result<Self, Box<dyn Error>> {
        Self::with_clients(program, source, None)
    }

    /// The same for a server whose clients show certificates too, if `clients` says so. Their roots
    /// are read anew with the rest.
    ///
    /// # Errors
    /// - as for [`new`](Self::new), of the roots too
    pub fn with_clients(
        _: &str,
        source: &CertificateSource,
        clients: Option<&ClientRoots>,
    ) -> Result<Self, Box<dyn Error>> {
        let certificate = match source {
            CertificateSource::Files(chain, key) => Certificate::from_files(chain, key),
            CertificateSource::SelfSigned => self_signed()?,
        };
        let client_auth = match clients {
            None => ClientAuth::None,
            Some(clients) if clients.is_optional => {
                ClientAuth::Optional(Roots::from_file(&clients.file))
            }
            Some(clients) => ClientAuth::Required(Roots::from_file(&clients.file)),
        };
        let config = ServerConfig::new(ServerOptions::new(certificate).client_auth(client_auth))?;
        #[cfg(unix)]
        if let CertificateSource::Files(chain, _) = source {
            reload_on_hangup(&config, chain)?;
        }
        Ok(Self(config))
    }

    /// Has the connections of a listener encrypted.
    #[must_use]
    pub fn encrypt(&self, options: ListenOptions) -> ListenOptions {
        options.tls(&self.0)
    }

    /// Has the connections of a Unix socket encrypted.
    #[cfg(unix)]
    #[must_use]
    pub fn encrypt_unix(
        &self,
        options: waterwheel::unix::UnixListenOptions,
    ) -> waterwheel::unix::UnixListenOptions {
        options.tls(&self.0)
    }
}

fn self_signed() -> Result<Certificate, Box<dyn Error>> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let mut wanted = rcgen::CertificateParams::new(names)?;
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let now = rcgen::date_time_ymd(1970, 1, 1) + since_1970;
    (wanted.not_before, wanted.not_after) = (now - DAY, now + LIFE);
    let key = rcgen::KeyPair::generate()?;
    Ok(Certificate::from_pem(wanted.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Has outgoing connections encrypted, to a server of this name; `roots` is a file of PEM text, and
/// the roots of the system if it is empty.
///
/// # Errors
/// - the roots cannot be read, or there are none
pub fn encrypt_connects(
    _: &str,
    options: ConnectOptions,
    name: &str,
    roots: &str,
) -> io::Result<ConnectOptions> {
    let roots = match roots {
        "" => Roots::platform(),
        path => Roots::from_file(path),
    };
    let config = ClientConfig::new(ClientOptions::new(roots))?;
    Ok(options.tls(&config, name))
}

/// Reads the files anew when the process gets SIGHUP, as operators and their tools have it. A
/// thread does it, so that no connection waits for a disk.
#[cfg(unix)]
fn reload_on_hangup(config: &ServerConfig, chain: &str) -> io::Result<()> {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    let (mut reader, writer) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGHUP, writer)?;
    let (config, chain) = (config.clone(), chain.to_owned());
    std::thread::Builder::new().name("reload".to_owned()).spawn(move || {
        // Several signals that come together are one.
        while reader.read(&mut [0; 64]).is_ok_and(|count| count > 0) {
            match config.reload() {
                Ok(()) => say(format_args!("certificate: read anew from {chain}")),
                Err(error) => say(format_args!("certificate: {error}; the old one stays")),
            }
        }
    })?;
    Ok(())
}
