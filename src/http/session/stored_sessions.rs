//! Sessions that outlive the process, in a store of the program's that may block.

use std::fmt;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::cookie_keys::CookieKeys;
use super::cookies::SetCookie;
use super::session_id::{SessionId, random_digits};
use super::sessions::{SessionsOptions, is_equal};
use crate::http::request::Request;
use crate::http::response::Response;
use crate::offload::{Failed, Offload, Order};

/// The share of the idle timeout after which the use of a session is written down, so that most
/// requests only read: a session may end so much too early, and never too late.
const TOUCH_SHARE: u64 = 10;

/// A session as a store has it. Times are seconds since 1970.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredSession {
    /// What the program knows of the client, in a form of its own.
    pub data: String,
    /// The token against requests that other sites forge.
    pub token: String,
    /// When the session was begun.
    pub began: u64,
    /// When it ends, unless it is used before.
    pub expires: u64,
}

impl StoredSession {
    /// For a store, of the values that it has kept.
    #[must_use]
    pub fn new(data: String, token: String, began: u64, expires: u64) -> Self {
        Self { data, token, began, expires }
    }

    /// Whether this is the token, compared in constant time.
    #[must_use]
    pub fn is_token(&self, sent: &str) -> bool {
        is_equal(&self.token, sent)
    }
}

/// Without the token.
impl fmt::Debug for StoredSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data, began, expires, .. } = self;
        let mut text = f.debug_struct("StoredSession");
        text.field("data", data).field("began", began).field("expires", expires);
        text.finish_non_exhaustive()
    }
}

/// Where sessions are kept: a table of a database, as a rule. The methods run on the threads of an
/// offload, and may block. An error of theirs is logged, and answered with 500.
///
/// # Examples
/// With a client of PostgreSQL (the crate `postgres`), of which each thread has its own:
/// ```ignore
/// impl SessionStore for Database {
///     fn load(&mut self, id: &SessionId) -> io::Result<Option<StoredSession>> {
///         let sql = "select data, token, began, expires from sessions where id = $1";
///         let row = self.client.query_opt(sql, &[&id.as_str()]).map_err(io::Error::other)?;
///         Ok(row.map(|row| {
///             let (began, expires): (i64, i64) = (row.get(2), row.get(3));
///             StoredSession::new(row.get(0), row.get(1), began as u64, expires as u64)
///         }))
///     }
///     // …
/// }
/// ```
pub trait SessionStore: 'static {
    /// The session of an id, expired or not.
    ///
    /// # Errors
    /// What the store says.
    fn load(&mut self, id: &SessionId) -> io::Result<Option<StoredSession>>;

    /// Keeps a new session, whose id is of no other.
    ///
    /// # Errors
    /// What the store says.
    fn insert(&mut self, id: &SessionId, session: &StoredSession) -> io::Result<()>;

    /// Has a session expire later, if it is there.
    ///
    /// # Errors
    /// What the store says.
    fn touch(&mut self, id: &SessionId, expires: u64) -> io::Result<()>;

    /// Removes a session, if it is there.
    ///
    /// # Errors
    /// What the store says.
    fn remove(&mut self, id: &SessionId) -> io::Result<()>;

    /// Removes all sessions that expire before a time.
    ///
    /// # Errors
    /// What the store says.
    fn expire(&mut self, now: u64) -> io::Result<()>;
}

