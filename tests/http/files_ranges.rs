//! Ranges of files: the cases of lighttpd's and of nginx's tests. Both answer several ranges in
//! parts, and what is malformed with 416. Here several are answered whole, and what is malformed is
//! ignored: RFC 9110, 14.2 leaves both to the server.

use crate::files::{Dir, ask};
use crate::web::{Answer, Client, Web};

/// A directory with a file of so many bytes, each of which tells its place, and its server.
fn file(length: usize) -> (Dir, Web, String) {
    let dir = Dir::new();
    let text: String = (0..length)
        .map(|at| char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[at * 7 % 36]))
        .collect();
    dir.write("text.txt", &text);
    let web = dir.serve(|files| files);
    (dir, web, text)
}

#[track_caller]
fn get(client: &mut Client, fields: &str) -> Answer {
    ask(client, "GET", "/s/text.txt", fields)
}

/// One range, which is answered with that part.
#[track_caller]
fn expect_part(client: &mut Client, text: &str, range: &str, (first, last): (usize, usize)) {
    let answer = get(client, &format!("Range: {range}\r\n"));
    assert_eq!((answer.status, answer.text()), (206, &text[first..=last]), "{range}");
    let content_range = format!("bytes {first}-{last}/{}", text.len());
    assert_eq!(answer.field("content-range"), Some(content_range.as_str()));
    assert_eq!(answer.field("content-length"), Some((last - first + 1).to_string().as_str()));
}

#[test]
fn row_47_one_range() {
    for (length, parts) in [
        (1, &[("bytes=0-0", (0, 0)), ("bytes=0-", (0, 0)), ("bytes=-1", (0, 0))][..]),
        (2, &[("bytes=0-1", (0, 1)), ("bytes=1-1", (1, 1))]),
        (
            6,
            &[
                ("bytes=0-3", (0, 3)),
                ("bytes=-3", (3, 5)),
                ("bytes=3-", (3, 5)),
                ("bytes=0-", (0, 5)),
            ],
        ),
        (
            1_000,
            &[
                ("bytes=0-8", (0, 8)),
                ("bytes=-10", (990, 999)),
                ("bytes=990-999", (990, 999)),
                ("bytes=990-1990", (990, 999)),
                ("bytes=0-10001", (0, 999)),
                ("bytes=-1000", (0, 999)),
                ("bytes=-1001", (0, 999)),
            ],
        ),
        // One that is sent from the file, and not from memory.
        (
            100_000,
            &[
                ("bytes=0-0", (0, 0)),
                ("bytes=99999-", (99_999, 99_999)),
                ("bytes=1-99998", (1, 99_998)),
                ("bytes=-70000", (30_000, 99_999)),
            ],
        ),
    ] {
        let (_dir, web, text) = file(length);
        let mut client = web.client();
        for (range, part) in parts {
            expect_part(&mut client, &text, range, *part);
        }
    }
}

#[test]
fn row_47_several_ranges_are_answered_whole() {
    let (_dir, web, text) = file(1_000);
    let mut client = web.client();
    for range in [
        "bytes=0-1,3-4",
        "bytes=0-9, -10",
        "bytes=0-9, -10, 10-19",
        "bytes=0-9, -10, 10000-",
        "bytes=0-10001, 0-0",
        "bytes=0-1,1-2,2-3,3-4,4-5,5-6,6-7,7-8,8-9,9-10,10-11,11-12",
        "bytes=1-2,2-3,3-4,4-5,5-6,6-7,7-8,8-9,0-1",
        "bytes=9-10,8-9,7-8,6-7,5-6,4-5,3-4,2-3,1-2,0-1",
        "bytes=10-11,9-10,8-9,7-8,6-7,5-6,4-5,3-4,2-3,1-2,0-1",
        "bytes=0-1,100-100,200-200,300-300,400-400,500-500,600-600,700-700,800-800,900-900",
        "bytes=100-100,200-200,300-300,400-400,500-500,600-600,700-700,800-800,900-900,0-100",
        "bytes=1-2,2-3,3-4,4-5,5-6,6-7,7-8,8-9,9-10,10-11,11-12,0-1",
    ] {
        let answer = get(&mut client, &format!("Range: {range}\r\n")).expect(200, &text);
        assert_eq!(answer.field("content-range"), None, "{range}");
    }
}

