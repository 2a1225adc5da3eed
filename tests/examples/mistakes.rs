//! What a person mistypes. A program ends at once then, and says in one line what failed, on what,
//! why, and what to do.

use std::net::TcpListener;
use std::process::Command;

use crate::process::{Process, path_of};

/// A program that is started wrongly must end with exit code 1 and one line that has all these
/// parts.
#[track_caller]
pub(crate) fn expect_refusal(program: &str, args: &[&str], parts: &[&str]) {
    let mut command = Command::new(path_of(program));
    // Where backtraces are wanted the line is followed by one.
    command.args(args).env("RUST_BACKTRACE", "0").env("RUST_LOG", "off");
    let end = Process::spawn(&mut command).end();
    assert_eq!((end.code, end.errors.lines().count()), (Some(1), 1), "{args:?}: {end:?}");
    for part in parts {
        assert!(end.errors.contains(part), "{args:?}: {:?} does not say {part:?}", end.errors);
    }
    // Words, and not the names of types.
    assert!(!end.errors.contains(" { "), "{args:?}: {:?}", end.errors);
}

/// Tries addresses that cannot be listened on, as the first argument of a program, with the others
/// behind it.
#[track_caller]
pub(crate) fn expect_wrong_addresses_refused(program: &str, others: &[&str]) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (addr, why, what_to_do) in [
        (taken.as_str(), "in use", "take another port"),
        ("7000", "no port", "give \"host:port\""),
        ("--help", "no port", "give \"host:port\""),
        ("localhost:", "no port behind the colon", "give \"host:port\""),
        (":7000", "no host", "\"0.0.0.0:80\" for all addresses"),
        ("127.0.0.1:70000", "more than 65535", "give \"host:port\""),
        ("192.0.2.1:7000", "cannot listen on", "one of this machine's"),
        ("nobody.invalid:7000", "cannot resolve", "nobody.invalid"),
    ] {
        let args = [&[addr], others].concat();
        expect_refusal(program, &args, &[addr.trim_end_matches(":7000"), why, what_to_do]);
    }
}
