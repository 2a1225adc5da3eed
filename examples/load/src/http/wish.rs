//! What the command line asks of HTTP.

use crate::http::request::{self, Request, field, is_token};
use crate::http::url::Url;
use crate::http::{Expected, MOST_COMPARED_BYTES};

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    pub(crate) url: Option<Url>,
    method: Option<String>,
    body: Option<Vec<u8>>,
    pub(crate) fields: Vec<(String, String)>,
    status: Option<u16>,
    expect: Option<Vec<u8>>,
    pub(crate) any_body: bool,
}

/// What follows from the other options.
pub(crate) struct Circumstances<'a> {
    /// Where it goes if there is no URL; `None` is the server in this process.
    pub(crate) connect: Option<&'a str>,
    /// A body that `--size` asks for.
    pub(crate) filling: Option<Vec<u8>>,
    /// Each request says that it is the last.
    pub(crate) closes: bool,
    pub(crate) is_https: bool,
}

impl Wish {
    /// Takes the value of an option; `false` if there is no such option.
    pub(crate) fn take(&mut self, name: &str, value: String) -> Result<bool, String> {
        match name {
            "method" if is_token(&value) => self.method = Some(value),
            "method" => return Err(format!("--method {value:?} is not a method")),
            "body" => self.body = Some(content(name, &value)?),
            "header" => self.fields.push(field(&value)?),
            "status" => match value.parse() {
                Ok(status @ 200..=599) => self.status = Some(status),
                _ => return Err(format!("--status is {value:?}; it must be from 200 to 599")),
            },
            "expect" => self.expect = Some(content(name, &value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Makes the request.
    pub(crate) fn complete(self, with: Circumstances<'_>) -> Result<Request, String> {
        let Self { url, method, body, fields, status, expect, any_body } = self;
        if body.is_some() && with.filling.is_some() {
            return Err("--body and --size are two bodies; give one of them".to_owned());
        }
        if expect.is_some() && any_body {
            return Err("--expect and --any-body exclude each other".to_owned());
        }
        let body = body.or(with.filling);
        let method = method.unwrap_or_else(|| match body {
            Some(_) => "POST".to_owned(),
            None => "GET".to_owned(),
        });
        let host = with.connect.unwrap_or("localhost");
        let (host, target) = match &url {
            Some(url) => (url.host.as_str(), url.target.as_str()),
            None => (host, "/"),
        };
        let scheme = if with.is_https { "https" } else { "http" };
        let place = (method.as_str(), target, host);
        let expected = match (expect, any_body) {
            (Some(body), _) => {
                let length = body.len() as u64;
                Expected::Body(body.into_iter().take(MOST_COMPARED_BYTES).collect(), length)
            }
            (None, true) => Expected::Any,
            (None, false) => Expected::First,
        };
        Ok(Request {
            url: format!("{scheme}://{host}{target}"),
            bytes: request::write(place, &fields, body.as_deref(), with.closes),
            body_bytes: body.map_or(0, |body| body.len()),
            closes: with.closes,
            status: status.unwrap_or(200),
            expected,
            method,
        })
    }
}

/// A text, or `@` and the name of a file.
fn content(option: &str, value: &str) -> Result<Vec<u8>, String> {
    match value.strip_prefix('@') {
        None => Ok(value.as_bytes().to_vec()),
        Some(path) => std::fs::read(path).map_err(|error| format!("--{option} {value}: {error}")),
    }
}
