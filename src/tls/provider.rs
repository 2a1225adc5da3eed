//! The cryptography: that of a feature, or the program's own.

use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::ProducesTickets;

/// The provider that the program has installed, or that of a feature.
pub(super) fn provider() -> io::Result<Arc<CryptoProvider>> {
    if let Some(installed) = CryptoProvider::get_default() {
        return Ok(Arc::clone(installed));
    }
    #[cfg(feature = "tls-aws-lc")]
    return Ok(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    #[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
    return Ok(Arc::new(rustls::crypto::ring::default_provider()));
    #[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc")))]
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "no cryptography for TLS: turn the feature tls-aws-lc or tls-ring on, or install a \
         CryptoProvider of rustls",
    ))
}

/// Makes tickets whose keys rotate every six hours, so that a server keeps nothing of the sessions
/// that may be resumed. `None` if only the program's own provider is there.
pub(super) fn ticketer() -> Option<Arc<dyn ProducesTickets>> {
    #[cfg(feature = "tls-aws-lc")]
    return rustls::crypto::aws_lc_rs::Ticketer::new().ok();
    #[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
    return rustls::crypto::ring::Ticketer::new().ok();
    #[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc")))]
    None
}
