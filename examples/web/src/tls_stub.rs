//! `--tls` without the feature.

use std::error::Error;

use waterwheel::ListenOptions;

/// What was asked for and is not there.
#[allow(dead_code, reason = "the options are the same with the feature and without it")]
pub(crate) enum Tls {
    Files(String, String),
    SelfSigned,
}

impl Tls {
    pub(crate) fn apply(&self, _: ListenOptions) -> Result<ListenOptions, Box<dyn Error>> {
        Err("built without TLS: cargo run --release -p web --features tls (wants a C compiler)"
            .into())
    }
}
