//! The load tester over UDP, against servers that lose, hold back, double and spoil what they are
//! told to: it counts exactly that. No run has more on its way than the smallest receive buffer
//! holds, 256 datagrams, so that nothing else is lost when the machine is busy.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::LOAD;
use crate::json::Json;
use crate::process::{End, Process};

/// A server of datagrams on a thread of its own.
struct Server {
    addr: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `serve` gets each datagram, and nothing now and then.
    fn start(
        mut serve: impl FnMut(&UdpSocket, Option<(SocketAddr, &[u8])>) + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let addr = socket.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 65_535];
            while !flag.load(Ordering::Relaxed) {
                match socket.recv_from(&mut buffer) {
                    Ok((count, from)) => serve(&socket, Some((from, &buffer[..count]))),
                    Err(_) => serve(&socket, None),
                }
            }
        });
        Self { addr, is_over, thread: Some(thread) }
    }

    fn load(&self, args: &str) -> Process {
        start(&format!("--connect {} --warmup 0 {args}", self.addr))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let result = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(result, Some(Ok(()))));
    }
}

/// The number that a datagram has.
fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[12..20].try_into().unwrap())
}

fn start(args: &str) -> Process {
    let args: Vec<_> = ["udp"].into_iter().chain(args.split_whitespace()).collect();
    Process::start(LOAD, &args)
}

/// The report of a run with `--json`, and its exit code.
#[track_caller]
fn report(process: Process) -> (Option<i32>, Json) {
    let end = process.end();
    assert_eq!(end.output.len(), 1, "{end:?}");
    let report = Json::parse(&end.output[0]);
    let [sent, answered, lost, not_sent, in_flight, late] =
        ["sent", "answered", "lost", "not_sent", "in_flight", "late"]
            .map(|key| figure(&report, key));
    assert_eq!(sent, answered + lost + not_sent + in_flight, "{report:?}");
    assert!(late <= lost, "{report:?}");
    assert_eq!(report.at(&["latency"]) != &Json::Object([].into()), answered > 0);
    (end.code, report)
}

#[track_caller]
fn figure(report: &Json, key: &str) -> u64 {
    report.at(&["figures", key]).whole()
}

#[track_caller]
fn expect_figures(report: &Json, expected: &[(&str, u64)]) {
    for &(key, expected) in expected {
        assert_eq!(figure(report, key), expected, "{key} in {report:?}");
    }
}

/// What a clean run has none of.
const TROUBLE: [&str; 14] = [
    "lost",
    "late",
    "not_sent",
    "in_flight",
    "duplicates",
    "reordered",
    "reordering_extent",
    "silent_sockets",
    "too_old",
    "wrong",
    "foreign",
    "network_errors",
    "queued",
    "send_buffer_full",
];

#[test]
fn a_gentle_rate_loses_nothing() {
    for args in ["--rate 400 --warmup 0.1", "--connections 4", "--depth 3 --connections 2"] {
        let (code, report) =
            report(start(&format!("{args} --duration 0.5 --timeout 30000 --json")));
        assert_eq!(code, Some(0), "{report:?}");
        expect_figures(&report, &TROUBLE.map(|key| (key, 0)));
        assert_eq!(report.at(&["figures", "loss_percent"]), &Json::Number(0.0));
        assert_eq!(report.at(&["ok"]), &Json::Flag(true));
        assert!(report.at(&["errors"]).list().is_empty());
        let answered = figure(&report, "answered");
        assert_eq!(report.at(&["latency", "exchange", "count"]).whole(), answered);
        if args.starts_with("--rate") {
            expect_figures(&report, &[("offered", 200), ("sent", 200)]);
        }
    }
}

/// Of each hundred: those that end in 9 are not answered, those in 3 twice, those in 5 after the
/// next, 41 after 44; and three so late that they are lost by then.
#[test]
fn what_a_bad_network_does_is_counted_exactly() {
    const HELD: Duration = Duration::from_millis(3_500);
    let (mut held, mut late) = (Vec::new(), Vec::new());
    let server = Server::start(move |socket, datagram| {
        let send = |bytes: &[u8], to: SocketAddr| assert!(socket.send_to(bytes, to).is_ok());
        late.retain(|(came, from, bytes): &(Instant, SocketAddr, Vec<u8>)| {
            let is_held = came.elapsed() < HELD;
            if !is_held {
                send(bytes, *from);
            }
            is_held
        });
        let Some((from, bytes)) = datagram else { return };
        let number = number(bytes);
        match (number % 100, number % 10) {
            _ if [7, 17, 27].contains(&number) => {
                return late.push((Instant::now(), from, bytes.to_vec()));
            }
            (41, _) => return held.push((number + 3, bytes.to_vec())),
            (_, 5) => return held.push((number + 1, bytes.to_vec())),
            (_, 9) => return,
            (_, 3) => send(bytes, from),
            _ if number == 8 => send(b"who are you?", from),
            _ => {}
        }
        send(bytes, from);
        held.retain(|(after, bytes)| {
            if number == *after {
                send(bytes, from);
            }
            number != *after
        });
    });
    let load = server.load("--connections 1 --rate 200 --duration 1 --timeout 3000 --json");
    let (code, report) = report(load);
    assert_eq!(code, Some(0), "loss is no failure: {report:?}");
    let expected = [
        ("offered", 200),
        ("sent", 200),
        ("answered", 177),
        ("lost", 23),
        ("late", 3),
        ("duplicates", 20),
        ("reordered", 22),
        ("reordering_extent", 3),
        ("foreign", 1),
        ("not_sent", 0),
        ("in_flight", 0),
        ("too_old", 0),
        ("wrong", 0),
        ("network_errors", 0),
    ];
    expect_figures(&report, &expected);
    assert_eq!(report.at(&["figures", "loss_percent"]), &Json::Number(11.5));
}

