//! `--tls` and `--tls-self-signed`.

use std::error::Error;

use waterwheel::ListenOptions;
use waterwheel::tls::ServerConfig;

/// A certificate and its key: from two files, or made for `localhost` at the start.
pub(crate) enum Tls {
    Files(String, String),
    SelfSigned,
}

impl Tls {
    /// Has the connections of a listener encrypted.
    pub(crate) fn apply(&self, options: ListenOptions) -> Result<ListenOptions, Box<dyn Error>> {
        let config = match self {
            Self::Files(chain, key) => ServerConfig::from_pem_files(chain, key)?,
            Self::SelfSigned => {
                let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
                let made = rcgen::generate_simple_self_signed(names)?;
                ServerConfig::from_pem(made.cert.pem(), made.signing_key.serialize_pem())?
            }
        };
        Ok(options.tls(&config))
    }
}
