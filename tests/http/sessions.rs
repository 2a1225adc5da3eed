//! Cookies and sessions.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, mem};

use waterwheel::ListenOptions;
use waterwheel::http::{
    CookieKeys, Router, SameSite, Server, SessionId, SessionStore, Sessions, SessionsFull,
    SessionsOptions, SetCookie, StoredSession, StoredSessions,
};
use waterwheel::offload::{Offload, OffloadOptions};

use crate::web::{Answer, Client, Web};

/// A server that tells the cookies of a request.
fn teller() -> Web {
    Web::of(|| {
        Router::new()
            .get("/", |(), req, res| {
                let pairs: Vec<_> = req.cookies().map(|(k, v)| format!("{k}={v}")).collect();
                res.text(&pairs.join("|"));
            })
            .get("/a", |(), req, res| res.text(req.cookie("a").unwrap_or("-")))
    })
}

#[track_caller]
fn cookies(client: &mut Client, path: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("Cookie: {field}\r\n")).collect();
    let answer = client.ask(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text().to_owned()
}

#[test]
fn row_60_malformed_pairs_are_left_out_and_the_first_of_a_name_wins() {
    let web = teller();
    let client = &mut web.client();
    assert_eq!(cookies(client, "/", &["a=1; b=2;c=\"3\"", "d=4"]), "a=1|b=2|c=\"3\"|d=4");
    assert_eq!(cookies(client, "/a", &["b=0; a=1; a=2", "a=3"]), "1");
    assert_eq!(cookies(client, "/a", &["A=1"]), "-");
    assert_eq!(
        cookies(client, "/", &["a; =b; a\tb=1; c=x\ty; d e=1; f=\u{fc}; ;g=;h=="]),
        "f=ü|g=|h=="
    );
    assert_eq!(cookies(client, "/", &["\"a=1"]), "");
    let many: Vec<_> = (0..200).map(|at| format!("c{at}=1")).collect();
    assert_eq!(cookies(client, "/", &[&many.join("; ")]).split('|').count(), 180);
    let (half, long) = ("x".repeat(4_000), "y".repeat(5_000));
    let sent = [&format!("a={half}")[..], &format!("b={long}"), "c=1"];
    assert_eq!(cookies(client, "/", &sent), format!("a={half}"));
}

/// What a server sets that sets this.
#[track_caller]
fn set(cookie: impl Fn() -> SetCookie<'static> + Send + 'static) -> Answer {
    let web = Web::of(move || {
        Router::new().get("/", move |(), _, res| {
            res.set_cookie(&cookie()).text("set");
        })
    });
    web.client().get("/")
}

#[test]
fn row_61_a_cookie_that_would_be_dropped_or_misread_is_refused() {
    let faulty: [fn() -> SetCookie<'static>; 16] = [
        || SetCookie::new("a", "x;y"),
        || SetCookie::new("a", "x\r\nSet-Cookie: b=1"),
        || SetCookie::new("a", "x y"),
        || SetCookie::new("a", "\u{fc}"),
        || SetCookie::new("", "x"),
        || SetCookie::new("a b", "x"),
        || SetCookie::new("a=b", "x"),
        || SetCookie::new("a", "x").path("/; Domain=y"),
        || SetCookie::new("a", "x").path("x"),
        || SetCookie::new("a", "x").domain(Some("x;y")),
        || SetCookie::new("__Host-a", "x").path("/sub"),
        || SetCookie::new("__Host-a", "x").domain(Some("example.org")),
        || SetCookie::new("__host-a", "x").secure(false),
        || SetCookie::new("__Secure-a", "x").secure(false),
        || SetCookie::new("a", "x").same_site(SameSite::None).secure(false),
        || SetCookie::new("a", std::str::from_utf8(&[b'x'; 4_096]).unwrap()),
    ];
    for (at, cookie) in faulty.into_iter().enumerate() {
        let answer = set(cookie);
        assert_eq!((answer.status, answer.field("set-cookie")), (500, None), "{at}");
    }
}