/// Sessions in a [`SessionStore`], which are looked up beside the loop. A client has the id of its
/// session in a signed cookie. [`Sessions`](crate::http::Sessions) are those in memory.
///
/// Each method answers the exchange later, by its closure. The answer is 503 if the offload is
/// full, and 500 if the store fails; then the closure is not called.
///
/// # Examples
/// ```
/// use waterwheel::http::{Response, Router, SessionStore, StoredSessions};
///
/// fn routes<S: SessionStore>(sessions: &StoredSessions<S>) -> Router<()> {
///     let (find, end) = (sessions.clone(), sessions.clone());
///     Router::new()
///         .get("/", move |(), req, res| {
///             find.find(find.id(req), res, |(), session, res| match session {
///                 Some(session) => res.text(&format!("hello, {}\n", session.data)),
///                 None => res.status(401).text("who are you?\n"),
///             });
///         })
///         .post("/logout", move |(), req, res| {
///             end.revoke(end.id(req), res, |(), res| res.redirect("/"));
///         })
/// }
///
/// /// Once the password is checked.
/// fn log_in<S: SessionStore>(
///     sessions: &StoredSessions<S>,
///     user: &str,
///     res: &mut Response<'_, ()>,
/// ) {
///     sessions.start(None, res, user.to_owned(), |(), _, res| res.redirect("/"));
/// }
/// ```
pub struct StoredSessions<S> {
    keys: CookieKeys,
    options: SessionsOptions,
    offload: Offload<S>,
}

impl<S> Clone for StoredSessions<S> {
    fn clone(&self) -> Self {
        let Self { keys, options, offload } = self;
        Self { keys: keys.clone(), options: options.clone(), offload: offload.clone() }
    }
}

impl<S> fmt::Debug for StoredSessions<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSessions").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<S: SessionStore> StoredSessions<S> {
    /// Sessions in the store that the threads of `offload` have for a state. Of the options,
    /// `max_sessions` is the store's own business.
    #[must_use]
    pub fn new(keys: CookieKeys, options: SessionsOptions, offload: Offload<S>) -> Self {
        Self { keys, options, offload }
    }

    /// The id in the cookie of a request, if it is signed by one of the keys. A copy
    /// outlives the request: for what is asked once the body has come.
    #[must_use]
    pub fn id(&self, req: &Request<'_>) -> Option<SessionId> {
        SessionId::of(&self.keys, &self.options.cookie_name, req)
    }

    /// Looks a session up, which begins to be idle anew. No [id](Self::id) asks no store.
    pub fn find<A: 'static>(
        &self,
        id: Option<SessionId>,
        res: &mut Response<'_, A>,
        then: impl FnOnce(&mut A, Option<StoredSession>, &mut Response<'_, A>) + Send + 'static,
    ) {
        let Some(id) = id else {
            res.later();
            let (reply, key) = (res.id(), res.server());
            return res.context().post(key, move |server, cx| {
                server.answer(cx, reply, |app, res| then(app, None, res));
            });
        };
        let now = seconds(res.context().system_time());
        let (idle, lifetime) = (self.options.idle_timeout, self.options.lifetime);
        let order = Order::of(&id);
        let work = move |store: &mut S| look_up(store, &id, now, idle, lifetime);
        res.offload(&self.offload, order, work, move |app, found, res| match checked(found) {
            Some(found) => then(app, found, res),
            None => fail(res),
        });
    }

    /// Begins a session and sets its cookie. The session that the client had before, with the id
    /// `before`, is removed: an attacker may know an id from before the login, and after the login
    /// that id is worthless. If the store fails, the client keeps the session that it had, and the
    /// new one is not begun.
    pub fn start<A: 'static>(
        &self,
        before: Option<SessionId>,
        res: &mut Response<'_, A>,
        data: String,
        then: impl FnOnce(&mut A, &StoredSession, &mut Response<'_, A>) + Send + 'static,
    ) {
        let began = seconds(res.context().system_time());
        let (Ok(id), Ok(token)) = (SessionId::random(), random_digits()) else {
            return fail(res);
        };
        let life = self.options.idle_timeout.min(self.options.lifetime);
        let expires = began.saturating_add(life.as_secs());
        let session = StoredSession { data, token, began, expires };
        let name = self.options.cookie_name.clone();
        let (value, secure) = (self.keys.sign(&name, id.as_str()), self.options.secure);
        let work = move |store: &mut S| {
            begin(store, &id, &session, before.as_ref())?;
            Ok(session)
        };
        res.offload(&self.offload, (), work, move |app, begun, res| match checked(begun) {
            Some(session) => {
                res.set_cookie(&SetCookie::new(&name, &value).secure(secure));
                then(app, &session, res);
            }
            None => fail(res),
        });
    }

    /// Ends a session, and removes its cookie. A copy of the cookie finds nothing.
    pub fn revoke<A: 'static>(
        &self,
        id: Option<SessionId>,
        res: &mut Response<'_, A>,
        then: impl FnOnce(&mut A, &mut Response<'_, A>) + Send + 'static,
    ) {
        let (name, secure) = (self.options.cookie_name.clone(), self.options.secure);
        let order = id.as_ref().map_or_else(|| ().into(), Order::of);
        let work = move |store: &mut S| id.map_or(Ok(()), |id| store.remove(&id));
        res.offload(&self.offload, order, work, move |app, removed, res| {
            if checked(removed).is_none() {
                return fail(res);
            }
            res.set_cookie(&SetCookie::removal(&name).secure(secure));
            then(app, res);
        });
    }

    /// Has all expired sessions removed: for a timer, in the time of
    /// [`Context::system_time`](crate::Context::system_time).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use waterwheel::http::{Server, SessionStore, StoredSessions};
    /// use waterwheel::{HandlerKey, Reactor};
    ///
    /// fn expire<S: SessionStore>(server: Server<()>, sessions: StoredSessions<S>) -> Server<()> {
    ///     server.on_timer(move |(), _, cx| sessions.expire(cx.system_time()))
    /// }
    ///
    /// fn begin(reactor: &mut Reactor, web: HandlerKey<Server<()>>) {
    ///     reactor.set_periodic_timer(web, Duration::from_secs(60), 0);
    /// }
    /// ```
    pub fn expire(&self, now: SystemTime) {
        let now = seconds(now);
        let accepted = self.offload.run_alone((), move |store| {
            if let Err(error) = store.expire(now) {
                log::error!("expired sessions are kept: {error}");
            }
        });
        if let Err(error) = accepted {
            log::warn!("expired sessions are kept for now: {error}");
        }
    }
}