/// Half of it is lost, and the loop goes on: each that is lost makes room for another.
#[test]
fn loss_does_not_stall_a_closed_loop() {
    let server = Server::start(|socket, datagram| {
        if let Some((from, bytes)) = datagram.filter(|(_, bytes)| number(bytes).is_multiple_of(2)) {
            socket.send_to(bytes, from).unwrap();
        }
    });
    let load = server.load("--connections 2 --depth 4 --timeout 200 --duration 2 --json");
    let (code, report) = report(load);
    assert_eq!(code, Some(0), "{report:?}");
    // Without replacements it would be over when each of the eight is lost.
    assert!(figure(&report, "lost") > 8 && figure(&report, "answered") > 8, "{report:?}");
    expect_figures(&report, &[("in_flight", 0), ("duplicates", 0), ("wrong", 0)]);
}

/// One that is never answered sends so little that the loss does not tell of it.
#[test]
fn sockets_without_an_answer_are_counted() {
    let server = Server::start(|socket, datagram| {
        if let Some((from, bytes)) = datagram.filter(|(_, bytes)| bytes[8..12] == [0, 0, 0, 1]) {
            socket.send_to(bytes, from).unwrap();
        }
    });
    let args = "--connections 4 --timeout 5000 --warmup 0.2 --duration 0.1 --json";
    let (code, report) = report(server.load(args));
    assert_eq!(code, Some(0), "{report:?}");
    assert!(figure(&report, "answered") > 0, "{report:?}");
    expect_figures(&report, &[("silent_sockets", 3)]);
}

#[test]
fn what_comes_back_spoilt_is_a_failure() {
    let server = Server::start(|socket, datagram| {
        let Some((from, bytes)) = datagram else { return };
        let mut bytes = bytes.to_vec();
        match number(&bytes) {
            3 => bytes[63] ^= 1,
            5 => bytes[20] ^= 0x80,
            7 => bytes[11] ^= 1,
            9 => bytes[13] ^= 1,
            11 => bytes[12..20].fill(0xff),
            13 => bytes.truncate(63),
            15 => bytes.push(0),
            _ => {}
        }
        socket.send_to(&bytes, from).unwrap();
    });
    let load = server.load("--connections 1 --rate 500 --duration 0.2 --timeout 3000 --json");
    let (code, report) = report(load);
    assert_eq!(code, Some(1), "{report:?}");
    expect_figures(&report, &[("wrong", 7), ("lost", 7), ("answered", 93), ("foreign", 0)]);
    let Json::Text(failure) = &report.at(&["failures"]).list()[0] else { panic!("{report:?}") };
    let first = "7 datagrams came back wrong; first socket 0, datagram 3, byte 63: ";
    assert!(failure.starts_with(first), "{failure}");
}

#[test]
fn nobody_there_is_told_in_one_line() {
    // A port that is taken, so that no other test gets it, and refuses all but its peer.
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    held.connect("127.0.0.1:9").unwrap();
    let addr = held.local_addr().unwrap();
    let End { code, errors, .. } = start(&format!("--connect {addr}")).end();
    assert_eq!((code, errors.lines().count()), (Some(1), 1), "{errors}");
    let expected = format!("load: {addr}: ");
    assert!(errors.starts_with(&expected) && errors.contains("nobody receives"), "{errors}");
}

#[test]
fn a_server_that_is_silent_is_a_failure() {
    let server = Server::start(|_, _| {});
    let load = server.load("--duration 0.1 --timeout 50 --json");
    let (code, report) = report(load);
    assert_eq!(code, Some(1), "{report:?}");
    assert_eq!(report.at(&["figures", "loss_percent"]), &Json::Number(100.0));
    let Json::Text(failure) = &report.at(&["failures"]).list()[0] else { panic!("{report:?}") };
    assert_eq!(failure, "nothing was answered while it was measured");
}