#[test]
fn row_61_what_is_set_is_safe_and_lives_400_days_at_the_most() {
    let field = |answer: &Answer| answer.field("set-cookie").expect("a cookie").to_owned();
    let parts = |text: &str| {
        let mut parts: Vec<_> = text.split("; ").map(str::to_owned).collect();
        parts.sort();
        parts
    };
    let plain = field(&set(|| SetCookie::new("__Host-a", "x=\"".trim_end_matches('"'))));
    let safe = ["HttpOnly", "Path=/", "SameSite=Lax", "Secure", "__Host-a=x="];
    assert_eq!(parts(&plain), safe);
    let long = field(&set(|| SetCookie::new("a", "x").max_age(Some(Duration::MAX))));
    assert!(long.contains("Max-Age=34560000"), "{long}");
    // `Max-Age=0` would remove it.
    let short = field(&set(|| SetCookie::new("a", "x").max_age(Some(Duration::from_millis(1)))));
    assert!(short.contains("Max-Age=1"), "{short}");
    let other = field(&set(|| {
        let cookie = SetCookie::removal("a").secure(false).http_only(false).path("/x");
        cookie.domain(Some("example.org")).same_site(SameSite::Strict)
    }));
    let sent = ["Domain=example.org", "Max-Age=0", "Path=/x", "SameSite=Strict", "a="];
    assert_eq!(parts(&other), sent);
}

