//! The load over a pool, with its own server and with others. It needs the program `kv`.
#![cfg(unix)]

#[path = "../../../tests/examples/process.rs"]
mod process;
#[path = "../../../tests/examples/servers.rs"]
mod servers;

use std::net::{TcpListener, TcpStream};

use process::Process;
use servers::{expect_clean_end, expect_no_panic_without_a_reader, failure};

const POOL: &str = env!("CARGO_BIN_EXE_pool");

#[test]
fn a_pool_lends_as_often_as_it_is_asked_to() {
    let end = Process::start(POOL, &["--connections", "3", "--borrows", "2000"]).end();
    assert_eq!((end.code, end.errors.as_str()), (Some(0), ""), "{:?}", end.output);
    let [line] = &end.output[..] else { panic!("{:?}", end.output) };
    assert!(line.starts_with("answered 2000 (") && line.contains("lost 0, refused 0;"), "{line}");
    assert!(line.contains("created 3, reused 1997, evicted 0, failed dials 0"), "{line}");
}

#[test]
fn a_pool_goes_to_the_server_that_it_is_told() {
    let (server, addr) = Process::serve("kv", &[]);
    let addr = addr.to_string();
    let args = ["--connect", &addr, "--borrows", "500", "--borrowers", "1", "--every", "60"];
    let end = Process::start(POOL, &args).end();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.output[0].contains("created 1, reused 499,"), "{end:?}");
    expect_clean_end(server);
}

/// There is nothing to do for all of them.
#[test]
fn a_pool_ends_with_its_borrows_however_many_borrowers_there_are() {
    let args = ["--borrowers", "18446744073709551615", "--borrows", "10"];
    let end = Process::start(POOL, &args).end();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.output[0].starts_with("answered 10 ("), "{end:?}");
}

#[test]
fn it_does_not_panic_without_a_reader() {
    expect_no_panic_without_a_reader(POOL);
}

#[test]
fn a_pool_without_a_server_says_so() {
    // A port that is taken, so that no other test gets it, and refuses who connects.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let nobody = held.local_addr().unwrap().to_string();
    let end = Process::start(POOL, &["--connect", &nobody, "--borrows", "2"]).end();
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.output[0].contains("answered 0 "), "{end:?}");
    assert_eq!(end.errors, format!("pool: {nobody} has answered nothing\n"));
    for args in [["--borrowers", "0"], ["--every", "0"]] {
        let (code, text) = failure(POOL, &args);
        assert_eq!(code, Some(2), "{text}");
    }
    let (code, text) = failure(POOL, &["--connect", "nowhere"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("nowhere"), "{text}");
}

/// The library takes as many, so that its own words, which name no option, are never read.
#[test]
fn a_number_of_connections_out_of_range_is_refused_by_the_name_of_its_option() {
    for number in ["0", "65537"] {
        let (code, text) = failure(POOL, &["--connections", number]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(&format!("--connections {number}: give 1 to 65536")), "{text}");
    }
    let end = Process::start(POOL, &["--connections", "65536", "--borrows", "10"]).end();
    assert_eq!(end.code, Some(0), "{end:?}");
}
