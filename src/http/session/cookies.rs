//! Cookies: those that a client sends, and those that are set.

use std::fmt;
use std::time::Duration;

use cookie::Cookie;
pub use cookie::SameSite;

use crate::http::fields::{self, InvalidField, is_token, trim};
use crate::http::request::Request;
use crate::http::response::Response;

/// Bytes of the cookies of a request that are looked at.
const MAX_SENT_BYTES: usize = 8 << 10;

/// Pairs of a request that are looked at: no browser keeps more for a site.
const MAX_SENT_PAIRS: usize = 180;

/// Name and value together, in bytes: browsers drop a larger cookie (RFC 6265bis, 5.6).
const MAX_COOKIE_BYTES: usize = 4_096;

/// The longest life of a cookie (RFC 6265bis, 5.6.2).
const MAX_AGE: Duration = Duration::from_secs(400 * 86_400);

impl<'a> Request<'a> {
    /// The value of a cookie, as it was sent. Of several of the name it is the first, which is the
    /// one with the longest path.
    ///
    /// A client may send anything: what must not be forged is signed ([`CookieKeys`]).
    ///
    /// [`CookieKeys`]: crate::http::CookieKeys
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        self.cookies().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// All cookies in their order, of all `Cookie` fields. A pair with a malformed name, a control
    /// character or without UTF-8 is left out; so is what is behind 180 pairs or 8,192 bytes.
    pub fn cookies(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let fields = self.headers().filter(|(name, _)| name.eq_ignore_ascii_case("cookie"));
        let mut left = MAX_SENT_BYTES;
        let pairs = fields.flat_map(|(_, value)| value.split(|&byte| byte == b';'));
        let pairs = pairs.take(MAX_SENT_PAIRS).map_while(move |pair| {
            left = left.checked_sub(pair.len() + 1)?;
            Some(pair)
        });
        pairs.filter_map(parse)
    }
}

/// A pair of a `Cookie` field, if it is well-formed.
fn parse(pair: &[u8]) -> Option<(&str, &str)> {
    let at = pair.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (trim(&pair[..at]), trim(&pair[at + 1..]));
    if !is_token(name) || value.iter().any(u8::is_ascii_control) {
        return None;
    }
    Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
}

/// A cookie to be set; see [`Response::set_cookie`].
///
/// The defaults are the safe choices. The cookie is for the whole site and no other host. Scripts
/// cannot read it. It is sent only over TLS (or to this host), and not with posts of other sites.
/// It lasts until the browser is closed.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use waterwheel::http::{Router, SetCookie};
/// let routes: Router<()> = Router::new().get("/dark", |_, _, res| {
///     let year = Duration::from_secs(365 * 86_400);
///     res.set_cookie(&SetCookie::new("theme", "dark").max_age(Some(year)));
///     res.text("it is dark now\n");
/// });
/// # let _ = routes;
/// ```
#[derive(Clone)]
pub struct SetCookie<'a> {
    name: &'a str,
    value: &'a str,
    path: &'a str,
    domain: Option<&'a str>,
    max_age: Option<Duration>,
    secure: bool,
    http_only: bool,
    same_site: SameSite,
}

/// What the value says may be a secret, such as the id of a session.
impl fmt::Debug for SetCookie<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetCookie")
            .field("name", &self.name)
            .field("value", &format_args!("{} bytes", self.value.len()))
            .field("path", &self.path)
            .field("domain", &self.domain)
            .field("max_age", &self.max_age)
            .field("secure", &self.secure)
            .field("http_only", &self.http_only)
            .field("same_site", &self.same_site)
            .finish()
    }
}

impl<'a> SetCookie<'a> {
    /// A cookie of this name and value.
    #[must_use]
    pub fn new(name: &'a str, value: &'a str) -> Self {
        Self {
            name,
            value,
            path: "/",
            domain: None,
            max_age: None,
            secure: true,
            http_only: true,
            same_site: SameSite::Lax,
        }
    }

    /// A cookie that removes the one of this name. Path and domain must be those it was set with.
    #[must_use]
    pub fn removal(name: &'a str) -> Self {
        Self::new(name, "").max_age(Some(Duration::ZERO))
    }

    /// Below which path it is sent. Default `/`.
    #[must_use]
    pub fn path(mut self, path: &'a str) -> Self {
        self.path = path;
        self
    }

