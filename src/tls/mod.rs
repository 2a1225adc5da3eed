//! TLS under every handler: any listener and any outgoing connection can be encrypted, and no line
//! of the handler changes.
//!
//! Enable the feature `tls-aws-lc`, which is faster, or `tls-ring`, which compiles faster: each is
//! the feature `tls` and an implementation of the cryptography. With `tls` alone the program must
//! install a `CryptoProvider` of rustls. An installed provider is preferred to that of a feature.
//! The protocol is implemented by [rustls](https://docs.rs/rustls): TLS 1.2 and 1.3.
//!
//! Instructions of the cryptography in a handshake of TLS 1.3 with X25519, a certificate of P-256
//! and AES-128-GCM (callgrind, which knows neither ADX nor the instructions for SHA):
//!
//! | | AWS-LC | ring |
//! |---|---|---|
//! | full | 1,026,000 | 1,134,000 |
//! | resumed | 923,000 | 974,000 |
//!
//! The rest of a handshake costs a tenth of that, and this crate a tenth of the rest.
//!
//! # What is different under TLS
//! - `on_accept` and `on_open` come after the handshake. It has a deadline
//!   ([`ServerOptions::handshake_timeout`], or the `timeout` of a connect), and a listener has at
//!   most [`ListenOptions::max_handshakes`](crate::ListenOptions::max_handshakes) of them at once.
//! - The marks and the cap count the bytes that were written and not sent, as without TLS. The
//!   small writes of a callback become one record.
//! - `shutdown_write` and `close` send `close_notify` before FIN. If a FIN of the peer comes
//!   without `close_notify`, an attacker may have cut the stream off: `on_eof` is called all the
//!   same, and [`Conn::is_truncated`](crate::Conn::is_truncated) returns `true`.
//! - If TLS fails, for example at a record that was altered on the way, the connection ends with
//!   [`CloseReason::Io`](crate::CloseReason::Io). The peer gets an alert and then FIN; the alert
//!   says that the stream was cut. If output of the handler is unsent, the peer gets a reset.
//! - A file is read and encrypted in pieces of at most 64 KiB; it does not go through the kernel
//!   alone.
//! - [`Stats`](crate::Stats) count encrypted bytes.
//!
//! # Examples
//! See [`ServerConfig`] and [`ClientConfig`]. A certificate to try them with, and a client:
//! ```text
//! openssl req -x509 -newkey rsa:2048 -nodes -days 7 -subj /CN=localhost \
//!     -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
//!     -keyout key.pem -out cert.pem
//! openssl s_client -connect 127.0.0.1:8443
//! ```
//! A client of this crate trusts it with `Roots::from_file("cert.pem")`, by the name `localhost`.
//! `examples/tls_chat.rs` is both.
//!
//! # Platform notes
//! The cryptography is built with a C compiler.
//!
//! In a build with debug assertions rustls asserts that it sends no alert after `close_notify`. A
//! peer that sends nonsense after `shutdown_write` then ends its connection with
//! `CloseReason::Panic`; in a release build it ends with `CloseReason::Io`.

mod certificate;
mod client;
mod error;
mod failures;
mod layer;
mod provider;
mod server;

use std::fmt;

use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ProtocolVersion};

use crate::handler::Conn;
use crate::tls::layer::TlsLayer;

pub use certificate::{Certificate, Roots};
pub use client::{ClientConfig, ClientOptions};
pub use error::TlsError;
pub use failures::HandshakeFailures;
pub use rustls;
pub use server::{ClientAuth, ServerConfig, ServerOptions};

/// The version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// What a handshake has agreed on, as [`Conn::tls`](crate::Conn::tls) returns it.
///
/// `{:?}` shows only the lengths of the certificates.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct TlsInfo<'a> {
    /// The version of TLS.
    pub version: TlsVersion,
    /// The cipher, by its standard name, such as `TLS13_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// The application protocol that both sides agreed on (ALPN), if any.
    pub alpn: Option<&'a [u8]>,
    /// The server name that the client asked for (SNI), if any.
    pub server_name: Option<&'a str>,
    /// The certificates that the peer has sent, its own first; empty if it sent none.
    pub peer_certificates: &'a [CertificateDer<'static>],
    /// Whether an earlier session was resumed.
    pub is_resumed: bool,
}

/// A chain is some kilobytes, which in a log would be a page of numbers.
impl fmt::Debug for TlsInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, cipher, alpn, server_name, peer_certificates, is_resumed } = self;
        let alpn = alpn.map(|alpn| alpn.escape_ascii().to_string());
        let lengths: Vec<_> = peer_certificates.iter().map(|it| Bytes(it.len())).collect();
        f.debug_struct("TlsInfo")
            .field("version", version)
            .field("cipher", cipher)
            .field("alpn", &alpn)
            .field("server_name", server_name)
            .field("peer_certificates", &lengths)
            .field("is_resumed", is_resumed)
            .finish()
    }
}

/// So many bytes, which are not shown.
struct Bytes(usize);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

impl Conn<'_> {
    /// What the TLS handshake has agreed on; `None` if the connection is not encrypted, is not open
    /// yet, or has ended. With the feature `tls`.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::Conn;
    /// fn is_h2(conn: &Conn<'_>) -> bool {
    ///     conn.tls().is_some_and(|tls| tls.alpn == Some(b"h2"))
    /// }
    /// ```
    #[must_use]
    pub fn tls(&self) -> Option<TlsInfo<'_>> {
        let layer = self.layer()?.as_any().downcast_ref::<TlsLayer>()?;
        let state = layer.state();
        let version = match state.protocol_version()? {
            ProtocolVersion::TLSv1_2 => TlsVersion::V1_2,
            _ => TlsVersion::V1_3,
        };
        Some(TlsInfo {
            version,
            cipher: state.negotiated_cipher_suite()?.suite().as_str()?,
            alpn: state.alpn_protocol(),
            server_name: layer.name.as_deref(),
            peer_certificates: state.peer_certificates().unwrap_or_default(),
            is_resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_told_by_its_lengths() {
        let chain = [CertificateDer::from(vec![48; 900]), CertificateDer::from(vec![48; 1_200])];
        let info = TlsInfo {
            version: TlsVersion::V1_3,
            cipher: "TLS13_AES_128_GCM_SHA256",
            alpn: Some(b"http/1.1"),
            server_name: Some("example.org"),
            peer_certificates: &chain,
            is_resumed: false,
        };
        let text = format!("{info:?}");
        assert!(text.contains("peer_certificates: [900 bytes, 1200 bytes]"), "{text}");
        assert!(text.contains("alpn: Some(\"http/1.1\")") && text.len() < 250, "{text}");
    }
}
