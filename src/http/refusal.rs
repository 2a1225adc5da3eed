//! Why a request gets no handler.

/// An answer that ends the connection: the request is malformed, too large, or asks for what the
/// server does not do. What came behind it is dropped, because where the next request begins
/// cannot be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// What is wrong with the request, for the body of the answer and the log.
    pub(super) why: &'static str,
}

impl Refusal {
    pub(super) const fn new(status: u16, why: &'static str) -> Self {
        Self { status, why }
    }

    /// 400.
    pub(super) const fn bad(why: &'static str) -> Self {
        Self::new(400, why)
    }
}
