//! The key-value server without its network: requests in, replies out.

use std::collections::BTreeMap;

use quickcheck::{Arbitrary, Gen, QuickCheck};

use crate::db::{self, Db, MAX_REQUEST_BYTES, Then};

/// One connection's way through a database: pieces in, replies out, as the server does it.
pub(crate) struct Session {
    db: Db,
    session: db::Session,
    now: u64,
    /// What has come and is not consumed.
    input: Vec<u8>,
    replies: Vec<u8>,
    is_closed: bool,
}

impl Session {
    pub(crate) fn new() -> Self {
        let mut db = Db::new(usize::MAX);
        Self {
            session: db.open_session(),
            db,
            now: 0,
            input: Vec::new(),
            replies: Vec::new(),
            is_closed: false,
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        self.input.extend_from_slice(piece);
        while !self.is_closed {
            let mut replies = Vec::new();
            let served = self.db.serve(&mut self.session, &self.input, self.now, &mut replies);
            self.input.drain(..served.consumed);
            self.replies.extend(replies);
            match served.then {
                Then::Wait => break,
                Then::GoOn => {}
                Then::Close => self.is_closed = true,
            }
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// How many keys there are, as another connection sees it.
    pub(crate) fn keys(&mut self) -> usize {
        let (mut other, mut reply) = (self.db.open_session(), Vec::new());
        self.db.serve(&mut other, b"DBSIZE\r\n", self.now, &mut reply);
        let reply = String::from_utf8(reply).unwrap();
        reply.trim_start_matches(':').trim_end().parse().unwrap()
    }

    /// What is replied to a piece, readably.
    pub(crate) fn ask(&mut self, piece: impl AsRef<[u8]>) -> String {
        self.feed(piece.as_ref());
        std::mem::take(&mut self.replies).escape_ascii().to_string()
    }
}

/// A request as clients write it.
pub(crate) fn array<S: AsRef<[u8]>>(strings: &[S]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", strings.len()).into_bytes();
    for string in strings {
        let string = string.as_ref();
        bytes.extend(format!("${}\r\n", string.len()).bytes());
        bytes.extend(string);
        bytes.extend(b"\r\n");
    }
    bytes
}

#[track_caller]
pub(crate) fn expect_replies(dialogue: &[(&str, &str)]) {
    let mut session = Session::new();
    for (request, reply) in dialogue {
        let expected = reply.as_bytes().escape_ascii().to_string();
        assert_eq!(session.ask(format!("{request}\r\n")), expected);
    }
    assert!(!session.is_closed);
}

#[track_caller]
pub(crate) fn expect_protocol_error(input: impl AsRef<[u8]>, text: &str) {
    let mut session = Session::new();
    let expected = format!("-ERR Protocol error: {text}\r\n");
    assert_eq!(session.ask(input), expected.escape_default().to_string());
    assert!(session.is_closed);
}

#[test]
fn strings_are_set_and_got() {
    expect_replies(&[
        ("ping", "+PONG\r\n"),
        ("PING hello", "$5\r\nhello\r\n"),
        ("echo \"a \\x41\\n\" ", "$4\r\na A\n\r\n"),
        ("echo 'it\\'s'", "$4\r\nit's\r\n"),
        ("echo ''", "$0\r\n\r\n"),
        ("GET a", "$-1\r\n"),
        ("SET a 1", "+OK\r\n"),
        ("SET a 2 NX", "$-1\r\n"),
        ("SET b 2 XX", "$-1\r\n"),
        ("SET a 3 xx", "+OK\r\n"),
        ("GET a", "$1\r\n3\r\n"),
        ("SET long 0123456789012345678901234567890", "+OK\r\n"),
        ("GET long", "$31\r\n0123456789012345678901234567890\r\n"),
        ("EXISTS a a b", ":2\r\n"),
        ("DEL a b a", ":1\r\n"),
        ("DBSIZE", ":1\r\n"),
        ("FLUSHALL", "+OK\r\n"),
        ("DBSIZE", ":0\r\n"),
    ]);
}

/// Where a string ends says its length alone, and not what looks like an end.
#[test]
fn strings_may_hold_ends_of_lines() {
    let mut session = Session::new();
    for length in 0..=120 {
        let value: Vec<u8> = b"\r\n".iter().copied().cycle().take(length).collect();
        let requests = [array(&[&b"SET"[..], b"a", &value]), array(&["GET", "a"])].concat();
        let replies = [format!("+OK\r\n${length}\r\n").as_bytes(), &value, b"\r\n"].concat();
        assert_eq!(session.ask(requests), replies.escape_ascii().to_string());
    }
}

#[test]
fn numbers_count() {
    expect_replies(&[
        ("INCR a", ":1\r\n"),
        ("INCR a", ":2\r\n"),
        ("SET a -1", "+OK\r\n"),
        ("INCR a", ":0\r\n"),
        ("INCR a", ":1\r\n"),
        ("SET a 007", "+OK\r\n"),
        ("INCR a", "-ERR value is not an integer or out of range\r\n"),
        ("SET a -0", "+OK\r\n"),
        ("INCR a", "-ERR value is not an integer or out of range\r\n"),
        ("SET a 9223372036854775807", "+OK\r\n"),
        ("INCR a", "-ERR increment or decrement would overflow\r\n"),
    ]);
}

#[test]
fn keys_expire() {
    let mut session = Session::new();
    let replies = session.ask("SET a 1 EX 2\r\nTTL a\r\nPTTL a\r\nTTL b\r\nSET c 1\r\nTTL c\r\n");
    assert_eq!(replies, r"+OK\r\n:2\r\n:2000\r\n:-2\r\n+OK\r\n:-1\r\n");
    assert_eq!(session.db.next_deadline(), Some(2_000));
    session.now = 1_999;
    assert_eq!(session.ask("GET a\r\nINCR a\r\nPTTL a\r\n"), r"$1\r\n1\r\n:2\r\n:1\r\n");
    session.now = 2_000;
    assert_eq!(session.ask("DBSIZE\r\nGET a\r\nTTL a\r\n"), r":2\r\n$-1\r\n:-2\r\n");
    session.db.expire(2_000, 10);
    assert_eq!(session.ask("DBSIZE\r\nSET a 5 KEEPTTL\r\nTTL a\r\n"), r":1\r\n+OK\r\n:-1\r\n");
    assert_eq!(session.ask("EXPIRE a 5\r\nPERSIST a\r\nPERSIST a\r\n"), r":1\r\n:1\r\n:0\r\n");
    assert_eq!(session.ask("PEXPIRE a 5\r\nSET a 1\r\nTTL a\r\n"), r":1\r\n+OK\r\n:-1\r\n");
    assert_eq!(session.ask("EXPIRE a -1\r\nEXPIRE a 1\r\n"), r":1\r\n:0\r\n");
    assert_eq!(session.db.next_deadline(), None);
}

#[test]
fn what_cannot_be_done_is_told_as_redis_tells_it() {
    let syntax = "-ERR syntax error\r\n";
    let time = "-ERR invalid expire time in 'set' command\r\n";
    expect_replies(&[
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("set a", "-ERR wrong number of arguments for 'set' command\r\n"),
        ("FLY me", "-ERR unknown command 'FLY'\r\n"),
        ("\"a\\r\\nb\"", "-ERR unknown command 'a\\r\\nb'\r\n"),
        ("SET a 1 EX", syntax),
        ("SET a 1 EX 1 PX 1", syntax),
        ("SET a 1 NX XX", syntax),
        ("SET a 1 EX 1 KEEPTTL", syntax),
        ("SET a 1 EX x", "-ERR value is not an integer or out of range\r\n"),
        ("SET a 1 EX 0", time),
        ("SET a 1 PX -5", time),
        ("SET a 1 EX 9223372036854775807", time),
        ("EXPIRE a 9223372036854775807", "-ERR invalid expire time in 'expire' command\r\n"),
        ("GET a", "$-1\r\n"),
    ]);
}

#[test]
fn the_tools_of_redis_can_begin() {
    expect_replies(&[
        ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        ("config get appendonly", "*2\r\n$10\r\nappendonly\r\n$2\r\nno\r\n"),
        ("CONFIG GET no-such", "*0\r\n"),
        ("CONFIG SET save 1", "-ERR unknown subcommand; there is CONFIG GET\r\n"),
        ("COMMAND DOCS", "*0\r\n"),
        ("COMMAND COUNT", ":23\r\n"),
        ("", ""),
        ("*0", ""),
        ("*-1", ""),
    ]);
}

#[test]
fn a_bad_frame_gets_an_error_and_an_end() {
    for count in ["*1048577\r\n", "*99999999999", "*x", "*\r\n", "*1\rx", "*--1\r\n"] {
        expect_protocol_error(count, "invalid multibulk length");
    }
    for length in ["$-1\r\n", "$1048577\r\n", "$99999999999", "$x", "$\r\n", "$1\n"] {
        expect_protocol_error(format!("*1\r\n{length}"), "invalid bulk length");
    }
    expect_protocol_error("*1\r\nx", "expected '$', got 'x'");
    expect_protocol_error("*1\r\n\r", "expected '$', got '\\r'");
    expect_protocol_error("*1\r\n$1\r\nab", "expected CRLF after a bulk string");
    expect_protocol_error("*1\r\n$1\r\na\rb", "expected CRLF after a bulk string");
    expect_protocol_error("get \"a\r\n", "unbalanced quotes in request");
    expect_protocol_error("get 'a'b\r\n", "unbalanced quotes in request");
    expect_protocol_error([b'a'; (16 << 10) + 1], "too big inline request");
}

#[test]
fn a_request_that_is_too_large_ends_before_it_has_come() {
    let mebibyte = vec![b'v'; 1 << 20];
    let mut input = array(&[b"DEL", &mebibyte[..]]);
    input[1] = b'3';
    let mut session = Session::new();
    assert_eq!(session.ask(&input), "");
    assert!(input.len() < MAX_REQUEST_BYTES);
    let replies = session.ask("$1048576\r\n");
    assert_eq!(replies, r"-ERR Protocol error: too big request\r\n");
}

#[test]
fn replies_are_handed_over_before_they_grow_large() {
    let mut db = Db::new(usize::MAX);
    let mut replies = Vec::new();
    let value = "v".repeat(50_000);
    let mut session = db.open_session();
    db.serve(&mut session, &array(&["SET", "a", &value]), 0, &mut replies);
    replies.clear();
    let input = "GET a\r\n".repeat(10);
    let served = db.serve(&mut session, input.as_bytes(), 0, &mut replies);
    assert_eq!((served.consumed, served.then), (14, Then::GoOn));
}

#[test]
fn memory_has_a_limit() {
    let mut session = Session::new();
    session.db = Db::new(1_000);
    let full = r"-OOM command not allowed when used memory > \'maxmemory\'.\r\n";
    let value = "v".repeat(800);
    assert_eq!(session.ask(array(&["SET", "a", &value])), r"+OK\r\n");
    assert_eq!(session.ask(array(&["SET", "b", &value])), full);
    assert_eq!(session.ask(array(&["SET", "a", &"v".repeat(1_000)])), full);
    assert_eq!(session.ask("SET a 1\r\nDEL a\r\n"), r"+OK\r\n:1\r\n");
    assert_eq!(session.ask(array(&["SET", "b", &value])), r"+OK\r\n");
}

/// It has its key twice, and a place in the wheel.
#[test]
fn a_time_to_live_takes_memory_and_gives_it_back() {
    let mut session = Session::new();
    session.db = Db::new(1_000);
    let full = r"-OOM command not allowed when used memory > \'maxmemory\'.\r\n";
    let key = "k".repeat(600);
    let ask = |session: &mut Session, words: &[&str]| session.ask(array(words));
    let used = |session: &mut Session| {
        let info = session.ask("INFO\r\n");
        let (_, used) = info.split_once("used_memory_dataset:").unwrap();
        used.split('\\').next().unwrap().parse::<usize>().unwrap()
    };
    // The key alone has room, and nothing is changed where there is none for its time.
    assert_eq!(ask(&mut session, &["SET", &key, "1", "EX", "9"]), full);
    assert_eq!(ask(&mut session, &["GET", &key]), r"$-1\r\n");
    assert_eq!(ask(&mut session, &["SET", &key, "1"]), r"+OK\r\n");
    assert_eq!(ask(&mut session, &["EXPIRE", &key, "9"]), full);
    assert_eq!(ask(&mut session, &["SET", &key, "2", "EX", "9"]), full);
    assert_eq!(ask(&mut session, &["GET", &key]), r"$1\r\n1\r\n");
    assert_eq!(ask(&mut session, &["TTL", &key]), r":-1\r\n");
    assert_eq!(session.ask("FLUSHALL\r\nSET a 1\r\n"), r"+OK\r\n+OK\r\n");
    let plain = used(&mut session);
    for begin in ["SET a 1 PX 10", "EXPIRE a 1", "SET a 1 KEEPTTL"] {
        for end in ["PERSIST a", "SET a 1", "DEL a", "EXPIRE a -1", "wait"] {
            session.ask(format!("SET a 1\r\n{begin}\r\n"));
            let (is_kept, longer) = (begin.ends_with("KEEPTTL"), used(&mut session));
            assert_eq!(longer > plain, !is_kept, "{begin}");
            session.ask("EXPIRE a 9\r\nPEXPIRE a 10\r\n");
            assert!(used(&mut session) > plain, "{begin}");
            match end {
                "wait" => session.db.expire(10, 60),
                end => drop(session.ask(format!("{end}\r\n"))),
            }
            let is_there = end == "PERSIST a" || end == "SET a 1";
            assert_eq!(used(&mut session), if is_there { plain } else { 0 }, "{begin}, {end}");
        }
    }
}

#[test]
fn many_keys_that_expire_at_once_go_in_pieces() {
    let mut session = Session::new();
    for key in 0..100 {
        session.feed(format!("SET {key} 1 PX 10\r\n").as_bytes());
    }
    session.replies.clear();
    session.db.expire(10, 60);
    assert_eq!(session.ask("DBSIZE\r\n"), r":40\r\n");
    assert!(session.db.next_deadline().is_some_and(|deadline| deadline <= 10));
    session.db.expire(10, 60);
    session.db.clients = 7;
    let info = session.ask("INFO\r\n");
    assert!(info.contains("connected_clients:7"), "{info}");
    assert!(info.contains("used_memory_dataset:0"), "{info}");
    assert!(info.contains("expired_keys:100"), "{info}");
    assert_eq!(session.db.next_deadline(), None);
}

/// A step in the life of a few keys.
#[derive(Clone, Debug)]
enum Step {
    Set(u8, String),
    SetFor(u8, String, u64),
    SetKeeping(u8, String),
    Delete(u8),
    Expire(u8, u64),
    Persist(u8),
    Wait(u64),
    Turn,
}

impl Arbitrary for Step {
    fn arbitrary(random: &mut Gen) -> Self {
        let (kind, key, time) = <(u8, u8, u64)>::arbitrary(random);
        let (key, time, letters) = (key % 5, 1 + time % 99, Vec::<u8>::arbitrary(random));
        let value =
            || letters.iter().take(30).map(|letter| char::from(b'a' + letter % 26)).collect();
        match kind % 8 {
            0 => Self::Set(key, value()),
            1 => Self::SetFor(key, value(), time),
            2 => Self::SetKeeping(key, value()),
            3 => Self::Delete(key),
            4 => Self::Expire(key, time),
            5 => Self::Persist(key),
            6 => Self::Wait(time % 60),
            _ => Self::Turn,
        }
    }
}

/// Some of these bytes, chosen by random numbers.
fn of(bytes: &[u8], random: &[usize]) -> Vec<u8> {
    random.iter().map(|random| bytes[random % bytes.len()]).collect()
}

/// What each key should hold, and until when.
type Model = BTreeMap<u8, (String, Option<u64>)>;

/// Does a step in the model; gives the request that does the same.
fn take(step: &Step, model: &mut Model, now: u64) -> String {
    match step {
        Step::Set(key, value) => {
            model.insert(*key, (value.clone(), None));
            format!("SET {key} '{value}'")
        }
        Step::SetFor(key, value, time) => {
            model.insert(*key, (value.clone(), Some(now + time)));
            format!("SET {key} '{value}' PX {time}")
        }
        Step::SetKeeping(key, value) => {
            model.entry(*key).or_default().0 = value.clone();
            format!("SET {key} '{value}' KEEPTTL")
        }
        Step::Delete(key) => {
            model.remove(key);
            format!("DEL {key}")
        }
        Step::Expire(key, time) => {
            model.entry(*key).and_modify(|entry| entry.1 = Some(now + time));
            format!("PEXPIRE {key} {time}")
        }
        Step::Persist(key) => {
            model.entry(*key).and_modify(|entry| entry.1 = None);
            format!("PERSIST {key}")
        }
        Step::Wait(_) | Step::Turn => String::new(),
    }
}

/// Words of requests; those with letters are written large and small.
const WORDS: [&str; 13] = [
    "ping", "get", "set", "del", "incr", "ttl", "exists", "echo", "expire", "px", "nx", "keepttl",
    "quit",
];

/// A request good or bad, or noise.
#[derive(Clone, Debug)]
enum Piece {
    Array(Vec<String>),
    Line(Vec<String>),
    Noise(Vec<u8>),
}

impl Piece {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Array(words) => array(words),
            Self::Line(words) => (words.join(" ") + "\r\n").into_bytes(),
            Self::Noise(noise) => noise.clone(),
        }
    }
}

impl Arbitrary for Piece {
    fn arbitrary(random: &mut Gen) -> Self {
        let word = |(kind, which, case): &(u8, usize, [bool; 7])| match kind % 3 {
            0 => {
                let letters = WORDS[which % WORDS.len()].chars().zip(case);
                let letters = letters.map(|(letter, is_large)| match is_large {
                    true => letter.to_ascii_uppercase(),
                    false => letter,
                });
                letters.collect()
            }
            1 => String::from(["a", "b", "c"][which % 3]),
            _ => (which % 100).to_string(),
        };
        let words = Vec::arbitrary(&mut Gen::from_size_and_seed(6, u64::arbitrary(random)));
        let words = words.iter().map(word).collect();
        let noise = Vec::arbitrary(&mut Gen::from_size_and_seed(9, u64::arbitrary(random)));
        match u8::arbitrary(random) % 14 {
            0..8 => Self::Array(words),
            8..12 => Self::Line(words),
            12 => Self::Noise(of(b"*$\"'x0123456789\r\n -", &noise)),
            _ => Self::Noise(noise.iter().map(|byte| *byte as u8).collect()),
        }
    }
}

#[test]
fn keys_live_as_long_as_the_model_says() {
    fn property(steps: Vec<Step>) {
        let mut session = Session::new();
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Wait(time) => session.now += time,
                Step::Turn => session.db.expire(session.now, usize::MAX),
                _ => {}
            }
            let now = session.now;
            model.retain(|_, (_, deadline)| deadline.is_none_or(|deadline| deadline > now));
            let request = take(&step, &mut model, now);
            session.ask(request + "\r\n");
            for key in 0..5 {
                let expected = match model.get(&key) {
                    None => r"$-1\r\n:-2\r\n".to_owned(),
                    Some((value, deadline)) => {
                        let left = deadline.map_or(-1, |deadline| (deadline - now) as i64);
                        format!(r"${}\r\n{value}\r\n:{left}\r\n", value.len())
                    }
                };
                assert_eq!(session.ask(format!("GET {key}\r\nPTTL {key}\r\n")), expected);
            }
            let deadlines = model.values().filter_map(|(_, deadline)| *deadline);
            if let Some(next) = deadlines.min() {
                assert!(session.db.next_deadline().is_some_and(|wake| wake <= next));
            }
        }
        session.db.expire(session.now, usize::MAX);
        assert_eq!(session.ask("DBSIZE\r\n"), format!(r":{}\r\n", model.len()));
    }
    QuickCheck::new().tests(256).rng(Gen::new(60)).quickcheck(property as fn(_));
}

