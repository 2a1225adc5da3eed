//! What the libraries and tools of Redis send, and the same replies as Redis gives.

use crate::requests::{Session, array, expect_protocol_error, expect_replies};

const HELLO_2: &str = "*14\r\n$6\r\nserver\r\n$13\r\nwaterwheel-kv\r\n\
    $7\r\nversion\r\n$5\r\n0.0.0\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n\
    $4\r\nmode\r\n$10\r\nstandalone\r\n\
    $4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";

fn hello_3() -> String {
    HELLO_2.replace("*14", "%7").replace(":2", ":3")
}

#[test]
fn a_client_may_say_hello() {
    let name_error = "-ERR Client names cannot contain spaces, newlines or special characters.\r\n";
    expect_replies(&[
        ("HELLO", HELLO_2),
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n"),
        ("HELLO 3 AUTH default", "-ERR Syntax error in HELLO option 'AUTH'\r\n"),
        ("HELLO 3 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'\r\n"),
        ("HELLO 3 FLY", "-ERR Syntax error in HELLO option 'FLY'\r\n"),
        (
            "HELLO 3 AUTH ann secret",
            "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
        ),
        ("HELLO 3 SETNAME 'a b'", name_error),
        // None of these has changed anything.
        ("HELLO", HELLO_2),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("hello 3 auth default secret setname ann", &hello_3()),
        ("CLIENT GETNAME", "$3\r\nann\r\n"),
        ("HELLO", &hello_3()),
        ("HELLO 2", HELLO_2),
        ("GET a", "$-1\r\n"),
    ]);
}