#[test]
fn datagrams_may_be_as_small_and_as_large_as_they_can_be() {
    // Other systems send no more than 9,216 bytes unless told to.
    let is_linux = cfg!(target_os = "linux");
    let sizes = if is_linux { ["20", "21", "65507"] } else { ["20", "21", "9000"] };
    const FEW: &str = "--rate 30 --duration 0.1 --warmup 0 --timeout 30000";
    for size in sizes {
        let args = format!("--size {size} {FEW} --json");
        let (code, report) = report(start(&args));
        assert_eq!(code, Some(0), "{report:?}");
        expect_figures(&report, &[("answered", 3), ("wrong", 0)]);
    }
    if !is_linux || UdpSocket::bind("[::1]:0").is_err() {
        return;
    }
    let server = Process::start("udp_echo", &["--listen", "[::1]:0"]);
    let line = server.line();
    let addr = line.strip_prefix("listening on ").expect(&line);
    let args = format!("--connect {addr} --size 65527 {FEW} --json");
    let (code, report) = report(start(&args));
    assert_eq!(code, Some(0), "{report:?}");
    expect_figures(&report, &[("answered", 3), ("wrong", 0), ("receive_drops", 0)]);
}

#[test]
fn options_that_make_no_sense_are_told_in_one_line() {
    let cases = [
        ("--size 19", "20 bytes at the least"),
        ("--size 65508", "65507 at the most"),
        ("--connect [::1]:1 --size 65528", "65527 at the most"),
        ("--size 999999999", "--size is \"999999999\""),
        ("--depth 2 --rate 10", "give one of them"),
        ("--timeout 0", "--timeout is \"0\""),
        ("--timeout 60001", "from 1 to 60000"),
        ("--active 1", "--active is for the mode hold, not for udp"),
        ("--rate 0", "--rate is \"0\""),
        ("--connect nowhere", "--connect \"nowhere\""),
    ];
    for (args, told) in cases {
        let End { code, output, errors } = start(args).end();
        assert_eq!((code, output.len(), errors.lines().count()), (Some(2), 0, 1), "{errors}");
        assert!(errors.contains(told), "{errors}");
    }
    let end = Process::start(LOAD, &["closed", "--timeout", "10"]).end();
    assert_eq!(end.code, Some(2));
    assert!(end.errors.contains("--timeout is for the mode udp, not for closed"), "{end:?}");
}

#[test]
fn an_interrupted_run_ends_with_its_table_and_a_page() {
    let page = std::env::temp_dir().join(format!("waterwheel-udp-{}.html", std::process::id()));
    let load = start(&format!("--rate 100 --duration 600 --html {}", page.display()));
    while !load.line().contains(" measuring, ") {}
    load.signal("INT");
    let end = load.end();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.output.iter().any(|line| line.starts_with("interrupted: ")), "{end:?}");
    assert!(end.output.iter().any(|line| line.starts_with("  answered in time ")), "{end:?}");
    let text = fs::read_to_string(&page).unwrap();
    fs::remove_file(&page).unwrap();
    assert!(text.contains("<svg") && text.contains("<td>answered in time</td>"));
}

/// A tester that stands still loses what it does not read, and says that it was itself.
#[cfg(target_os = "linux")]
#[test]
fn what_the_tester_does_not_read_is_told_apart() {
    use std::sync::mpsc;

    const COPIES: u64 = 20_000;
    let (ask, asked) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let server = Server::start(move |socket, datagram| {
        let Some((from, bytes)) = datagram else { return };
        if number(bytes) != 50 {
            socket.send_to(bytes, from).unwrap();
            return;
        }
        ask.send(()).unwrap();
        may_go_on.recv().unwrap();
        (0..COPIES).for_each(|_| assert!(socket.send_to(bytes, from).is_ok()));
        ask.send(()).unwrap();
    });
    let load = server.load("--connections 1 --rate 200 --duration 1 --timeout 3000 --json");
    asked.recv().unwrap();
    load.signal("STOP");
    go_on.send(()).unwrap();
    asked.recv().unwrap();
    load.signal("CONT");
    let (code, report) = report(load);
    assert_eq!(code, Some(0), "{report:?}");
    let drops = figure(&report, "receive_drops");
    assert!(drops > 0, "{report:?}");
    // Of the copies one is the answer; an answer to another may have found the buffer full too.
    let others = figure(&report, "lost") - figure(&report, "late");
    let copies = figure(&report, "duplicates") + drops - others + 1;
    assert_eq!(copies, COPIES, "{report:?}");
    expect_figures(&report, &[("wrong", 0), ("foreign", 0)]);
}
