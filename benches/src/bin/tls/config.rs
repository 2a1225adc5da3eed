//! A certificate made at the start, and a client that asks for none.

use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};

use crate::Result;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// What all servers go by.
pub(crate) fn server() -> Result<ServerConfig> {
    static MADE: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (cert, key) =
        MADE.get_or_init(|| (made.cert.der().to_vec(), made.signing_key.serialize_der()));
    let chain = vec![CertificateDer::from(cert.clone())];
    let key = PrivateKeyDer::try_from(key.clone())?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(config)
}

pub(crate) fn client() -> Result<ClientConfig> {
    client_with(provider())
}

/// A client that agrees on keys with P-256, the curve of the certificate, and resumes no session.
pub(crate) fn full_p256_client() -> Result<ClientConfig> {
    let kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::SECP256R1];
    let provider = CryptoProvider { kx_groups, ..rustls::crypto::aws_lc_rs::default_provider() };
    let mut config = client_with(Arc::new(provider))?;
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn client_with(provider: Arc<CryptoProvider>) -> Result<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous(provider)))
        .with_no_client_auth();
    Ok(config)
}

/// Takes any certificate: who is at the other end is no question here.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
