//! Users, their sessions and their notes, in a database. All of its work is done beside the loop.

mod database;
mod limiter;
mod notes;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use waterwheel::http::{
    CookieKeys, Form, Request, Response, Route, Router, SessionId, SessionsOptions, StoredSessions,
};
use waterwheel::offload::{Offload, OffloadOptions};
use waterwheel::{Context, Reactor};

use crate::html::CONTENT_POLICY;
use database::Database;
use limiter::Limiter;

/// Longest name and password of a user, in bytes.
const MAX_NAME_BYTES: usize = 64;
const MAX_PASSWORD_BYTES: usize = 1_024;

/// Bytes of the form of a login.
const MAX_LOGIN_BYTES: u64 = 4_096;

/// Logins of one account and of one source at once, and how long one more takes to be allowed.
const ACCOUNT: (u32, Duration) = (5, Duration::from_secs(10));
const SOURCE: (u32, Duration) = (20, Duration::from_secs(3));

/// Hashes that wait at the most: each takes some 20 ms of a core, and 19 MiB.
const MAX_HASHES: usize = 64;

/// A database with its users, for the reactors of a program.
#[derive(Clone, Debug)]
pub(crate) struct Accounts {
    path: PathBuf,
    keys: CookieKeys,
    /// Whether all is by TLS.
    secure: bool,
    /// What the password of a name is compared with that does not exist, so that it takes as long.
    nobody: Arc<str>,
    /// How often an account and a source may try.
    accounts: Limiter,
    sources: Limiter,
}

/// What the routes share.
#[derive(Clone)]
struct Desk {
    database: Offload<Database>,
    /// Threads of their own, so that hashes hold nothing else up.
    hashes: Offload,
    sessions: StoredSessions<Database>,
    nobody: Arc<str>,
    accounts: Limiter,
    sources: Limiter,
}

impl Accounts {
    pub(crate) fn open(path: &Path, keys: Option<&Path>, secure: bool) -> io::Result<Self> {
        Database::open(path)?; // to be told early
        let keys = match keys {
            Some(path) => CookieKeys::from_file(path)?,
            None => CookieKeys::generate()?,
        };
        let nobody = hash("nobody")?.into();
        let (accounts, sources) = (Limiter::new(ACCOUNT), Limiter::new(SOURCE));
        Ok(Self { path: path.to_owned(), keys, secure, nobody, accounts, sources })
    }

