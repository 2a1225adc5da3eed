//! The id of a session, and where it is found in a request.

use std::fmt;
use std::io;

use super::cookie_keys::CookieKeys;
use crate::http::request::Request;

/// Cookies of the name that are looked at: each costs a signature for each key.
const MAX_TRIES: usize = 8;

/// The id of a session: 128 random bits.
pub(super) type Id = [u8; 16];

/// The id of a session: a random number of 128 bits, as 32 hexadecimal digits. Who knows it and the
/// key of the cookies has the session: keep it out of logs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId(String);

impl SessionId {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn random() -> io::Result<Self> {
        random_digits().map(Self)
    }

    /// The id in the cookie of a request, if it is signed by one of the keys. A neighbour's cookie
    /// of the same name, of a host or a path beside this one, may stand before it: a few that are
    /// not signed do no harm. One that is signed does, as any user has a cookie that is; the prefix
    /// `__Host-` keeps neighbours out.
    pub(super) fn of(keys: &CookieKeys, cookie_name: &str, req: &Request<'_>) -> Option<Self> {
        let sent = req.cookies().filter(|(name, _)| *name == cookie_name);
        sent.take(MAX_TRIES).find_map(|(_, value)| {
            let digits = keys.verify(cookie_name, value)?;
            let is_id = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_id.then_some(Self(digits))
        })
    }

    /// The number itself.
    pub(super) fn bytes(&self) -> Option<Id> {
        u128::from_str_radix(&self.0, 16).ok().map(u128::to_be_bytes)
    }
}

/// Without the digits.
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// 128 random bits as 32 digits.
pub(super) fn random_digits() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(hex(bytes))
}

/// 128 bits as 32 digits.
pub(super) fn hex(bytes: Id) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}
