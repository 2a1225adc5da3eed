//! Sessions: what a server knows of a client from one request to the next.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::error::Error;
use std::fmt;
use std::hint::black_box;
use std::time::Duration;

use super::cookie_keys::CookieKeys;
use super::cookies::SetCookie;
use super::session_id::{Id, SessionId, hex};
use crate::http::request::Request;
use crate::http::response::Response;
use crate::options::setters;

/// Expired sessions that one call removes, besides those that it needs the room of.
const EXPIRY_BUDGET: usize = 16;

/// Limits of [`Sessions`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionsOptions {
    /// The name of the cookie. Default `__Host-session`, which browsers take over TLS or from this
    /// host only, and which no other host can set.
    pub cookie_name: String,
    /// Whether the cookie is sent over TLS only. Default `true`. Without it the name needs another
    /// beginning than `__Host-` and `__Secure-`.
    pub secure: bool,
    /// A session ends after this time without a request. Default 30 min.
    pub idle_timeout: Duration,
    /// A session ends at the latest after this time. Default 24 h.
    pub lifetime: Duration,
    /// Sessions at a time. Default 100,000.
    pub max_sessions: usize,
}

impl Default for SessionsOptions {
    fn default() -> Self {
        Self {
            cookie_name: "__Host-session".to_owned(),
            secure: true,
            idle_timeout: Duration::from_secs(30 * 60),
            lifetime: Duration::from_secs(24 * 3_600),
            max_sessions: 100_000,
        }
    }
}

impl SessionsOptions {
    setters! {
        cookie_name: String,
        secure: bool,
        idle_timeout: Duration,
        lifetime: Duration,
        max_sessions: usize,
    }
}

/// Sessions in memory, for the state that handlers share. The client stores only the id of its
/// session, in a signed cookie. The signature, which is compared in constant time, shows a forged
/// id. The id of a session that was revoked or has expired finds nothing.
///
/// Sessions are kept in one process and end with it. When there are `max_sessions`, new ones are
/// refused, so that a flood of new sessions logs no one out. So begin sessions at login, and not
/// for strangers.
///
/// The methods take a `&Request`. A closure that gets the body of a request has no `Request` any
/// more. There pass the [`id`](Self::id) instead, which the route takes before (see [`SessionOf`]).
///
/// # Examples
/// The password comes in the body of a form, so the id is taken first:
#[cfg_attr(feature = "http-forms", doc = "```")]
#[cfg_attr(not(feature = "http-forms"), doc = "```ignore")]
/// use waterwheel::http::{CookieKeys, Router, Sessions, SessionsOptions};
///
/// type App = Sessions<String>;
///
/// let routes = Router::new()
///     .post("/login", |app: &mut App, req, res| {
///         let before = app.id(req);
///         res.form(req, 4_096, |app, form, res| {
///             if form.get("password") != Some("secret") {
///                 return res.status(401).text("wrong password\n");
///             }
///             match app.start(before, res, "ann".to_owned()) {
///                 Ok(_) => res.redirect("/"),
///                 Err(_) => res.status(503).text("too many sessions\n"),
///             }
///         });
///     })
///     .get("/", |app: &mut App, req, res| match app.find(req, res) {
///         Some(session) => res.text(&format!("hello, {}\n", session.data)),
///         None => res.status(401).text("who are you?\n"),
///     })
///     .post("/logout", |app: &mut App, req, res| {
///         app.revoke(req, res);
///         res.redirect("/");
///     });
/// let sessions = Sessions::new(CookieKeys::generate()?, SessionsOptions::default());
/// let server = waterwheel::http::Server::new(sessions, routes);
/// # let _ = server;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Sessions<T> {
    keys: CookieKeys,
    options: SessionsOptions,
    sessions: HashMap<Id, Session<T>>,
    /// When to look whether a session has expired: each has an entry. Those of sessions that were
    /// revoked find nothing.
    due: BinaryHeap<Reverse<(Duration, Id)>>,
}

/// A session.
#[derive(Clone)]
pub struct Session<T> {
    /// What the program knows of the client.
    pub data: T,
    token: String,
    began: Duration,
    last_used: Duration,
}

