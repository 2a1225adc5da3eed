//! Files of a directory: rows 47 to 49, forms, types, and the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use waterwheel::ListenOptions;
use waterwheel::http::{self, Files, Request, Response, Router, Server};
use waterwheel::offload::{Offload, OffloadOptions};

use crate::web::{Answer, Client, Web};

#[test]
#[should_panic(expected = "give the path of files without its last part: \"/static/{*path}\"")]
fn a_path_of_files_has_no_place_for_the_rest() {
    let _ = Router::<()>::new().files("/static/{*path}", Files::new("."));
}

/// A directory that is removed when the test is over, in one of its own.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("waterwheel-files-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        let root = path.join("root");
        fs::create_dir_all(&root).unwrap();
        Self(root)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, as old as an hour.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        self.write_at(name, content, 3_600);
    }

    pub(crate) fn write_at(&self, name: &str, content: impl AsRef<[u8]>, age_seconds: u64) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let time = SystemTime::now() - Duration::from_secs(age_seconds);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }

    /// Serves it below `/s`.
    pub(crate) fn serve(&self, set: impl FnOnce(Files) -> Files + Send + 'static) -> Web {
        let root = self.0.clone();
        Web::of(move || Router::new().files("/s", set(Files::new(root))))
    }

    /// Likewise, with what is not in memory opened beside the loop.
    pub(crate) fn serve_offloaded(&self, set: impl FnOnce(Files) -> Files + Send + 'static) -> Web {
        let root = self.0.clone();
        let listen = ListenOptions::default().limits(http::limits());
        Web::serve_in(listen, move |reactor| {
            let offload = Offload::new(reactor, OffloadOptions::default()).unwrap();
            let files = set(Files::new(root)).offload(&offload);
            Server::new((), Router::new().files("/s", files))
        })
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

/// A directory with a file of ten bytes, and its server.
fn ten() -> (Dir, Web) {
    let dir = Dir::new();
    dir.write("ten.txt", "0123456789");
    let web = dir.serve(|files| files);
    (dir, web)
}

/// Sends a request for the file with these fields.
#[track_caller]
pub(crate) fn ask(client: &mut Client, method: &str, path: &str, fields: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    client.send(request);
    if method == "HEAD" { client.answer_to_head() } else { client.answer() }
}

#[track_caller]
fn get(client: &mut Client, fields: &str) -> Answer {
    ask(client, "GET", "/s/ten.txt", fields)
}

fn http_date(ago_seconds: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let (days, second) = ((now - ago_seconds) / 86_400, (now - ago_seconds) % 86_400);
    // Civil from days, for dates after 1970.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let names = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let months =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (name, month) = (names[(days % 7) as usize], months[(month - 1) as usize]);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{name}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

#[test]
fn a_file_has_its_fields() {
    let (_dir, web) = ten();
    let mut client = web.client();
    let answer = get(&mut client, "").expect(200, "0123456789");
    assert_eq!(answer.field("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.field("accept-ranges"), Some("bytes"));
    assert_eq!(answer.field("content-length"), Some("10"));
    assert_eq!((answer.field("vary"), answer.field("cache-control")), (None, None));
    assert!(answer.field("etag").unwrap().starts_with('"'));
    assert_eq!(answer.field("last-modified").map(str::len), Some(29));
    let head = ask(&mut client, "HEAD", "/s/ten.txt", "");
    let without_date = |answer: &Answer| {
        let lines: Vec<_> = answer.head.lines().map(str::to_owned).collect();
        lines.into_iter().filter(|line| !line.starts_with("Date")).collect::<Vec<_>>()
    };
    assert_eq!(without_date(&head), without_date(&answer));
    get(&mut client, "").expect(200, "0123456789");
    let answer = ask(&mut client, "POST", "/s/ten.txt", "Content-Length: 0\r\n");
    assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD, OPTIONS")));
}

#[test]
fn types_by_ending() {
    let dir = Dir::new();
    for name in ["a.html", "a.css", "a.js", "a.json", "a.png", "a.PDF", "a", "a.unknown", "a.svg"] {
        dir.write(name, "x");
    }
    let web = dir.serve(|files| files.cache_control("max-age=60"));
    let mut client = web.client();
    for (name, expected) in [
        ("a.html", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a.PDF", "application/pdf"),
        ("a", "application/octet-stream"),
        ("a.unknown", "application/octet-stream"),
        ("a.svg", "image/svg+xml"),
    ] {
        let answer = client.get(&format!("/s/{name}"));
        assert_eq!(answer.field("content-type"), Some(expected));
        assert_eq!(answer.field("cache-control"), Some("max-age=60"));
    }
}

#[test]
fn row_47_ranges() {
    let (_dir, web) = ten();
    let mut client = web.client();
    for (range, status, body, content_range) in [
        ("bytes=0-3", 206, "0123", Some("bytes 0-3/10")),
        ("bytes=8-", 206, "89", Some("bytes 8-9/10")),
        ("bytes=-2", 206, "89", Some("bytes 8-9/10")),
        ("bytes=-20", 206, "0123456789", Some("bytes 0-9/10")),
        ("bytes=5-99", 206, "56789", Some("bytes 5-9/10")),
        ("bytes=0-1,4-5", 200, "0123456789", None),
        ("bytes=0-1,0-1,0-1,0-1,0-1,0-1,0-1,0-1,0-1", 200, "0123456789", None),
        ("bytes=5-2", 200, "0123456789", None),
        ("lines=0-1", 200, "0123456789", None),
        ("bytes=x", 200, "0123456789", None),
    ] {
        let answer = get(&mut client, &format!("Range: {range}\r\n")).expect(status, body);
        assert_eq!(answer.field("content-range"), content_range, "{range}");
        assert_eq!(answer.field("content-length"), Some(body.len().to_string().as_str()));
    }
    for range in ["bytes=10-", "bytes=-0", "bytes=99-100"] {
        let answer = get(&mut client, &format!("Range: {range}\r\n"));
        assert_eq!((answer.status, answer.field("content-range")), (416, Some("bytes */10")));
    }
    get(&mut client, "Range: bytes=0-1\r\nRange: bytes=2-3\r\n").expect(200, "0123456789");
    let head = ask(&mut client, "HEAD", "/s/ten.txt", "Range: bytes=0-1\r\n");
    assert_eq!((head.status, head.field("content-length")), (200, Some("10")));
}

#[test]
fn row_48_precedence_of_conditions() {
    let (_dir, web) = ten();
    let mut client = web.client();
    let first = get(&mut client, "");
    let (tag, date) = (first.field("etag").unwrap(), first.field("last-modified").unwrap());
    let (old, new) = (http_date(7_200), http_date(60));
    for (fields, status) in [
        (format!("If-None-Match: {tag}"), 304),
        (format!("If-None-Match: W/{tag}"), 304),
        (format!("If-None-Match: \"a,b\", W/\"x\" , {tag}"), 304),
        (format!("If-None-Match: \"a\"\r\nIf-None-Match: {tag}"), 304),
        ("If-None-Match: *".to_owned(), 304),
        ("If-None-Match: \"x\"".to_owned(), 200),
        // The tag decides, and not the date.
        (format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}"), 200),
        (format!("If-None-Match: {tag}\r\nIf-Modified-Since: {old}"), 304),
        (format!("If-Modified-Since: {date}"), 304),
        (format!("If-Modified-Since: {new}"), 304),
        (format!("If-Modified-Since: {old}"), 200),
        (format!("If-Match: {tag}"), 200),
        ("If-Match: *".to_owned(), 200),
        (format!("If-Match: \"x\", {tag}"), 200),
        (format!("If-Match: W/{tag}"), 412),
        ("If-Match: \"x\"".to_owned(), 412),
        (format!("If-Match: {tag}\r\nIf-Unmodified-Since: {old}"), 200),
        (format!("If-Match: \"x\"\r\nIf-None-Match: {tag}"), 412),
        (format!("If-Match: {tag}\r\nIf-None-Match: {tag}"), 304),
        (format!("If-Unmodified-Since: {old}"), 412),
        (format!("If-Unmodified-Since: {date}"), 200),
        (format!("If-Unmodified-Since: {old}\r\nIf-None-Match: {tag}"), 412),
        ("If-Unmodified-Since: yesterday".to_owned(), 200),
        // A condition that fails goes before a range.
        (format!("If-None-Match: {tag}\r\nRange: bytes=0-1"), 304),
        (format!("If-Match: {tag}\r\nRange: bytes=0-1"), 206),
    ] {
        let answer = get(&mut client, &format!("{fields}\r\n"));
        assert_eq!(answer.status, status, "{fields}");
        if status == 304 {
            assert_eq!(answer.field("etag"), Some(tag));
            assert_eq!(answer.field("content-type"), None);
            assert_eq!(
                ask(&mut client, "HEAD", "/s/ten.txt", &format!("{fields}\r\n")).status,
                304
            );
        }
    }
}

#[test]
fn row_48_if_range_wants_a_strong_tag_or_the_date() {
    let (_dir, web) = ten();
    let mut client = web.client();
    let first = get(&mut client, "");
    let (tag, date) = (first.field("etag").unwrap(), first.field("last-modified").unwrap());
    for (value, status) in [
        (tag.to_owned(), 206),
        (date.to_owned(), 206),
        (format!("W/{tag}"), 200),
        ("\"x\"".to_owned(), 200),
        (http_date(60), 200),
        (format!("{tag}, \"x\""), 200),
    ] {
        let fields = format!("Range: bytes=0-1\r\nIf-Range: {value}\r\n");
        assert_eq!(get(&mut client, &fields).status, status, "{value}");
    }
    let fields = format!("Range: bytes=0-1\r\nIf-Range: {tag}\r\nIf-Range: {tag}\r\n");
    assert_eq!(get(&mut client, &fields).status, 200);
    assert_eq!(get(&mut client, &format!("If-Range: {tag}\r\n")).status, 200);
}

#[test]
fn row_49_a_date_that_is_invalid_or_to_come_is_ignored() {
    let (_dir, web) = ten();
    let mut client = web.client();
    let future = http_date(-3_600);
    for value in ["", "yesterday", "0", "Sun, 06 Nov 1994", future.as_str()] {
        get(&mut client, &format!("If-Modified-Since: {value}\r\n")).expect(200, "0123456789");
    }
    let twice = format!("If-Modified-Since: {0}\r\nIf-Modified-Since: {0}\r\n", http_date(60));
    get(&mut client, &twice).expect(200, "0123456789");
    // A file from the future has no date that is sent, and none that is nothing.
    let (dir, _) = ten();
    let time = SystemTime::now() + Duration::from_secs(3_600);
    File::options().write(true).open(dir.0.join("ten.txt")).unwrap().set_modified(time).unwrap();
    let web = dir.serve(|files| files);
    let mut client = web.client();
    get(&mut client, "If-Modified-Since:\r\n").expect(200, "0123456789");
    get(&mut client, "Range: bytes=0-1\r\nIf-Range:\r\n").expect(200, "0123456789");
}

#[test]
fn a_compressed_copy_goes_to_those_who_take_it() {
    let dir = Dir::new();
    dir.write("a.js", "plain");
    dir.write("a.js.gz", "gzip!!");
    dir.write_at("a.js.br", "br", 1_000);
    dir.write("b.js", "plain");
    dir.write_at("b.js.gz", "of what it was before", 7_200);
    let web = dir.serve(|files| files);
    let mut client = web.client();
    for (accepted, body, coding) in [
        ("gzip, br", "br", Some("br")),
        ("gzip;q=1, br;q=0.5", "gzip!!", Some("gzip")),
        ("gzip;q=0", "plain", None),
        ("*", "br", Some("br")),
        ("zstd, gzip;q=0.1", "gzip!!", Some("gzip")),
    ] {
        let fields = format!("Accept-Encoding: {accepted}\r\n");
        let answer = ask(&mut client, "GET", "/s/a.js", &fields).expect(200, body);
        assert_eq!(answer.field("content-encoding"), coding, "{accepted}");
        assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
        assert_eq!(answer.field("content-type"), Some("text/javascript; charset=utf-8"));
        // Each form has its own tag, and its own ranges.
        let tag = answer.field("etag").unwrap();
        let again = format!("{fields}If-None-Match: {tag}\r\n");
        let answer = ask(&mut client, "GET", "/s/a.js", &again);
        assert_eq!((answer.status, answer.field("vary")), (304, Some("Accept-Encoding")));
        let other = format!("Accept-Encoding: identity;q=0.3\r\nIf-None-Match: {tag}\r\n");
        let expected = if coding.is_some() { 200 } else { 304 };
        assert_eq!(ask(&mut client, "GET", "/s/a.js", &other).status, expected);
        let part = format!("{fields}Range: bytes=1-1\r\n");
        let answer = ask(&mut client, "GET", "/s/a.js", &part).expect(206, &body[1..2]);
        assert_eq!(answer.field("content-encoding"), coding);
    }
    assert_eq!(client.get("/s/a.js").expect(200, "plain").field("vary"), Some("Accept-Encoding"));
    let answer = ask(&mut client, "GET", "/s/b.js", "Accept-Encoding: gzip\r\n");
    assert_eq!(answer.expect(200, "plain").field("vary"), None);
    let answer = ask(&mut client, "GET", "/s/a.js.gz", "Accept-Encoding: gzip\r\n");
    let answer = answer.expect(200, "gzip!!");
    let types = (answer.field("content-type"), answer.field("content-encoding"));
    assert_eq!(types, (Some("application/gzip"), None));
    let web = dir.serve(|files| files.precompressed(false));
    ask(&mut web.client(), "GET", "/s/a.js", "Accept-Encoding: gzip\r\n").expect(200, "plain");
}

#[test]
fn directories_have_an_index_and_a_slash() {
    let dir = Dir::new();
    dir.write("index.html", "root");
    dir.write("a b/index.html", "inner");
    dir.write("empty/x", "x");
    let web = dir.serve(|files| files);
    let mut client = web.client();
    client.get("/s/").expect(200, "root");
    client.get("/s/index.html").expect(200, "root");
    client.get("/s/a%20b/").expect(200, "inner");
    for (path, location) in [
        ("/s", "/s/"),
        ("/s?x=1", "/s/?x=1"),
        ("/s/a%20b", "/s/a%20b/"),
        ("/s/a%20b?y=%0d", "/s/a%20b/?y=%0d"),
        ("/s/empty", "/s/empty/"),
        ("//s/../s/empty", "/s/empty/"),
    ] {
        let answer = client.get(path);
        if path.starts_with("//") {
            assert_eq!(answer.status, 404);
            continue;
        }
        assert_eq!((answer.status, answer.field("location")), (301, Some(location)), "{path}");
    }
    for path in ["/s/empty/", "/s/index.html/", "/s/nothing", "/s/nothing/", "/s//"] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
    let root = dir.path().to_owned();
    let web = Web::of(move || {
        let files = Files::new(root).index(Some("x"));
        Router::new().get("/api", |_, _, res| res.text("api")).files("/", files)
    });
    let mut client = web.client();
    client.get("/api").expect(200, "api");
    client.get("/empty/").expect(200, "x");
    assert_eq!(client.get("/").status, 404);
    // No answer leads to another host.
    let answer = client.get("//empty");
    assert_eq!((answer.status, answer.field("location")), (404, None));
}

#[test]
fn a_change_shows_after_a_second() {
    for (size, is_offloaded) in [(10, false), (70_000, false), (10, true), (70_000, true)] {
        let dir = Dir::new();
        let text = |letter: u8| String::from_utf8(vec![letter; size]).unwrap();
        dir.write("x", text(b'a'));
        dir.write_at("gone", text(b'g'), 10);
        let web = match is_offloaded {
            true => dir.serve_offloaded(|files| files),
            false => dir.serve(|files| files),
        };
        let mut client = web.client();
        let tag = client.get("/s/x").expect(200, &text(b'a')).field("etag").map(str::to_owned);
        client.get("/s/x").expect(200, &text(b'a'));
        client.get("/s/gone").expect(200, &text(b'g'));
        dir.write_at("new", text(b'b'), 30);
        fs::rename(dir.path().join("new"), dir.path().join("x")).unwrap();
        fs::remove_file(dir.path().join("gone")).unwrap();
        thread::sleep(Duration::from_millis(1_100));
        let answer = client.get("/s/x").expect(200, &text(b'b'));
        assert_ne!(answer.field("etag").map(str::to_owned), tag);
        client.get("/s/x").expect(200, &text(b'b'));
        assert_eq!(client.get("/s/gone").status, 404);
        assert_eq!(client.get("/s/gone").status, 404, "again");
    }
}

#[test]
fn the_caches_are_bounded() {
    let dir = Dir::new();
    for number in 0..40 {
        dir.write(&format!("small{number}"), format!("{number}"));
        dir.write(&format!("large{number}"), vec![number; 70_000]);
    }
    for (bytes, files) in [(0, 0), (2_000, 1), (20_000, 3), (1 << 20, 100)] {
        let web = dir.serve(move |served| served.max_cache_bytes(bytes).max_open_files(files));
        let mut client = web.client();
        for number in (0..40).chain(0..40).chain((0..40).rev()) {
            client.get(&format!("/s/small{number}")).expect(200, &number.to_string());
            assert_eq!(client.get(&format!("/s/large{number}")).body, vec![number; 70_000]);
        }
    }
}

/// The same answers as without, before and after the file is in memory.
#[test]
fn files_are_opened_beside_the_loop_and_answered_alike() {
    let dir = Dir::new();
    dir.write("ten.txt", "0123456789");
    dir.write("large", vec![b'l'; 200_000]);
    dir.write("sub/index.html", "<p>");
    let (plain, offloaded) = (dir.serve(|files| files), dir.serve_offloaded(|files| files));
    let cases = [
        ("GET", "/s/ten.txt", ""),
        ("GET", "/s/ten.txt", "Range: bytes=2-4\r\n"),
        ("GET", "/s/ten.txt", "Range: bytes=20-\r\n"),
        ("GET", "/s/ten.txt", "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT\r\n"),
        ("GET", "/s/ten.txt", "If-None-Match: *\r\n"),
        ("GET", "/s/ten.txt", "If-Match: \"no\"\r\n"),
        ("GET", "/s/large", "Range: bytes=199999-\r\n"),
        ("GET", "/s/sub?a=b", ""),
        ("GET", "/s/sub/", ""),
        ("GET", "/s/nothing", ""),
        ("GET", "/s/..%2f", ""),
        ("HEAD", "/s/ten.txt", ""),
    ];
    let told = |web: &Web, (method, path, fields)| {
        let mut client = web.client();
        let answer = ask(&mut client, method, path, fields);
        let named = ["content-range", "etag", "location", "content-type", "content-length"];
        let named = named.map(|name| answer.field(name).map(str::to_owned));
        (answer.status, named, answer.body)
    };
    for case in cases {
        let fresh = dir.serve_offloaded(|files| files);
        let expected = told(&plain, case);
        assert_eq!(told(&fresh, case), expected, "{case:?}, not in memory");
        assert_eq!(told(&offloaded, case), expected, "{case:?}");
        assert_eq!(told(&offloaded, case), expected, "{case:?}, again");
    }
}

/// A file that is known is served although no thread is free.
#[test]
fn a_file_in_memory_asks_no_thread() {
    let dir = Dir::new();
    dir.write("ten.txt", "0123456789");
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let (root, listen) = (dir.path().to_owned(), ListenOptions::default().limits(http::limits()));
    let web = Web::serve_in(listen, move |reactor| {
        let options = OffloadOptions::default().threads(1).max_queued(1);
        let offload = Offload::new(reactor, options).unwrap();
        let files = Files::new(root).offload(&offload);
        let mut gate = Some(gate);
        let block = move |(): &mut (), _: &Request<'_>, res: &mut Response<'_, ()>| {
            if let Some(gate) = gate.take() {
                let (begun, has_begun) = std::sync::mpsc::channel();
                let work = move |(): &mut ()| {
                    begun.send(()).unwrap();
                    assert!(gate.recv().is_err());
                };
                offload.run_alone((), work).unwrap();
                has_begun.recv().unwrap();
                while offload.run_alone((), |()| ()).is_ok() {}
            }
            res.text("blocked\n");
        };
        Server::new((), Router::new().files("/s", files).get("/block", block))
    });
    let mut client = web.client();
    for _ in 0..2 {
        // The second one takes what the first has found into the cache.
        assert_eq!(ask(&mut client, "GET", "/s/ten.txt", "").status, 200);
    }
    assert_eq!(ask(&mut client, "GET", "/block", "").status, 200);
    assert_eq!(ask(&mut client, "GET", "/s/ten.txt", "").text(), "0123456789");
    let busy = ask(&mut client, "GET", "/s/other.txt", "");
    assert_eq!((busy.status, busy.field("retry-after")), (503, Some("1")));
    drop(open);
}