/// Keeps a new session in place of another. The other goes last: a store that refuses the new one
/// must not have lost both. If the other cannot be removed, its id is worth something still, and
/// the new one goes again.
fn begin(
    store: &mut impl SessionStore,
    id: &SessionId,
    session: &StoredSession,
    before: Option<&SessionId>,
) -> io::Result<()> {
    store.insert(id, session)?;
    let Some(before) = before else { return Ok(()) };
    store.remove(before).inspect_err(|_| {
        if let Err(error) = store.remove(id) {
            // Its id has been told to no client.
            log::warn!("a session that was not begun is kept until it expires: {error}");
        }
    })
}

fn look_up(
    store: &mut impl SessionStore,
    id: &SessionId,
    now: u64,
    idle: Duration,
    lifetime: Duration,
) -> io::Result<Option<StoredSession>> {
    let Some(mut session) = store.load(id)? else { return Ok(None) };
    if session.expires <= now {
        store.remove(id)?;
        return Ok(None);
    }
    let end = session.began.saturating_add(lifetime.as_secs());
    let expires = now.saturating_add(idle.as_secs()).min(end);
    if expires.saturating_sub(session.expires) > idle.as_secs() / TOUCH_SHARE {
        store.touch(id, expires)?;
        session.expires = expires;
    }
    Ok(Some(session))
}

/// What a store has returned; `None` if it has failed.
fn checked<T>(result: Result<io::Result<T>, Failed>) -> Option<T> {
    match result {
        Ok(Ok(value)) => return Some(value),
        Ok(Err(error)) => log::error!("the store of the sessions failed: {error}"),
        Err(failed) => log::error!("the store of the sessions failed: {failed}"),
    }
    None
}

fn fail<A: 'static>(res: &mut Response<'_, A>) {
    res.status(500).text("the sessions cannot be read\n");
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
