//! The load tester as a process, and its ledger of datagrams by itself.
#![cfg(unix)]

mod addresses;
mod hold;
mod http;
#[path = "../../../../tests/examples/json.rs"]
mod json;
#[path = "../../src/ledger.rs"]
mod ledger;
mod ledger_model;
#[path = "../../src/mode.rs"]
mod mode;
mod page;
#[path = "../../src/patience.rs"]
mod patience;
mod patience_model;
#[path = "../../../../tests/examples/process.rs"]
mod process;
#[path = "../../../../tests/examples/servers.rs"]
mod servers;
mod storm;
#[path = "../../src/target.rs"]
mod target;
mod tls;
mod udp;
mod ws;

use process::Process;

const LOAD: &str = env!("CARGO_BIN_EXE_load");

#[test]
fn it_does_not_panic_without_a_reader() {
    servers::expect_no_panic_without_a_reader(LOAD);
}

#[test]
fn it_prints_one_json_object() {
    let args = ["closed", "--duration", "1", "--warmup", "0", "--connections", "4", "--json"];
    let end = Process::start(LOAD, &args).end();
    assert_eq!(end.code, Some(0), "{end:?}");
    let text = end.output.join("\n");
    assert_eq!(objects_in(&text), 1, "{text}");
    assert!(text.contains("\"mode\""), "{text}");
}

/// At one message a second, each of 64 connections has one in 64 seconds.
#[test]
fn the_server_in_the_process_outlasts_a_silence_that_belongs_to_the_load() {
    let load = std::time::Duration::from_secs(70);
    for mode in mode::Mode::ALL {
        let outlasts = mode.server_idle_timeout(load) > load;
        assert_eq!(outlasts, matches!(mode.name(), "open" | "hold"), "{mode}");
    }
}

/// A read brings a part of a message, or a message and a part of the next.
#[test]
fn each_message_has_one_answer_however_it_is_cut() {
    for (size, depth) in [("300000", "1"), ("99999", "4"), ("1000", "40")] {
        let args = ["closed", "--connections", "2", "--duration", "0.3", "--warmup", "0", "--json"];
        let end = Process::start(LOAD, &[&args[..], &["--size", size, "--depth", depth]].concat());
        let end = end.end();
        assert_eq!(end.code, Some(0), "{end:?}");
        let report = json::Json::parse(&end.output.join("\n"));
        assert_eq!(report.at(&["figures", "unanswered"]).whole(), 0, "{size} {depth}");
        assert!(report.at(&["latency", "exchange", "count"]).whole() > 0, "{size} {depth}");
    }
}

/// How many JSON objects stand side by side in a text that has nothing else.
#[track_caller]
fn objects_in(text: &str) -> usize {
    let (mut count, mut depth, mut is_quoted) = (0, 0, false);
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' if is_quoted => drop(chars.next()),
            '"' => is_quoted = !is_quoted,
            '{' if !is_quoted => depth += 1,
            '}' if !is_quoted => {
                depth -= 1;
                count += usize::from(depth == 0);
            }
            _ => assert!(depth > 0 || char.is_whitespace(), "{char:?} is in no object"),
        }
    }
    assert_eq!(depth, 0);
    count
}
