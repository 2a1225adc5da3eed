//! The echo as a process, and its client.
#![cfg(unix)]

#[path = "../../../tests/examples/process.rs"]
mod process;
#[path = "../../../tests/examples/servers.rs"]
mod servers;

use process::Process;
use servers::{expect_clean_end, expect_no_panic_without_a_reader};

const WS_ECHO: &str = env!("CARGO_BIN_EXE_ws_echo");

#[test]
fn what_the_client_says_comes_back_compressed_or_not() {
    for how in ["no", "shared", "kept"] {
        let (server, addr) = Process::serve(WS_ECHO, &["--deflate", how]);
        let addr = addr.to_string();
        let args = ["--deflate", how, "--connect", &addr, "hello", "and bye"];
        let client = Process::start(WS_ECHO, &args);
        assert_eq!((client.line(), client.line()), ("hello".to_owned(), "and bye".to_owned()));
        assert!(client.line().starts_with("closed with 1000"));
        assert_eq!(client.end().code, Some(0));
        expect_clean_end(server);
    }
}

#[test]
fn it_does_not_panic_without_a_reader() {
    expect_no_panic_without_a_reader(WS_ECHO);
}
