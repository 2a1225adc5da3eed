//! TLS of the servers without the feature: there is none.

use std::error::Error;
use std::io;

use waterwheel::{ConnectOptions, ListenOptions};

use crate::{CertificateSource, ClientRoots};

/// What the listeners of a server share.
#[derive(Clone, Debug)]
pub struct Tls(());

impl Tls {
    /// # Errors
    /// - always: it says how to build it
    pub fn new(program: &str, _: &CertificateSource) -> Result<Self, Box<dyn Error>> {
        Err(without(program).into())
    }

    /// # Errors
    /// - always: it says how to build it
    pub fn with_clients(
        program: &str,
        _: &CertificateSource,
        _: Option<&ClientRoots>,
    ) -> Result<Self, Box<dyn Error>> {
        Err(without(program).into())
    }

    /// Leaves them as they are.
    #[must_use]
    pub fn encrypt(&self, options: ListenOptions) -> ListenOptions {
        options
    }

    /// Leaves them as they are.
    #[cfg(unix)]
    #[must_use]
    pub fn encrypt_unix(
        &self,
        options: waterwheel::unix::UnixListenOptions,
    ) -> waterwheel::unix::UnixListenOptions {
        options
    }
}

/// # Errors
/// - always: it says how to build it
pub fn encrypt_connects(
    program: &str,
    _: ConnectOptions,
    _: &str,
    _: &str,
) -> io::Result<ConnectOptions> {
    Err(io::Error::new(io::ErrorKind::Unsupported, without(program)))
}

fn without(program: &str) -> String {
    format!(
        "built without TLS: cargo run --release -p {program} --features tls (wants a C compiler)"
    )
}
