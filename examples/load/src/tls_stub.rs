//! `--tls` without the feature.

use waterwheel::{Conn, ConnectOptions, ListenOptions};

/// What the command line asks for.
#[derive(Debug, Default)]
#[allow(dead_code, reason = "the options are the same with the feature and without it")]
pub(crate) struct Wish {
    pub(crate) name: String,
    pub(crate) roots: Option<String>,
    pub(crate) resumes: bool,
    pub(crate) is_own: bool,
}

/// There is none.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) trust: &'static str,
    pub(crate) resumes: bool,
}

impl Tls {
    pub(crate) fn new(_: Wish) -> Result<Self, String> {
        Err("this load was built without TLS: cargo run --release -p load --features tls -- … \
             (wants a C compiler)"
            .to_owned())
    }

    pub(crate) fn encrypt(&self, options: ConnectOptions) -> ConnectOptions {
        options
    }

    pub(crate) fn serve(&self, options: ListenOptions) -> ListenOptions {
        options
    }
}

pub(crate) fn is_resumed(_: &Conn<'_>) -> Option<bool> {
    None
}
