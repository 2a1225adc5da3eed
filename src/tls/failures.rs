//! Handshakes of accepted connections that have failed, counted by reason.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::Error as E;

use crate::options::HandshakeFailure;
use crate::tls::error::TlsError;

/// How many handshakes have failed, by reason, as
/// [`ServerConfig::failures`](crate::tls::ServerConfig::failures) returns it.
///
/// # Examples
/// ```no_run
/// use waterwheel::tls::ServerConfig;
/// let config = ServerConfig::from_pem_files("cert.pem", "key.pem")?;
/// // Later, from any thread:
/// let failures = config.failures();
/// println!("{} of {} came with plain HTTP", failures.plain_http, failures.total());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeFailures {
    /// The handshake was not done in time.
    pub timed_out: u64,
    /// The client ended the connection, or broke it off, within its handshake.
    pub closed: u64,
    /// Other clients wanted the place, and this one's source had most of them.
    pub crowded_out: u64,
    /// The client sent a plain HTTP request.
    pub plain_http: u64,
    /// The client sent something else that is not TLS, or against its rules.
    pub not_tls: u64,
    /// No version, cipher, key exchange or application protocol is common to both sides.
    pub incompatible: u64,
    /// The client's certificate is not good, or none was shown where one is required.
    pub client_certificate: u64,
    /// The client refused with an alert: as a rule it does not trust the certificate here.
    pub refused_by_client: u64,
    /// Any other reason.
    pub other: u64,
}

impl HandshakeFailures {
    /// All of them together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.timed_out
            + self.closed
            + self.crowded_out
            + self.plain_http
            + self.not_tls
            + self.incompatible
            + self.client_certificate
            + self.refused_by_client
            + self.other
    }
}

/// The counts of a configuration, which reactors on several threads share.
#[derive(Debug, Default)]
pub(super) struct Counters {
    timed_out: AtomicU64,
    closed: AtomicU64,
    crowded_out: AtomicU64,
    plain_http: AtomicU64,
    not_tls: AtomicU64,
    incompatible: AtomicU64,
    client_certificate: AtomicU64,
    refused_by_client: AtomicU64,
    other: AtomicU64,
}

impl Counters {
    pub(super) fn count(&self, failure: &HandshakeFailure<'_>) {
        let counter = match failure {
            HandshakeFailure::Late => &self.timed_out,
            HandshakeFailure::Ended => &self.closed,
            HandshakeFailure::CrowdedOut => &self.crowded_out,
            HandshakeFailure::NoLayer(_) => &self.other,
            HandshakeFailure::Layer(error) => self.of_error(error),
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn of_error(&self, error: &io::Error) -> &AtomicU64 {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
        let Some(error) = inner else { return &self.other };
        match error.cause() {
            _ if error.is_plain_http => &self.plain_http,
            E::InvalidMessage(_)
            | E::InappropriateMessage { .. }
            | E::InappropriateHandshakeMessage { .. }
            | E::PeerMisbehaved(_)
            | E::DecryptError => &self.not_tls,
            E::PeerIncompatible(_) | E::NoApplicationProtocol => &self.incompatible,
            E::InvalidCertificate(_) | E::NoCertificatesPresented => &self.client_certificate,
            E::AlertReceived(_) => &self.refused_by_client,
            _ => &self.other,
        }
    }

    pub(super) fn told(&self) -> HandshakeFailures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HandshakeFailures {
            timed_out: read(&self.timed_out),
            closed: read(&self.closed),
            crowded_out: read(&self.crowded_out),
            plain_http: read(&self.plain_http),
            not_tls: read(&self.not_tls),
            incompatible: read(&self.incompatible),
            client_certificate: read(&self.client_certificate),
            refused_by_client: read(&self.refused_by_client),
            other: read(&self.other),
        }
    }
}