#[test]
fn replies_do_not_depend_on_how_requests_are_split() {
    fn property(requests: Vec<Piece>, cuts: Vec<usize>) {
        let stream = requests.iter().flat_map(Piece::bytes).collect::<Vec<u8>>();
        let mut whole = Session::new();
        whole.feed(&stream);
        let mut pieces = Session::new();
        let cuts = cuts.iter().take(10).map(|cut| cut % (stream.len() + 1));
        let mut cuts: Vec<usize> = cuts.chain([stream.len()]).collect();
        cuts.sort_unstable();
        let mut from = 0;
        for cut in cuts {
            pieces.feed(&stream[from..cut]);
            from = cut;
        }
        assert_eq!(whole.replies, pieces.replies);
        assert_eq!(whole.is_closed, pieces.is_closed);
        let mut bytes = Session::new();
        stream.iter().for_each(|byte| bytes.feed(&[*byte]));
        assert_eq!(whole.replies, bytes.replies);
    }
    QuickCheck::new().tests(256).rng(Gen::new(20)).quickcheck(property as fn(_, _));
}

#[test]
fn noise_does_no_harm() {
    fn property(noise: Vec<u8>, head: Vec<usize>) {
        let mut session = Session::new();
        let head = of(b"*$0123456789\r\n", &head[..head.len().min(12)]);
        session.feed(&head);
        session.feed(&noise);
        assert!(session.is_closed || session.input.len() <= head.len() + noise.len());
    }
    QuickCheck::new().tests(256).rng(Gen::new(200)).quickcheck(property as fn(_, _));
}
