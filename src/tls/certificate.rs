//! Certificates and roots, from files or from bytes.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Where PEM text comes from.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Pem {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Pem {
    fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::File(path) => fs::read(path).map_err(|error| {
                let text = format!("cannot read {}: {error}", path.display());
                io::Error::new(error.kind(), text)
            }),
            Self::Bytes(bytes) => Ok(bytes.clone()),
        }
    }

    /// What to call it.
    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Bytes(_) => "the text given".to_owned(),
        }
    }
}

/// The content may be a private key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// A certificate with its chain and its private key, and for which names it is shown.
///
/// # Examples
/// ```no_run
/// use waterwheel::tls::Certificate;
/// let certificate = Certificate::from_files("cert.pem", "key.pem").names(["example.org"]);
/// # let _ = certificate;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    chain: Pem,
    key: Pem,
    pub(super) names: Vec<String>,
}

impl Certificate {
    /// Two files of PEM text: the certificate followed by its chain up to the root, and the private
    /// key. They are read when a configuration is made, and at each reload.
    pub fn from_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        let file = |path: &Path| Pem::File(path.to_owned());
        Self { chain: file(chain.as_ref()), key: file(key.as_ref()), names: Vec::new() }
    }

    /// PEM text in memory, of the same content as the files.
    pub fn from_pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        let (chain, key) = (Pem::Bytes(chain.into()), Pem::Bytes(key.into()));
        Self { chain, key, names: Vec::new() }
    }

    /// Sets the host names for which a server sends this certificate. `*.example.org` stands for
    /// all names with exactly one more label. For all other names a server sends its first
    /// certificate.
    #[must_use]
    pub fn names<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.names = names.into_iter().map(|name| name.into().to_ascii_lowercase()).collect();
        self
    }

    /// Whether a server shows it for this name.
    pub(super) fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            Some(rest) => name.split_once('.').is_some_and(|(_, parent)| parent == rest),
            None => own == name,
        })
    }

    /// Reads it. Certificate and key must belong together.
    pub(super) fn load(&self, provider: &CryptoProvider) -> io::Result<CertifiedKey> {
        let chain = certificates(&self.chain)?;
        let pem = self.key.read()?;
        let key = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|error| invalid(&self.key, &without_key(&pem, &error)))?;
        CertifiedKey::from_der(chain, key, provider).map_err(|error| {
            let text = format!("it does not fit its key, {}: {error}", self.key.name());
            invalid(&self.chain, &text)
        })
    }
}

/// Why no private key was found in a text, and what to do.
fn without_key(text: &[u8], error: &impl fmt::Display) -> String {
    let has = |label: &[u8]| text.windows(label.len()).any(|window| window == label);
    if has(b"-----BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return "its private key is encrypted; `openssl pkey -in FILE -out OTHER_FILE` decrypts it"
            .to_owned();
    }
    if has(b"-----BEGIN CERTIFICATE") && !has(b"PRIVATE KEY-----") {
        return "a certificate is in it, and no private key; give the file of the key".to_owned();
    }
    format!("no private key in it: {error}")
}

/// The certificates in PEM text; at least one.
fn certificates(pem: &Pem) -> io::Result<Vec<CertificateDer<'static>>> {
    let bytes = pem.read()?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) if PrivateKeyDer::from_pem_slice(&bytes).is_ok() => {
            let text = "a private key is in it, and no certificate; are the two exchanged?";
            Err(invalid(pem, text))
        }
        Ok(_) => Err(invalid(pem, "no certificate in it; PEM text is wanted")),
        Err(error) => Err(invalid(pem, &format!("no PEM text: {error}"))),
    }
}

fn invalid(pem: &Pem, text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {text}", pem.name()))
}

/// Whose certificates are trusted.
///
/// # Examples
/// ```no_run
/// use waterwheel::tls::Roots;
/// let own = Roots::from_file("ca.pem");
/// # let _ = own;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots(Source);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Platform,
    Pem(Pem),
}

impl Roots {
    /// The roots of the operating system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    #[must_use]
    pub fn platform() -> Self {
        Self(Source::Platform)
    }

    /// A file of PEM text with one certificate or more.
    pub fn from_file(path: impl AsRef<Path>) -> Self {
        Self(Source::Pem(Pem::File(path.as_ref().to_owned())))
    }

    /// PEM text in memory, with one certificate or more.
    pub fn from_pem(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Source::Pem(Pem::Bytes(bytes.into())))
    }

    pub(super) fn load(&self) -> io::Result<RootCertStore> {
        let mut store = RootCertStore::empty();
        match &self.0 {
            Source::Platform => {
                let found = rustls_native_certs::load_native_certs();
                store.add_parsable_certificates(found.certs);
                if store.is_empty() {
                    let cause = found.errors.first().map(ToString::to_string);
                    let cause = cause.unwrap_or_else(|| "there are none".to_owned());
                    let text = format!("no trusted roots of the system: {cause}; give roots");
                    return Err(io::Error::new(io::ErrorKind::NotFound, text));
                }
            }
            Source::Pem(pem) => {
                for root in certificates(pem)? {
                    store
                        .add(root)
                        .map_err(|error| invalid(pem, &format!("it is no root: {error}")))?;
                }
            }
        }
        Ok(store)
    }
}