/// There are as many sessions as there may be, or the system has no random bytes for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionsFull;

impl fmt::Display for SessionsFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no room for another session")
    }
}

impl Error for SessionsFull {}

/// The token is a secret of the client's pages.
impl<T: fmt::Debug> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data, token: _, began, last_used } = self;
        let mut text = f.debug_struct("Session");
        text.field("data", data).field("began", began).field("last_used", last_used);
        text.finish_non_exhaustive()
    }
}

/// What names a session for the methods of [`Sessions`]: a `&Request`, or in a closure that is
/// called later, the `Option<SessionId>` that [`Sessions::id`] has returned for the request.
pub trait SessionOf {
    /// The id of the session, if there is one.
    fn id_in<T>(self, sessions: &Sessions<T>) -> Option<SessionId>;
}

impl SessionOf for &Request<'_> {
    fn id_in<T>(self, sessions: &Sessions<T>) -> Option<SessionId> {
        sessions.id(self)
    }
}

impl SessionOf for Option<SessionId> {
    fn id_in<T>(self, _: &Sessions<T>) -> Option<SessionId> {
        self
    }
}

impl SessionOf for &SessionId {
    fn id_in<T>(self, _: &Sessions<T>) -> Option<SessionId> {
        Some(self.clone())
    }
}

impl<T> Session<T> {
    /// A token against requests that other sites forge. Put it into the forms of the session's
    /// pages, and [check](Self::is_token) it before anything is changed.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whether this is the token, compared in constant time.
    #[must_use]
    pub fn is_token(&self, sent: &str) -> bool {
        is_equal(&self.token, sent)
    }

    fn expires(&self, options: &SessionsOptions) -> Duration {
        let idle = self.last_used.saturating_add(options.idle_timeout);
        idle.min(self.began.saturating_add(options.lifetime))
    }
}

impl<T> Sessions<T> {
    /// Without sessions.
    #[must_use]
    pub fn new(keys: CookieKeys, options: SessionsOptions) -> Self {
        Self { keys, options, sessions: HashMap::new(), due: BinaryHeap::new() }
    }

    /// The number of sessions, with those that have expired and were not looked at since.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    /// The id in the cookie of a request, if it is signed by one of the keys. An id outlives the
    /// request, and is taken by the other methods in its place: see [`SessionOf`].
    #[must_use]
    pub fn id(&self, req: &Request<'_>) -> Option<SessionId> {
        SessionId::of(&self.keys, &self.options.cookie_name, req)
    }

