//! A request that is answered later.

use crate::http::field_list::FieldList;
use crate::http::head::{Framing, Head, Version};
use crate::http::method::Method;
use crate::http::params::Values;
use crate::http::request::Request;
use crate::http::target::Target;

/// A request that outlives its callback, with a part of its fields and without its body.
pub(super) struct OwnedRequest {
    method: Method,
    version: Version,
    path: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
}

impl OwnedRequest {
    /// Copies a request, with the fields of which this is true.
    pub(super) fn of(req: &Request<'_>, is_wanted: impl Fn(&str) -> bool) -> Self {
        let wanted = req.headers().filter(|(name, _)| is_wanted(name));
        Self {
            method: req.method(),
            version: req.version(),
            path: req.path().to_owned(),
            target: req.target().to_owned(),
            fields: wanted.map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
        }
    }

    /// Lends the request.
    pub(super) fn lend<R>(&self, call: impl FnOnce(&Request<'_>) -> R) -> Option<R> {
        // What was parsed once is parsed again.
        let target = Target::parse(&self.target, self.method).ok()?;
        let fields = self.fields.iter();
        let fields = fields.map(|(name, value)| httparse::Header { name, value });
        let fields: Vec<_> = fields.collect();
        let head = Head {
            method: self.method,
            version: self.version,
            target,
            host: None,
            fields: FieldList::Parsed(&fields),
            framing: Framing::None,
            keep_alive: true,
            expects_continue: false,
            is_encoded: false,
            upgrade: None,
        };
        Some(call(&Request::new(&head, &self.path, &Values::NONE)))
    }
}