    /// Adds a user, or gives one another password.
    pub(crate) fn add_user(&self, name: &str, password: &str) -> io::Result<()> {
        let is_fit = |text: &str, most| !text.is_empty() && text.len() <= most;
        if !is_fit(name, MAX_NAME_BYTES) || !is_fit(password, MAX_PASSWORD_BYTES) {
            let text = "a user needs a name of at most 64 bytes, and a password on standard input";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Database::open(&self.path)?.set_user(name, &hash(password)?)
    }

    /// Adds the routes. Returns what is to be called now and then.
    pub(crate) fn mount(
        &self,
        reactor: &mut Reactor,
        routes: Router<()>,
    ) -> io::Result<(Router<()>, impl Fn(&mut Context<'_>) + use<>)> {
        let path = self.path.clone();
        let options = OffloadOptions::default().threads(2).name("database");
        let database = Offload::with_state(reactor, options, move |_| Database::open(&path))?;
        let options = OffloadOptions::default().threads(1).name("hashes").max_queued(MAX_HASHES);
        let hashes = Offload::new(reactor, options)?;
        let options = if self.secure {
            SessionsOptions::default()
        } else {
            SessionsOptions::default().secure(false).cookie_name("session".to_owned())
        };
        let sessions = StoredSessions::new(self.keys.clone(), options, database.clone());
        let expired = sessions.clone();
        let Self { nobody, accounts, sources, .. } = self.clone();
        let desk = Desk { database, hashes, sessions, nobody, accounts, sources };
        let expire = move |cx: &mut Context<'_>| expired.expire(cx.system_time());
        Ok((notes::mount(&desk, desk.mount(routes)), expire))
    }
}

impl Desk {
    fn mount(&self, routes: Router<()>) -> Router<()> {
        let (desk, leaving) = (self.clone(), self.clone());
        let login = Route::new().get(|(), _, res| page(res, LOGIN)).post(move |(), req, res| {
            if is_of_another_site(req) {
                return forbid(res);
            }
            let source = prefix(res.peer_addr().ip().to_canonical());
            if !desk.sources.allows(&source.to_string(), now(res)) {
                return too_many(res);
            }
            desk.log_in(req, res);
        });
        let logout = Route::new().post(move |(), req, res| {
            let (desk, id) = (leaving.clone(), leaving.sessions.id(req));
            res.form(req, MAX_LOGIN_BYTES, move |(), form, res| desk.log_out(id, form, res));
        });
        routes.route("/login", login).route("/logout", logout)
    }

    fn log_in(&self, req: &Request<'_>, res: &mut Response<'_, ()>) {
        let (desk, before) = (self.clone(), self.sessions.id(req));
        res.form(req, MAX_LOGIN_BYTES, move |(), form, res| {
            let (name, password) = (form.get("name"), form.get("password"));
            let (Some(name), Some(password)) = (name, password) else { return refuse(res) };
            if name.len() > MAX_NAME_BYTES || password.len() > MAX_PASSWORD_BYTES {
                return refuse(res);
            }
            if !desk.accounts.allows(name, now(res)) {
                return too_many(res);
            }
            desk.check(name.to_owned(), password.to_owned(), before, res);
        });
    }

    /// Compares a password with that of a name, and begins a session.
    fn check(
        self,
        name: String,
        password: String,
        before: Option<SessionId>,
        res: &mut Response<'_, ()>,
    ) {
        let (database, user) = (self.database.clone(), name.clone());
        let look_up = move |database: &mut Database| database.hash_of(&user);
        res.offload(&database, (), look_up, move |(), found, res| {
            let Ok(Ok(found)) = found else { return fail(res) };
            let is_known = found.is_some();
            // A name that does not exist takes the same time.
            let hash = found.unwrap_or_else(|| self.nobody.to_string());
            let hashes = self.hashes.clone();
            let compare = move |(): &mut ()| is_password(&password, &hash);
            res.offload(&hashes, (), compare, move |(), is_right, res| match is_right {
                Ok(true) if is_known => self.sessions.start(before, res, name, |(), _, res| {
                    res.status(303).redirect("/notes");
                }),
                Ok(_) => refuse(res),
                Err(_) => fail(res),
            });
        });
    }

    fn log_out(self, id: Option<SessionId>, form: &Form, res: &mut Response<'_, ()>) {
        let token = form.get("token").unwrap_or_default().to_owned();
        let sessions = self.sessions.clone();
        self.sessions.find(id.clone(), res, move |(), session, res| match session {
            Some(session) if !session.is_token(&token) => forbid(res),
            _ => sessions.revoke(id, res, |(), res| res.status(303).redirect("/login")),
        });
    }
}

/// The time of day, which the reactors of a fleet have in common.
fn now(res: &mut Response<'_, ()>) -> Duration {
    res.context().system_time().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn hash(password: &str) -> io::Result<String> {
    let hash = Argon2::default().hash_password(password.as_bytes()).map_err(io::Error::other)?;
    Ok(hash.to_string())
}

fn is_password(password: &str, hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else {
        log::error!("the database has a hash that cannot be read");
        return false;
    };
    Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
}

/// What counts as one source: of IPv6 the network of 64 bits, which one client has all of.
fn prefix(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => addr,
        IpAddr::V6(addr) => IpAddr::V6((addr.to_bits() >> 64 << 64).into()),
    }
}

/// Whether a browser says that the page of another site sends this.
fn is_of_another_site(req: &Request<'_>) -> bool {
    let site = req.header("sec-fetch-site");
    site.is_some_and(|site| site != "same-origin" && site != "none")
}

fn page(res: &mut Response<'_, ()>, text: &str) {
    res.header("Content-Security-Policy", CONTENT_POLICY).header("Cache-Control", "no-store");
    res.html(text);
}

fn refuse(res: &mut Response<'_, ()>) {
    res.status(401).text("the name or the password is wrong\n");
}

fn forbid(res: &mut Response<'_, ()>) {
    res.status(403).text("this was not sent by a page of this site\n");
}

fn too_many(res: &mut Response<'_, ()>) {
    res.status(429).header("Retry-After", "10").text("too many tries; wait a while\n");
}

fn fail(res: &mut Response<'_, ()>) {
    res.status(500).text("the database cannot be asked\n");
}

const LOGIN: &str = r#"<!doctype html><html lang=en><meta charset=utf-8><title>Login</title>
<meta name=viewport content="width=device-width"><link rel=icon href="data:,">
<h1>Login</h1>
<form method=post action=/login>
<label>Name <input name=name autocomplete=username required></label>
<label>Password <input name=password type=password autocomplete=current-password required></label>
<button>Log in</button>
</form></html>
"#;
