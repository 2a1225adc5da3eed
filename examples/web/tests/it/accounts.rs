//! Users of the server: login, notes, and what a stranger cannot do.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::peers::Dir;
use crate::process::Process;
use crate::servers::{Client, expect_clean_end};
use crate::{Answer, WEB};

/// A browser that keeps one cookie.
struct Browser {
    client: Client,
    cookie: Option<String>,
}

impl Browser {
    fn new(addr: SocketAddr) -> Self {
        Self { client: Client::connect(addr), cookie: None }
    }

    #[track_caller]
    fn send(&mut self, method: &str, target: &str, more: &str, body: &str) -> Answer {
        let cookie = self.cookie.as_ref().map(|cookie| format!("Cookie: {cookie}\r\n"));
        let (cookie, length) = (cookie.unwrap_or_default(), body.len());
        self.client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{cookie}{more}"));
        self.client.send("Content-Type: application/x-www-form-urlencoded\r\n");
        self.client.send(format!("Content-Length: {length}\r\n\r\n{body}"));
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &String| !line.is_empty()) {
            lines.push(self.client.line());
        }
        if let Some(set) = lines.iter().find_map(|line| line.strip_prefix("Set-Cookie: ")) {
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        let status = lines[0].split(' ').nth(1).expect(&lines[0]).parse().expect(&lines[0]);
        let fields: Vec<_> = lines.iter().map(|line| line.to_ascii_lowercase()).collect();
        let length = fields.iter().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap_or("0").parse().unwrap()];
        self.client.stream.read_exact(&mut body).unwrap();
        Answer { status, fields, body }
    }

    #[track_caller]
    fn log_in(&mut self, name: &str, password: &str) -> u16 {
        self.send("POST", "/login", "", &format!("name={name}&password={password}")).status
    }

    /// The page of notes.
    #[track_caller]
    fn notes(&mut self) -> String {
        let page = self.send("GET", "/notes", "", "");
        assert_eq!(page.status, 200, "{page:?}");
        String::from_utf8(page.body).unwrap()
    }

    #[track_caller]
    fn token(&mut self) -> String {
        let page = self.notes();
        let (_, rest) = page.split_once("name=token value=").expect(&page);
        rest[..32].to_owned()
    }
}

fn add_user(database: &Path, name: &str, password: &str) {
    let mut child = Command::new(WEB)
        .args(["--db", database.to_str().unwrap(), "--add-user", name])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    assert!(child.wait().unwrap().success());
}

/// A server with two users; its keys are those of a file.
fn serve(dir: &Dir, more: &[&str]) -> (Process, SocketAddr) {
    use std::os::unix::fs::OpenOptionsExt;
    let (database, keys) = (dir.path("web.db"), dir.path("keys"));
    if !keys.exists() {
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.write(true).create_new(true).mode(0o600).open(&keys).unwrap();
        writeln!(file, "{}", "0123456789abcdef".repeat(8)).unwrap();
        add_user(&database, "ann", "secret");
        add_user(&database, "bob", "other");
    }
    let mut args = vec!["--db", database.to_str().unwrap(), "--keys", keys.to_str().unwrap()];
    args.extend(more);
    Process::serve(WEB, &args)
}

#[test]
fn notes_are_those_of_the_user_and_outlive_the_server() {
    let dir = Dir::new();
    let (server, addr) = serve(&dir, &[]);
    let mut ann = Browser::new(addr);
    let stranger = ann.send("GET", "/notes", "", "");
    assert!(stranger.status == 303 && stranger.has("location: /login"), "{stranger:?}");
    assert_eq!(ann.log_in("ann", "secret"), 303);
    let token = ann.token();
    let note = format!("token={token}&text=%3Cb%3E+milk+%26+%22eggs%22");
    assert_eq!(ann.send("POST", "/notes", "", &note).status, 303);
    assert!(ann.notes().contains("<li>&lt;b&gt; milk &amp; &quot;eggs&quot;\n"));
    let mut bob = Browser::new(addr);
    assert_eq!(bob.log_in("bob", "other"), 303);
    assert!(!bob.notes().contains("milk"));
    let cookie = ann.cookie.clone();
    drop((ann, bob));
    expect_clean_end(server);

    let (server, addr) = serve(&dir, &["--threads", "2"]);
    let mut ann = Browser::new(addr);
    ann.cookie = cookie.clone();
    assert!(ann.notes().contains("milk"), "the session and the notes are in the database");
    let token = ann.token();
    assert_eq!(ann.send("POST", "/logout", "", &format!("token={token}")).status, 303);
    ann.cookie = cookie; // a copy of the cookie
    assert_eq!(ann.send("GET", "/notes", "", "").status, 303);
    drop(ann);
    server.terminate();
    assert_eq!(server.end().code, Some(0));
}

#[test]
fn what_another_site_sends_changes_nothing() {
    let dir = Dir::new();
    let (server, addr) = serve(&dir, &[]);
    let mut ann = Browser::new(addr);
    let cross = "Sec-Fetch-Site: cross-site\r\n";
    assert_eq!(ann.send("POST", "/login", cross, "name=ann&password=secret").status, 403);
    assert_eq!(ann.log_in("ann", "secret"), 303);
    for token in ["", "token=&", "token=0123456789abcdef0123456789abcdef&"] {
        let body = format!("{token}text=forged");
        assert_eq!(ann.send("POST", "/notes", "", &body).status, 403, "{token}");
        assert_eq!(ann.send("POST", "/logout", "", token).status, 403, "{token}");
    }
    assert!(!ann.notes().contains("forged"));
    drop(ann);
    expect_clean_end(server);
}

#[test]
fn a_login_gives_a_new_session_in_a_cookie_that_scripts_cannot_read() {
    let dir = Dir::new();
    let (server, addr) = serve(&dir, &[]);
    let mut ann = Browser::new(addr);
    let told = ann.send("POST", "/login", "", "name=ann&password=secret");
    let set = told.fields.iter().find(|line| line.starts_with("set-cookie: session=")).unwrap();
    assert!(set.contains("httponly") && set.contains("samesite=lax"), "{set}");
    let first = ann.cookie.clone();
    assert_eq!(ann.log_in("ann", "secret"), 303);
    assert_ne!(ann.cookie, first);
    ann.cookie = first;
    assert_eq!(ann.send("GET", "/notes", "", "").status, 303, "the one before it is over");
    drop(ann);
    expect_clean_end(server);
}

#[test]
fn tries_are_refused_alike_and_limited() {
    let dir = Dir::new();
    let (server, addr) = serve(&dir, &[]);
    let mut eve = Browser::new(addr);
    let refused: Vec<Answer> = ["name=ann&password=x", "name=nobody&password=x"]
        .map(|body| eve.send("POST", "/login", "", body))
        .into();
    for told in &refused {
        told.expect(401, "the name or the password is wrong\n");
    }
    let statuses: Vec<u16> = (0..6).map(|_| eve.log_in("ann", "wrong")).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 429, 429]);
    // Also with the right one, and by somebody else; other accounts are not hindered.
    assert_eq!(eve.log_in("ann", "secret"), 429);
    assert_eq!(eve.log_in("bob", "other"), 303);
    // Every name is limited, whether there is such a user or not.
    let statuses: Vec<u16> = (0..5).map(|_| eve.log_in("nobody", "wrong")).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 429]);
    // The source has used up its tries, 20 at once.
    let refused = (0..200).find(|at| eve.log_in(&format!("u{at}"), "x") == 429);
    assert!(refused.is_some_and(|tries| tries >= 3), "{refused:?}");
    drop(eve);
    expect_clean_end(server);
}