#[test]
fn resp3_has_a_null_maps_and_text() {
    expect_replies(&[
        ("HELLO 3", &hello_3()),
        ("GET a", "_\r\n"),
        ("SET a 1 XX", "_\r\n"),
        ("CLIENT GETNAME", "_\r\n"),
        ("SET a 1", "+OK\r\n"),
        ("GET a", "$1\r\n1\r\n"),
        ("CONFIG GET save", "%1\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        ("RESET", "+RESET\r\n"),
        ("GET b", "$-1\r\n"),
    ]);
    let mut session = Session::new();
    let info = session.ask("HELLO 3\r\nINFO\r\n");
    let (_, info) = info.split_once(r"*0\r\n=").unwrap();
    let (length, text) = info.split_once(r"\r\n").unwrap();
    let text = text.replace(r"\r\n", "\r\n");
    assert!(text.starts_with("txt:# Server"), "{text}");
    assert_eq!(length.parse::<usize>().unwrap() + "\r\n".len(), text.len());
}

#[test]
fn a_client_may_say_what_it_is() {
    expect_replies(&[
        ("CLIENT ID", ":1\r\n"),
        ("client setinfo LIB-NAME redis-py", "+OK\r\n"),
        ("CLIENT SETINFO lib-ver 8.1.0", "+OK\r\n"),
        ("CLIENT SETINFO lib-age 8", "-ERR Unrecognized option 'lib-age'\r\n"),
        (
            "CLIENT SETINFO lib-ver '8 1'",
            "-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n",
        ),
        ("CLIENT SETNAME ann", "+OK\r\n"),
        ("CLIENT GETNAME", "$3\r\nann\r\n"),
        ("CLIENT SETNAME ''", "+OK\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("CLIENT SETNAME", "-ERR wrong number of arguments for 'client|setname' command\r\n"),
        ("CLIENT", "-ERR wrong number of arguments for 'client' command\r\n"),
        ("CLIENT FLY", "-ERR unknown subcommand 'FLY'\r\n"),
        ("SELECT 0", "+OK\r\n"),
        ("SELECT 1", "-ERR DB index is out of range\r\n"),
        ("SELECT x", "-ERR value is not an integer or out of range\r\n"),
        ("RESET now", "-ERR wrong number of arguments for 'reset' command\r\n"),
    ]);
    let mut session = Session::new();
    let name = "n".repeat(257);
    let text = "-ERR Client names cannot be longer than 256 bytes";
    assert_eq!(session.ask(format!("CLIENT SETNAME {name}\r\n")), format!(r"{text}\r\n"));
}

#[test]
fn a_request_of_http_ends_the_client_before_what_stands_behind_it() {
    for http in [
        "POST / HTTP/1.1\r\nX: y\r\n\r\n",
        "post / HTTP/1.1\r\n",
        "PUT / HTTP/1.1\r\nHost: 127.0.0.1:7379\r\n",
        "GET / HTTP/1.1\r\nhost: 127.0.0.1:7379\r\n",
        "*1\r\n$4\r\nPOST\r\n",
    ] {
        let mut session = Session::new();
        session.ask("SET a 1\r\n");
        session.ask(format!("{http}FLUSHALL\r\n"));
        assert!(session.is_closed(), "{http}");
        assert_eq!(session.keys(), 1, "{http}");
    }
}

#[test]
fn what_removes_all_looks_at_its_arguments() {
    let syntax = "-ERR syntax error\r\n";
    expect_replies(&[
        ("SET a 1", "+OK\r\n"),
        ("FLUSHALL NONSENSE", syntax),
        ("FLUSHALL ASYNC SYNC", syntax),
        ("FLUSHALL ''", syntax),
        ("DBSIZE", ":1\r\n"),
        ("FLUSHALL async", "+OK\r\n"),
        ("DBSIZE", ":0\r\n"),
        ("FLUSHALL SYNC", "+OK\r\n"),
    ]);
}

#[test]
fn expire_has_conditions() {
    let mixed = "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n";
    expect_replies(&[
        ("EXPIRE a 10 NX", ":0\r\n"),
        ("SET a 1", "+OK\r\n"),
        ("EXPIRE a 10 XX", ":0\r\n"),
        ("EXPIRE a 10 GT", ":0\r\n"),
        ("EXPIRE a -1 XX", ":0\r\n"),
        ("TTL a", ":-1\r\n"),
        ("EXPIRE a 10 LT", ":1\r\n"),
        ("EXPIRE a 20 NX", ":0\r\n"),
        ("EXPIRE a 20 LT", ":0\r\n"),
        ("EXPIRE a 10 gt", ":0\r\n"),
        ("TTL a", ":10\r\n"),
        ("PEXPIRE a 20000 xx gt", ":1\r\n"),
        ("TTL a", ":20\r\n"),
        ("EXPIRE a 10 NX XX", mixed),
        ("EXPIRE a 10 GT NX", mixed),
        ("EXPIRE a 10 GT LT", "-ERR GT and LT options at the same time are not compatible\r\n"),
        ("EXPIRE a 10 FLY", "-ERR Unsupported option FLY\r\n"),
        ("EXPIRE a -1 GT", ":0\r\n"),
        ("GET a", "$1\r\n1\r\n"),
        ("EXPIRE a -1 LT", ":1\r\n"),
        ("GET a", "$-1\r\n"),
    ]);
}

#[test]
fn a_time_that_cannot_be_counted_changes_nothing() {
    expect_replies(&[
        ("SET a 1", "+OK\r\n"),
        ("EXPIRE a -9223372036854775808", "-ERR invalid expire time in 'expire' command\r\n"),
        ("pexpire a 9223372036854775807", "-ERR invalid expire time in 'pexpire' command\r\n"),
        ("GET a", "$1\r\n1\r\n"),
        ("PEXPIRE a -9223372036854775808", ":1\r\n"),
        ("GET a", "$-1\r\n"),
    ]);
}

#[test]
fn numbers_count_in_steps() {
    expect_replies(&[
        ("INCRBY a 5", ":5\r\n"),
        ("INCRBY a -7", ":-2\r\n"),
        ("INCRBY a x", "-ERR value is not an integer or out of range\r\n"),
        ("INCRBY a", "-ERR wrong number of arguments for 'incrby' command\r\n"),
        ("INCRBY a -9223372036854775807", "-ERR increment or decrement would overflow\r\n"),
        ("GET a", "$2\r\n-2\r\n"),
    ]);
}

#[test]
fn quotes_may_begin_inside_a_word() {
    expect_replies(&[
        ("SET k a\"b c\"", "+OK\r\n"),
        ("GET k", "$4\r\nab c\r\n"),
        ("ECHO a'b \\' c'", "$6\r\nab ' c\r\n"),
        ("ECHO \"\\a\\b\"", "$2\r\n\x07\x08\r\n"),
    ]);
    expect_protocol_error("ECHO a'b\r\n", "unbalanced quotes in request");
    expect_protocol_error("ECHO a'b'c\r\n", "unbalanced quotes in request");
}

/// A request with as many keys as clients send, in two pieces and in pieces of a few bytes.
#[test]
fn thousands_of_keys_may_be_named_at_once() {
    const KEYS: usize = 5_000;
    let keys: Vec<String> = (0..KEYS).map(|key| format!("key-{key}")).collect();
    let words = |command: &str| {
        let words = [command].into_iter().chain(keys.iter().map(String::as_str));
        array(&words.collect::<Vec<_>>())
    };
    let (exists, del) = (words("EXISTS"), words("DEL"));
    for piece_bytes in [exists.len() / 2 + 1, 7] {
        let mut session = Session::new();
        for key in &keys {
            session.ask(array(&["SET", key, "1"]));
        }
        for request in [&exists, &del] {
            let replies: String =
                request.chunks(piece_bytes).map(|piece| session.ask(piece)).collect();
            assert_eq!(replies, format!(r":{KEYS}\r\n"));
        }
        assert_eq!(session.keys(), 0);
    }
}