#[test]
fn row_47_what_is_no_range_and_what_is_not_in_the_file() {
    let (_dir, web, text) = file(6);
    let mut client = web.client();
    for range in ["bytes=-0", "bytes=6-", "bytes=25-", "bytes=100000-"] {
        let answer = get(&mut client, &format!("Range: {range}\r\n"));
        assert_eq!(answer.status, 416, "{range}");
        assert_eq!(answer.field("content-range"), Some("bytes */6"), "{range}");
        assert!(!answer.text().contains(&text));
    }
    for fields in [
        "Range: bytes=0--\r\n",
        "Range: bytes=-2-3\r\n",
        "Range: bytes=alpha\r\n",
        "Range: bytes=1-alpha\r\n",
        "Range: bytes=1\r\n",
        "Range: bytes=1-2 3-\r\n",
        // Two fields are none, in either order; lighttpd takes the first.
        "Range: 0\r\nRange: bytes=0-3\r\n",
        "Range: bytes=0-3\r\nRange: 0\r\n",
        "Range: bytes=5-6\r\nRange: bytes=5-9\r\n",
    ] {
        get(&mut client, fields).expect(200, &text);
    }
}

#[test]
fn row_48_conditions_that_are_there_twice() {
    let (_dir, web, text) = file(6);
    let mut client = web.client();
    let first = get(&mut client, "");
    let (tag, date) = (first.field("etag").unwrap(), first.field("last-modified").unwrap());
    let old = "Thu, 01 Jan 1970 00:00:01 GMT";
    // nginx refuses all of these. Those with tags are lists, of which the lines are one (RFC 9110,
    // 5.3); those with dates are not, and say nothing then.
    for (name, values, status) in [
        ("If-Match", ["\"x\"", tag], 200),
        ("If-Match", ["\"x\"", "\"y\""], 412),
        ("If-None-Match", ["\"x\"", tag], 304),
        ("If-None-Match", ["\"x\"", "\"y\""], 200),
        ("If-Modified-Since", [date, date], 200),
        ("If-Unmodified-Since", [old, old], 200),
        ("Range: bytes=0-1\r\nIf-Range", [tag, tag], 200),
    ] {
        let fields: String = values.iter().map(|value| format!("{name}: {value}\r\n")).collect();
        let answer = get(&mut client, &fields);
        assert_eq!(answer.status, status, "{fields}");
        if status == 200 {
            assert_eq!(answer.text(), text);
        }
    }
}

#[test]
fn row_48_lists_of_tags_that_are_nearly_right() {
    let (_dir, web, _) = file(6);
    let mut client = web.client();
    let first = get(&mut client, "");
    let (tag, date) = (first.field("etag").unwrap(), first.field("last-modified").unwrap());
    let inner = tag.trim_matches('"');
    for (value, status) in [
        ("foo".to_owned(), 200),
        (tag.to_owned(), 304),
        (format!("\"{inner}"), 200),
        (inner.to_owned(), 200),
        ("*".to_owned(), 304),
        ("\"*\"".to_owned(), 200),
        (format!("W/{tag}"), 304),
        ("W/\"12345\"".to_owned(), 200),
        (format!("W/\"12345\", {tag}"), 304),
        (format!("W/\"12345\", {tag}, W/{tag}"), 304),
        (format!("\"12345\",, ,,  ,  {tag}"), 304),
        (format!("\"1234\", {tag}, \"brokentrailing"), 304),
        (format!("\"foo\", \"bar\", \t{tag} , \"baz\""), 304),
    ] {
        // With a range too: the condition is judged first, and weakly (RFC 9110, 13.1.2); lighttpd
        // leaves a weak tag out then.
        for more in ["", "Range: bytes=0-0\r\n"] {
            let answer = get(&mut client, &format!("If-None-Match: {value}\r\n{more}"));
            let wanted = if status == 200 && !more.is_empty() { 206 } else { status };
            assert_eq!(answer.status, wanted, "{value} {more}");
        }
        // The tag decides, whatever the date.
        for date in ["Thu, 01 Jan 1970 00:00:01 GMT", "Thu, 01 Jan 1970 00:00:01 GMT foo", date] {
            let fields = format!("If-None-Match: {value}\r\nIf-Modified-Since: {date}\r\n");
            assert_eq!(get(&mut client, &fields).status, status, "{fields}");
        }
    }
    for (value, status) in [
        (String::new(), 200),
        ("foobar".to_owned(), 200),
        ("this string is too long to be a valid timestamp".to_owned(), 200),
        (date.to_owned(), 304),
        (format!("{date}; foo"), 200),
    ] {
        let answer = get(&mut client, &format!("If-Modified-Since: {value}\r\n"));
        assert_eq!(answer.status, status, "{value}");
    }
}
