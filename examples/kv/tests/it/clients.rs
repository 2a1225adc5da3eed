//! What the libraries and tools of Redis send, and the same replies as Redis gives.

use crate::requests::expect_replies;

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
