//! Cookies, and sessions that are kept in memory or in a store of the program's.

mod cookie_keys;
mod cookies;
mod session_id;
mod sessions;
mod stored_sessions;

pub use cookie_keys::CookieKeys;
pub use cookies::{SameSite, SetCookie};
pub use session_id::SessionId;
pub use sessions::{Session, SessionOf, Sessions, SessionsFull, SessionsOptions};
pub use stored_sessions::{SessionStore, StoredSession, StoredSessions};