/// A file that is removed.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new(name: &str, text: &str, mode: u32) -> Self {
        let name = format!("waterwheel-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, text).unwrap();
        #[cfg(not(unix))]
        let _ = mode;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Self(path)
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn keys_are_rotated_without_logging_out_and_read_from_a_secret_file_only() {
    let (old, new) = ("0a".repeat(64), "F1".repeat(64));
    let keys = |name: &str, text: &str| CookieKeys::from_file(&KeyFile::new(name, text, 0o600).0);
    let first = keys("first", &format!("# keys\n\n{old}\n")).unwrap();
    let both = keys("both", &format!("{new}\n{old}")).unwrap();
    let last = keys("last", &new).unwrap();
    let (signed, secret) = (first.sign("a", "x"), first.encrypt("a", "ü; x"));
    assert_eq!(both.verify("a", &signed).as_deref(), Some("x"));
    assert_eq!(both.decrypt("a", &secret).as_deref(), Some("ü; x"));
    assert_eq!((last.verify("a", &signed), last.decrypt("a", &secret)), (None, None));
    let (signed, secret) = (both.sign("a", "x"), both.encrypt("a", "y"));
    assert_eq!(last.verify("a", &signed).as_deref(), Some("x"));
    assert_eq!(last.decrypt("a", &secret).as_deref(), Some("y"));
    assert_eq!((first.verify("a", &signed), first.decrypt("a", &secret)), (None, None));
    // The value of one cookie is none of another.
    assert_eq!((last.verify("b", &signed), last.decrypt("b", &secret)), (None, None));
    for text in ["", "# none", "0a", &"0g".repeat(64), &"ü".repeat(64), &(old.clone() + "0")] {
        assert_eq!(keys("bad", text).unwrap_err().kind(), ErrorKind::InvalidData, "{text}");
    }
    if cfg!(unix) {
        for mode in [0o644, 0o640, 0o604, 0o620] {
            let file = KeyFile::new("open", &old, mode);
            let error = CookieKeys::from_file(&file.0).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{mode:o}");
        }
    }
}

#[test]
fn an_error_about_a_file_of_keys_names_the_file() {
    let missing = std::env::temp_dir().join("waterwheel-no-such-file-of-keys");
    let error = CookieKeys::from_file(&missing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let text = error.to_string();
    assert!(text.contains(&missing.display().to_string()), "{text}");
    assert!(text.ends_with("; `openssl rand -hex 64` writes a key"), "{text}");
    let binary = KeyFile::new("binary", "", 0o600);
    std::fs::write(&binary.0, b"\xff\xfe").unwrap();
    let error = CookieKeys::from_file(&binary.0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains(&binary.0.display().to_string()), "{error}");
}

#[test]
fn row_62_a_value_that_was_changed_anywhere_is_not_verified() {
    let keys = CookieKeys::generate().unwrap();
    let (signed, secret) = (keys.sign("a", "value"), keys.encrypt("a", "value"));
    for text in [&signed, &secret] {
        for at in 0..text.len() {
            for byte in [b'A', b'B'] {
                let mut bytes = text.clone().into_bytes();
                if std::mem::replace(&mut bytes[at], byte) != byte {
                    let changed = String::from_utf8(bytes).unwrap();
                    assert_eq!(keys.verify("a", &changed), None, "{changed}");
                    assert_eq!(keys.decrypt("a", &changed), None, "{changed}");
                }
            }
            assert_eq!(keys.verify("a", &text[..at]), None);
            assert_eq!(keys.decrypt("a", &text[..at]), None);
        }
    }
    assert_eq!(keys.verify("a", &"ü".repeat(50)), None);
}

/// A server with a login, whose sessions count the requests.
fn server(options: SessionsOptions) -> Web {
    Web::serve(move || {
        let keys = CookieKeys::generate().unwrap();
        let sessions: Sessions<u32> = Sessions::new(keys, options);
        let routes = Router::new()
            .post("/login", |app: &mut Sessions<u32>, req, res| {
                let started = app.start(req, res, 0).map(|session| session.token().to_owned());
                match started {
                    Ok(token) => res.text(&token),
                    Err(SessionsFull) => res.status(503).text("full"),
                }
            })
            .post("/more", |app: &mut Sessions<u32>, req, res| {
                let token = app.rotate(req, res).map(|session| session.token().to_owned());
                res.text(token.as_deref().unwrap_or("none"));
            })
            .post("/logout", |app: &mut Sessions<u32>, req, res| {
                let had = app.revoke(req, res).is_some();
                res.text(if had { "bye" } else { "none" });
            })
            .post("/all", |app: &mut Sessions<u32>, _, res| {
                app.revoke_all(|requests| *requests > 0);
                res.text(&app.count().to_string());
            })
            .post("/", |app: &mut Sessions<u32>, req, res| {
                let sent = req.query_value("token").unwrap_or_default();
                let Some(session) = app.find(req, res) else { return res.text("none") };
                session.data += 1;
                let text = format!("{} {}", session.data, session.is_token(&sent));
                res.text(&text);
            });
        Server::new(sessions, routes)
    })
}

/// Asks with a cookie; the text and the cookie that is set.
#[track_caller]
fn ask(client: &mut Client, path: &str, cookie: &str) -> (String, Option<String>) {
    let answer = client.ask(format!("POST {path} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n"));
    let set = answer.field("set-cookie").map(|text| text.split("; ").next().unwrap().to_owned());
    (answer.text().to_owned(), set)
}

#[test]
fn row_62_an_id_that_is_forged_fixed_or_revoked_finds_no_session() {
    let web = server(SessionsOptions::default());
    let client = &mut web.client();
    assert_eq!(ask(client, "/", "x=1").0, "none");
    let (token, first) = ask(client, "/login", "x=1");
    let first = first.unwrap();
    assert!(first.starts_with("__Host-session="), "{first}");
    assert_eq!(first.len(), "__Host-session=".len() + 44 + 32);
    assert_eq!(ask(client, &format!("/?token={token}"), &first).0, "1 true");
    for forged in ["", "x", &token[1..], &token.to_uppercase()] {
        assert!(
            ask(client, &format!("/?token={forged}"), &first).0.ends_with("false")
                ^ (forged == token)
        );
    }
    // Forged: whatever the digits, the signature is of others.
    let forged =
        format!("{}{}", &first[..first.len() - 1], if first.ends_with('0') { 1 } else { 0 });
    assert_eq!(ask(client, "/", &forged).0, "none");
    assert_eq!(ask(client, "/", &format!("__Host-session={}", "0".repeat(32))).0, "none");
    // Fixed: the id from before the login is worth nothing after it.
    let (_, second) = ask(client, "/login", &first);
    let second = second.unwrap();
    assert_ne!(first, second);
    assert_eq!(
        (ask(client, "/", &first).0, ask(client, "/", &second).0),
        ("none".into(), "1 false".into())
    );
    let (token, third) = ask(client, "/more", &second);
    let third = third.unwrap();
    assert_eq!(ask(client, "/", &second).0, "none");
    assert_eq!(ask(client, &format!("/?token={token}"), &third).0, "2 true");
    // Replayed after the logout.
    let (text, removal) = ask(client, "/logout", &third);
    assert_eq!((&text[..], removal.as_deref()), ("bye", Some("__Host-session=")));
    assert_eq!(ask(client, "/", &third).0, "none");
    assert_eq!(ask(client, "/more", &third), ("none".into(), None));
    assert_eq!(ask(client, "/logout", &third).0, "none");
}

/// A page of a neighbour can set a cookie of that name for a path below, which browsers send first.
#[test]
fn a_session_is_found_behind_cookies_of_its_name_that_are_no_ids() {
    let web = server(SessionsOptions::default());
    let client = &mut web.client();
    let own = ask(client, "/login", "x=1").1.unwrap();
    let strange = format!("__Host-session={}", "0".repeat(76));
    for before in ["__Host-session=x".to_owned(), "__Host-session=".to_owned(), strange.clone()] {
        assert!(
            ask(client, "/", &format!("{before}; a=b; {own}")).0.ends_with("false"),
            "{before}"
        );
    }
    // Not so many that looking at them is work.
    assert_eq!(ask(client, "/", &format!("{}{own}", format!("{strange}; ").repeat(8))).0, "none");
    // All of them are of no session once it is over.
    let both = format!("__Host-session=x; {own}");
    assert_eq!(
        (ask(client, "/logout", &both).0, ask(client, "/", &own).0),
        ("bye".into(), "none".into())
    );
}

/// Asks with a cookie and a body; the text and the cookie that is set.
#[track_caller]
fn ask_with_body(
    client: &mut Client,
    path: &str,
    cookie: &str,
    body: &str,
) -> (String, Option<String>) {
    let fields = format!("Host: x\r\nCookie: {cookie}\r\nContent-Length: {}", body.len());
    let answer = client.ask(format!("POST {path} HTTP/1.1\r\n{fields}\r\n\r\n{body}"));
    let set = answer.field("set-cookie").map(|text| text.split("; ").next().unwrap().to_owned());
    (answer.text().to_owned(), set)
}

type Names = Sessions<String>;

#[test]
fn a_session_begins_is_found_and_ends_once_the_body_has_come() {
    let web = Web::serve(|| {
        let keys = CookieKeys::generate().unwrap();
        let routes = Router::new()
            .post("/login", |app: &mut Names, req, res| {
                let before = app.id(req);
                res.collect(100, |app, body, res| {
                    let name = String::from_utf8_lossy(body).into_owned();
                    match app.start(before, res, name) {
                        Ok(_) => res.text("in"),
                        Err(SessionsFull) => res.status(503).text("full"),
                    }
                });
            })
            .post("/rename", |app: &mut Names, req, res| {
                let id = app.id(req);
                res.collect(100, |app, body, res| {
                    let Some(session) = app.find(id.clone(), res) else { return res.text("none") };
                    session.data = String::from_utf8_lossy(body).into_owned();
                    app.rotate(id, res);
                    res.text("renamed");
                });
            })
            .post("/logout", |app: &mut Names, req, res| {
                let id = app.id(req);
                res.collect(100, |app, _, res| {
                    let name = app.revoke(id, res);
                    res.text(name.as_deref().unwrap_or("none"));
                });
            });
        Server::new(Sessions::new(keys, SessionsOptions::default()), routes)
    });
    let client = &mut web.client();
    let (text, first) = ask_with_body(client, "/login", "x=1", "ann");
    assert_eq!(text, "in");
    let first = first.unwrap();
    // The session from before is gone.
    let (_, second) = ask_with_body(client, "/login", &first, "ann");
    let second = second.unwrap();
    assert_eq!(ask_with_body(client, "/rename", &first, "eve"), ("none".into(), None));
    let (text, third) = ask_with_body(client, "/rename", &second, "bob");
    let third = third.unwrap();
    assert_eq!(text, "renamed");
    assert_eq!(ask_with_body(client, "/logout", &second, "now").0, "none");
    let (text, removal) = ask_with_body(client, "/logout", &third, "now");
    assert_eq!((&text[..], removal.as_deref()), ("bob", Some("__Host-session=")));
    assert_eq!(ask_with_body(client, "/logout", &third, "now").0, "none");
    // An id that is forged is none.
    assert_eq!(ask_with_body(client, "/logout", "__Host-session=1", "now").0, "none");
}

#[test]
fn sessions_are_bounded_and_expire() {
    let options = SessionsOptions::default().max_sessions(2).cookie_name("s".into()).secure(false);
    let web = server(options.clone());
    let client = &mut web.client();
    let (_, first) = ask(client, "/login", "x=1");
    let first = first.unwrap();
    ask(client, "/login", "x=1");
    assert_eq!(ask(client, "/login", "x=1"), ("full".into(), None));
    // Who is in is not thrown out, and may log in again.
    assert_eq!(ask(client, "/", &first).0, "1 false");
    let (_, again) = ask(client, "/login", &first);
    assert_eq!(ask(client, "/", &again.unwrap()).0, "1 false");
    assert_eq!(ask(client, "/all", "x=1").0, "1");

    let idle = Duration::from_millis(50);
    for options in [options.clone().idle_timeout(idle), options.lifetime(idle)] {
        let web = server(options);
        let client = &mut web.client();
        let began = Instant::now();
        let (_, cookie) = ask(client, "/login", "x=1");
        ask(client, "/login", "x=1");
        // The room of those that have expired is given to others.
        while ask(client, "/login", "x=1").0 == "full" {
            assert!(began.elapsed() < Duration::from_secs(10), "none has expired");
        }
        assert!(began.elapsed() >= Duration::from_millis(48));
        assert_eq!(ask(client, "/", &cookie.unwrap()).0, "none");
    }
}

/// Sessions, and the method that fails when it is called next.
#[derive(Default)]
struct Table {
    rows: HashMap<String, StoredSession>,
    failing: &'static str,
}

/// A store that fails when it is told to.
struct Store(Arc<Mutex<Table>>);

impl Store {
    fn rows<R>(
        &self,
        method: &str,
        run: impl FnOnce(&mut HashMap<String, StoredSession>) -> R,
    ) -> io::Result<R> {
        let mut table = self.0.lock().unwrap();
        if table.failing == method {
            table.failing = "";
            return Err(io::Error::other("on purpose"));
        }
        Ok(run(&mut table.rows))
    }
}

impl SessionStore for Store {
    fn load(&mut self, id: &SessionId) -> io::Result<Option<StoredSession>> {
        self.rows("load", |rows| rows.get(id.as_str()).cloned())
    }

    fn insert(&mut self, id: &SessionId, session: &StoredSession) -> io::Result<()> {
        self.rows("insert", |rows| drop(rows.insert(id.as_str().to_owned(), session.clone())))
    }

    fn touch(&mut self, _: &SessionId, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, id: &SessionId) -> io::Result<()> {
        self.rows("remove", |rows| drop(rows.remove(id.as_str())))
    }

    fn expire(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// A server that begins a session with `/login`, and says at `/` whether there is one.
fn stored(table: &Arc<Mutex<Table>>) -> Web {
    let table = Arc::clone(table);
    Web::serve_in(ListenOptions::default(), move |reactor| {
        let make = move |_| Ok(Store(Arc::clone(&table)));
        let options = OffloadOptions::default().threads(1);
        let offload = Offload::with_state(reactor, options, make).unwrap();
        let keys = CookieKeys::generate().unwrap();
        let sessions = StoredSessions::new(keys, SessionsOptions::default(), offload);
        let login = sessions.clone();
        let routes = Router::new()
            .get("/", move |(), req, res| {
                sessions.find(sessions.id(req), res, |(), found, res| {
                    res.text(if found.is_some() { "known" } else { "unknown" });
                });
            })
            .get("/login", move |(), req, res| {
                login.start(login.id(req), res, String::new(), |(), _, res| res.text("begun"));
            });
        Server::new((), routes)
    })
}

#[test]
fn a_store_that_fails_at_a_login_leaves_the_session_that_there_was_and_no_other() {
    let table = Arc::<Mutex<Table>>::default();
    let web = stored(&table);
    let client = &mut web.client();
    let mut ask = |path: &str, cookie: &str| {
        let answer =
            client.ask(format!("GET {path} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n"));
        let set = answer.field("Set-Cookie").map(|it| it.split(';').next().unwrap().to_owned());
        (answer.status, answer.text().to_owned(), set)
    };
    let first = ask("/login", "").2.unwrap();
    for failing in ["insert", "remove"] {
        table.lock().unwrap().failing = failing;
        let (status, _, set) = ask("/login", &first);
        assert_eq!((status, set), (500, None), "{failing}");
        assert_eq!(mem::take(&mut table.lock().unwrap().failing), "", "it has failed");
        assert_eq!(ask("/", &first).1, "known", "{failing}");
        assert_eq!(table.lock().unwrap().rows.len(), 1, "{failing}");
    }
    let second = ask("/login", &first).2.unwrap();
    assert_eq!((&*ask("/", &first).1, &*ask("/", &second).1), ("unknown", "known"));
}
