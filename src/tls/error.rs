//! What has gone wrong in TLS, for people.

use std::error;
use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, PeerIncompatible};

/// Why a handshake, or a record after it, has failed: what went wrong, and what to do.
///
/// It is the inner error of an [`io::Error`] of kind `InvalidData`, as told by `on_connect_failed`,
/// by `on_close` and in the log. Its source is the error of rustls.
#[derive(Debug)]
pub struct TlsError {
    text: String,
    source: rustls::Error,
    /// Where a handshake should have begun there was a request of HTTP.
    pub(super) is_plain_http: bool,
}

impl TlsError {
    /// The error of rustls behind it, to tell one cause from another.
    #[must_use]
    pub fn cause(&self) -> &rustls::Error {
        &self.source
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS: {}", self.text)
    }
}

impl error::Error for TlsError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.source)
    }
}

/// An error of a connection.
pub(super) fn explain(source: rustls::Error) -> io::Error {
    let text = text_of(&source);
    io::Error::new(io::ErrorKind::InvalidData, TlsError { text, source, is_plain_http: false })
}

/// Methods with which a request of HTTP/1 begins, and the preface of HTTP/2.
const HTTP_METHODS: [&[u8]; 10] = [
    b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH", b"DELET", b"OPTIO", b"CONNE", b"TRACE", b"PRI ",
];

/// An error where a handshake should have begun with `input`: plain HTTP is told as such.
pub(super) fn explain_beginning(error: io::Error, input: &[u8]) -> io::Error {
    // Its first byte fails it already, wherever the request was cut on its way.
    let begins = |method: &&[u8]| input.starts_with(method) || method.starts_with(input);
    if input.is_empty() || !HTTP_METHODS.iter().any(begins) {
        return error;
    }
    match error.downcast::<TlsError>() {
        Ok(TlsError { source, .. }) => {
            let text = "the peer does not speak TLS here: a plain HTTP request came; https is \
                        wanted on this port";
            let error = TlsError { text: text.to_owned(), source, is_plain_http: true };
            io::Error::new(io::ErrorKind::InvalidData, error)
        }
        Err(error) => error,
    }
}

fn text_of(error: &rustls::Error) -> String {
    use rustls::Error as E;
    match error {
        E::InvalidMessage(_)
        | E::InappropriateMessage { .. }
        | E::InappropriateHandshakeMessage { .. } => format!(
            "the peer does not speak TLS here ({error}); a plain client or server, or another \
             protocol, is at the other end"
        ),
        E::InvalidCertificate(error) => of_certificate(error),
        E::NoCertificatesPresented => {
            "the peer has shown no certificate, and one is required".to_owned()
        }
        E::NoApplicationProtocol => "no protocol is common to both sides (ALPN)".to_owned(),
        E::PeerIncompatible(reason) => of_incompatible(reason),
        E::AlertReceived(alert) => of_alert(*alert),
        E::DecryptError => "a record was changed on its way".to_owned(),
        error => error.to_string(),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    use CertificateError as E;
    let text = match error {
        E::UnknownIssuer => {
            "the certificate of the peer is of an issuer that is not trusted; give the issuer as \
             a root"
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            return format!("the certificate of the peer is of another name: {error}");
        }
        E::Expired | E::ExpiredContext { .. } => "the certificate of the peer has expired",
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "the certificate of the peer is not valid yet; see to the clocks"
        }
        E::Revoked => "the certificate of the peer was revoked",
        E::BadSignature => {
            "the certificate of the peer was not signed by the root of that name; give the root \
             that belongs to it"
        }
        E::Other(_) if error.to_string().contains("CaUsedAsEndEntity") => {
            "the certificate of the peer is that of an authority (CA:TRUE), and not of a server; \
             make one with basicConstraints=CA:FALSE"
        }
        _ => return format!("the certificate of the peer is not good: {error}"),
    };
    text.to_owned()
}

fn of_incompatible(reason: &PeerIncompatible) -> String {
    use PeerIncompatible as P;
    let text = match reason {
        P::NoCipherSuitesInCommon => "no cipher is common to both sides",
        P::NoKxGroupsInCommon => "no key exchange is common to both sides",
        P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled
        | P::SupportedVersionsExtensionRequired => {
            "no version of TLS is common to both sides; 1.2 and 1.3 are known here"
        }
        reason => return format!("the peer cannot do what is needed: {reason:?}"),
    };
    text.to_owned()
}

fn of_alert(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let text = match alert {
        A::UnknownCA => "the peer does not trust the issuer of the certificate here",
        A::BadCertificate => "the peer does not like the certificate here",
        A::CertificateExpired => "the certificate here has expired, says the peer",
        A::CertificateRequired => "the peer wants a certificate, and none was given",
        A::HandshakeFailure => "the peer finds no parameters common to both sides",
        A::ProtocolVersion => "the peer knows no version of TLS that is known here",
        A::NoApplicationProtocol => "the peer knows none of the protocols offered (ALPN)",
        A::UnrecognisedName => "the peer serves no such name",
        alert => return format!("the peer ended it with the alert {alert:?}"),
    };
    text.to_owned()
}