    /// To which domain, with all below it, it is sent. Default: to this host only.
    #[must_use]
    pub fn domain(mut self, domain: Option<&'a str>) -> Self {
        self.domain = domain;
        self
    }

    /// How long it lives, in whole seconds, rounded up, and at most 400 days. Default: until the
    /// browser is closed.
    #[must_use]
    pub fn max_age(mut self, age: Option<Duration>) -> Self {
        let whole = |age: Duration| {
            let is_more = age.subsec_nanos() > 0; // a second of none would remove the cookie
            Duration::from_secs(age.as_secs() + u64::from(is_more))
        };
        self.max_age = age.map(|age| whole(age.min(MAX_AGE)));
        self
    }

    /// Whether it is sent over TLS only. Default `true`; browsers make an exception for this host.
    #[must_use]
    pub fn secure(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }

    /// Whether it is hidden from scripts. Default `true`.
    #[must_use]
    pub fn http_only(mut self, http_only: bool) -> Self {
        self.http_only = http_only;
        self
    }

    /// Whether it is sent with requests that other sites cause. Default [`SameSite::Lax`]: only
    /// when a link is followed.
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Why it cannot be set.
    fn fault(&self) -> Option<&'static str> {
        let has_prefix = |prefix: &str| {
            let start = self.name.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let is_attribute =
            |text: &str| text.bytes().all(|byte| byte > b' ' && byte < 0x7f) && !text.contains(';');
        let faults = [
            (!is_token(self.name.as_bytes()), "the name of a cookie is a token"),
            (!self.value.bytes().all(is_cookie_byte), "its value has a character of no cookie"),
            (self.name.len() + self.value.len() > MAX_COOKIE_BYTES, "it is over 4,096 bytes"),
            (!self.path.starts_with('/') || !is_attribute(self.path), "its path is malformed"),
            (
                self.domain.is_some_and(|domain| domain.is_empty() || !is_attribute(domain)),
                "its domain is malformed",
            ),
            (has_prefix("__Secure-") && !self.secure, "__Secure- wants Secure"),
            (
                has_prefix("__Host-")
                    && (!self.secure || self.path != "/" || self.domain.is_some()),
                "__Host- wants Secure, the path / and no domain",
            ),
            (self.same_site == SameSite::None && !self.secure, "SameSite=None wants Secure"),
        ];
        faults.iter().find_map(|(is_so, why)| is_so.then_some(*why))
    }
}

/// Whether a byte may stand in the value of a cookie (RFC 6265bis, 4.1.1).
fn is_cookie_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

impl<A: 'static> Response<'_, A> {
    /// Sets a cookie. One that cannot be sent makes the answer a 500 without it, and an error is
    /// logged; see [`try_set_cookie`](Self::try_set_cookie).
    pub fn set_cookie(&mut self, cookie: &SetCookie<'_>) -> &mut Self {
        if let Err(error) = self.try_set_cookie(cookie) {
            log::error!("{}: {error}", self.id());
            self.exchange.is_failed = true;
        }
        self
    }

    /// Sets a cookie.
    ///
    /// # Errors
    /// The answer is as it was, and browsers would have dropped the cookie or read another one:
    /// - its name is not a token, or its value, path or domain has a character that is not allowed
    /// - it has over 4,096 bytes
    /// - a name with `__Secure-` is not `Secure`; one with `__Host-` is not, or has another path
    ///   than `/`, or a domain
    /// - `SameSite=None` without `Secure`
    pub fn try_set_cookie(&mut self, cookie: &SetCookie<'_>) -> Result<(), InvalidField> {
        if let Some(why) = cookie.fault() {
            return Err(InvalidField::new(cookie.name, why));
        }
        let mut sent = Cookie::build((cookie.name, cookie.value))
            .path(cookie.path)
            .secure(cookie.secure)
            .http_only(cookie.http_only)
            .same_site(cookie.same_site);
        if let Some(domain) = cookie.domain {
            sent = sent.domain(domain);
        }
        if let Some(age) = cookie.max_age {
            let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
            sent = sent.max_age(cookie::time::Duration::seconds(seconds));
        }
        let text = sent.build().to_string();
        debug_assert!(fields::check("Set-Cookie", text.as_bytes()).is_ok());
        self.try_header("Set-Cookie", text)
    }
}
