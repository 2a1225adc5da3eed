//! A storm with a rate, against a server that stands still.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::LOAD;
use crate::json::Json;
use crate::process::{PATIENCE, Process};

fn echo(mut stream: TcpStream) {
    let mut message = [0; 64];
    let _ = stream.set_read_timeout(Some(PATIENCE));
    if stream.read_exact(&mut message).is_ok() && stream.write_all(&message).is_ok() {
        let _ = stream.read(&mut message);
    }
}

/// The server stands still for a second, from the first connection on. Four connections wait for
/// it, and all others that were due wait for these.
#[test]
fn a_stall_is_in_the_time_of_all_connections_that_were_due() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            if number == 0 {
                thread::sleep(Duration::from_secs(1));
            }
            thread::spawn(move || echo(stream));
        }
    });
    let args = ["storm", "--connect", &to, "--rate", "200", "--in-flight", "4", "--json"];
    let more = ["--duration", "2", "--warmup", "0", "--close", "reset"];
    let end = Process::start(LOAD, &[&args[..], &more].concat()).end();
    assert_eq!(end.code, Some(0), "{end:?}");
    let report = Json::parse(&end.output.join("\n"));
    // 200 of the 400 were due in the stall, and a tenth of all waited for most of it.
    for series in ["exchange", "delay"] {
        let Json::Number(p90) = report.at(&["latency", series, "p90_us"]) else { panic!() };
        assert!(*p90 > 300_000.0, "{series}: {end:?}");
    }
    let figure = |key| report.at(&["figures", key]).whole();
    assert_eq!(figure("offered"), 400, "{end:?}");
    assert_eq!(figure("sent"), report.at(&["latency", "delay", "count"]).whole(), "{end:?}");
}