    /// Begins a session and sets its cookie. A session that the client had before is revoked: an
    /// attacker may know an id from before the login, and after the login that id is worthless.
    ///
    /// # Errors
    /// [`SessionsFull`].
    pub fn start<A: 'static>(
        &mut self,
        before: impl SessionOf,
        res: &mut Response<'_, A>,
        data: T,
    ) -> Result<&mut Session<T>, SessionsFull> {
        let now = res.context().now();
        if let Some(id) = before.id_in(self).and_then(|id| id.bytes()) {
            self.sessions.remove(&id);
        }
        self.insert(res, data, now, now)
    }

    /// Returns the session of a request, and starts its idle time again.
    pub fn find<A: 'static>(
        &mut self,
        of: impl SessionOf,
        res: &mut Response<'_, A>,
    ) -> Option<&mut Session<T>> {
        let now = res.context().now();
        self.expire(now);
        let id = of.id_in(self)?.bytes()?;
        self.look_up(id, now)
    }

    fn look_up(&mut self, id: Id, now: Duration) -> Option<&mut Session<T>> {
        if self.sessions.get(&id)?.expires(&self.options) <= now {
            self.sessions.remove(&id);
            return None;
        }
        let session = self.sessions.get_mut(&id)?;
        session.last_used = now;
        Some(session)
    }

    /// Gives the session of a request a new id and a new token: for a client that may do more from
    /// now on. Its lifetime goes on.
    pub fn rotate<A: 'static>(
        &mut self,
        of: impl SessionOf,
        res: &mut Response<'_, A>,
    ) -> Option<&mut Session<T>> {
        let now = res.context().now();
        self.expire(now);
        let id = of.id_in(self)?.bytes()?;
        self.look_up(id, now)?;
        let session = self.sessions.remove(&id)?;
        self.insert(res, session.data, session.began, now).ok()
    }

    /// Ends the session of a request, and removes its cookie. A copy of the cookie finds nothing.
    pub fn revoke<A: 'static>(
        &mut self,
        of: impl SessionOf,
        res: &mut Response<'_, A>,
    ) -> Option<T> {
        let cookie = SetCookie::removal(&self.options.cookie_name).secure(self.options.secure);
        res.set_cookie(&cookie);
        let id = of.id_in(self)?.bytes()?;
        self.sessions.remove(&id).map(|session| session.data)
    }

    /// Ends all sessions for which `is_over` returns `true`: for example those of an account whose
    /// password was changed. Looks at every session.
    pub fn revoke_all(&mut self, mut is_over: impl FnMut(&T) -> bool) {
        self.sessions.retain(|_, session| !is_over(&session.data));
    }

    /// Removes a few of the sessions that have expired by now, in the time of
    /// [`Context::now`](crate::Context::now). Each look at a session does so too; a timer that
    /// calls it gives memory back where no requests come: see
    /// [`Server::on_timer`](crate::http::Server::on_timer).
    pub fn expire(&mut self, now: Duration) {
        for _ in 0..EXPIRY_BUDGET {
            if !self.expire_one(now) {
                break;
            }
        }
    }

    /// Looks at the session that is due first; whether one was due.
    fn expire_one(&mut self, now: Duration) -> bool {
        match self.due.peek() {
            Some(Reverse((due, _))) if *due <= now => {}
            _ => return false,
        }
        let Some(Reverse((_, id))) = self.due.pop() else { return false };
        if let Some(session) = self.sessions.get(&id) {
            let expires = session.expires(&self.options);
            if expires <= now {
                self.sessions.remove(&id);
            } else {
                self.due.push(Reverse((expires, id)));
            }
        }
        true
    }

    fn insert<A: 'static>(
        &mut self,
        res: &mut Response<'_, A>,
        data: T,
        began: Duration,
        now: Duration,
    ) -> Result<&mut Session<T>, SessionsFull> {
        self.expire(now);
        while self.sessions.len() >= self.options.max_sessions {
            if !self.expire_one(now) {
                return Err(SessionsFull);
            }
        }
        let (mut id, mut token) = ([0; 16], [0; 16]);
        getrandom::fill(&mut id).map_err(|_| SessionsFull)?;
        getrandom::fill(&mut token).map_err(|_| SessionsFull)?;
        let session = Session { data, token: hex(token), began, last_used: now };
        if self.due.len() > 2 * self.sessions.len() + EXPIRY_BUDGET {
            // Most are of sessions that were revoked.
            self.due.retain(|Reverse((_, id))| self.sessions.contains_key(id));
        }
        self.due.push(Reverse((session.expires(&self.options), id)));
        let name = &self.options.cookie_name;
        let value = self.keys.sign(name, &hex(id));
        res.set_cookie(&SetCookie::new(name, &value).secure(self.options.secure));
        Ok(self.sessions.entry(id).insert_entry(session).into_mut())
    }
}

/// Compares two tokens in constant time.
pub(super) fn is_equal(own: &str, sent: &str) -> bool {
    let pairs = own.bytes().zip(sent.bytes());
    let difference = pairs.fold(0, |seen, (own, sent)| black_box(seen | (own ^ sent)));
    own.len() == sent.len() && difference == 0
}

impl<T> fmt::Debug for Sessions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Sessions");
        text.field("count", &self.sessions.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_session_has_no_token() {
        let now = Duration::ZERO;
        let session =
            Session { data: "ann", token: "5ec2e7".to_owned(), began: now, last_used: now };
        let text = format!("{session:?}");
        assert!(text.contains("ann") && !text.contains("5ec2e7"), "{text}");
    }
}
