//! Clients that others wrote: curl and wrk.

use std::fs;
use std::process::{Command, Stdio};

use crate::WEB;
use crate::peers::{Dir, find};
use crate::process::Process;
use crate::servers::expect_clean_end;

/// Runs a program to its end; what it prints.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text} {errors}");
    text + &errors
}

/// curl with a deadline; `None` where it is not installed.
fn curl() -> Option<Command> {
    let mut command = Command::new(find("curl", "curl")?);
    command.args(["--silent", "--show-error", "--max-time", "30"]);
    Some(command)
}

#[test]
fn curl_uploads_when_it_is_told_to_continue() {
    let Some(mut curl) = curl() else { return };
    let (server, addr) = Process::serve(WEB, &[]);
    let dir = Dir::new();
    let file = dir.path("upload");
    fs::write(&file, vec![b'u'; 2_000_000]).unwrap();
    let body = format!("@{}", file.display());
    // It would send the body without a word after ten seconds.
    let wait = ["--expect100-timeout", "10", "--header", "Expect: 100-continue", "--verbose"];
    let url = format!("http://{addr}/len");
    let text = run(curl.args(wait).args(["--data-binary", &body, &url]));
    assert!(text.starts_with("2000000"), "{text}");
    assert!(text.contains("< HTTP/1.1 100 Continue"), "{text}");
    assert!(text.contains("< HTTP/1.1 200 OK"), "{text}");
    expect_clean_end(server);
}

#[test]
fn curl_asks_for_a_head_and_in_http_1_0() {
    let Some(mut head) = curl() else { return };
    let (server, addr) = Process::serve(WEB, &[]);
    let text = run(head.args(["--head", &format!("http://{addr}/bulk")]));
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("Content-Length: 1048576\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n"), "{text}");
    let url = format!("http://{addr}/user/3");
    let text = run(curl().unwrap().args(["--http1.0", "--include", &url]));
    assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n{\"id\":3,\"name\":\"user-3\"}"), "{text}");
    expect_clean_end(server);
}

#[test]
fn curl_transfers_in_parallel() {
    let Some(mut curl) = curl() else { return };
    let (server, addr) = Process::serve(WEB, &[]);
    let dir = Dir::new();
    let output = dir.path("bulk_#1");
    let many = ["--parallel", "--parallel-max", "20", "--fail", "--output"];
    let url = format!("http://{addr}/bulk?[1-40]");
    run(curl.args(many).arg(&output).arg(&url));
    for number in 1..=40 {
        let bulk = fs::read(dir.path(&format!("bulk_{number}"))).unwrap();
        assert_eq!(bulk.len(), 1 << 20);
    }
    expect_clean_end(server);
}

#[test]
fn wrk_sees_no_error() {
    let Some(wrk) = find("wrk", "wrk") else { return };
    for (args, target) in [(&[][..], "/user/77"), (&["--threads", "2"], "/plaintext")] {
        let (server, addr) = Process::serve(WEB, args);
        let load = ["-t1", "-c50", "-d1s", &format!("http://{addr}{target}")];
        let text = run(Command::new(&wrk).args(load));
        // It tells of neither where there are none.
        for told in ["Socket errors", "Non-2xx"] {
            assert!(!text.contains(told), "{text}");
        }
        let requests = text.lines().find_map(|line| line.trim().split_once(" requests in "));
        assert!(requests.expect(&text).0.parse::<u64>().unwrap() > 100, "{text}");
        expect_clean_end(server);
    }
}
