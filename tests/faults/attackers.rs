//! Fifteen thousand attackers at once, each slow in one of four ways: silent, dribbling a request
//! that never ends (slowloris), dribbling a long body that was declared (R-U-Dead-Yet), or taking a
//! big answer by bytes (slow read). Each meets its deadline to the tick, and good clients do not
//! notice.
//!
//! The dribblers are a copy of this program; slowhttptest joins them where it is installed.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::parts::{copy_of_us, parse_crowd, plays};
use crate::peers::{Way, connect, is_reset, visit};
use crate::program::{PATIENCE, Program, behind};
use crate::tools::{Scale, need_tool, percentile, report, scale};
use web::{ANSWER, Attack, Ends, Web};

#[path = "attackers/web.rs"]
mod web;

/// Longest p99 of an answer to a good client, of the second that is better than three quarters of
/// them: a busy machine spoils many.
const ANSWER_LIMIT: Duration = Duration::from_millis(10);

/// How much of it.
struct Plan {
    /// Attackers of our own.
    dribblers: usize,
    /// Attackers of each of the three kinds that slowhttptest knows.
    testers: usize,
    /// What each may take until it is ended.
    limit: Duration,
}

#[test]
#[ignore = "tests/faults/run runs it"]
fn slow_attackers_meet_their_deadlines_and_good_clients_do_not_notice() {
    let plan = match scale() {
        Scale::Whole => Plan { dribblers: 15_000, testers: 500, limit: Duration::from_secs(20) },
        Scale::Part => Plan { dribblers: 2_000, testers: 100, limit: Duration::from_secs(5) },
    };
    let server = web::Server::start(plan.limit);
    let mut dribblers = Program::start(&mut behind(AFAR, &copy_of_us(DRIBBLERS)));
    let addrs = server.addrs.map(|addr| addr.to_string()).join(" ");
    dribblers.tell(&format!("{} {addrs}", plan.dribblers));
    let testers = start_testers(&plan, &server.addrs);
    let is_over = AtomicBool::new(false);
    let (told, seconds) = thread::scope(|scope| {
        let good = scope.spawn(|| ask_all_the_time(&server.addrs, &is_over));
        let told = dribblers.hear("told by a reset:", plan.limit + PATIENCE);
        testers.into_iter().for_each(|mut tester| drop(tester.wait()));
        is_over.store(true, Ordering::Relaxed);
        (told, good.join().expect("good clients are served"))
    });
    let (web, stats) = server.stop();
    report("attackers", &table(&plan, &web, &seconds, stats.connections_peak));
    assert_eq!(told, plan.dribblers.to_string(), "all are told");
    assert!(stats.connections_peak as usize >= plan.dribblers, "{stats:?}");
    expect_deadlines(&plan, &web);
    assert!(web.others.is_empty(), "ends of another kind: {:?}", web.others);
    let answer = good_p99(&seconds);
    assert!(answer <= ANSWER_LIMIT.as_micros() as u64, "p99 of good clients: {answer} us");
}

/// All that a kind of attack could do was to wait for its deadline: each ends in the first turn
/// whose clock has come to it. When that turn comes is for a busy machine to say as well, but some
/// come on the tick: a quarter of them at least.
#[track_caller]
fn expect_deadlines(plan: &Plan, web: &Web) {
    for (attack, Ends { late, early, missed }) in Attack::ALL.into_iter().zip(&web.ends) {
        assert!(late.len() >= plan.dribblers / Attack::ALL.len(), "{attack:?}: {}", late.len());
        assert_eq!((*early, *missed), (0, 0), "{attack:?}: before its turn, and after it");
        // The poll itself wakes up to a millisecond after its timeout.
        let good = percentile(late, 25);
        assert!(good <= 1, "{attack:?}: most are {good} ms late and more");
    }
}

fn table(plan: &Plan, web: &Web, seconds: &[Vec<u64>], peak: u64) -> String {
    let all = seconds.concat();
    let mut table = format!(
        "{} slow attackers of our own and three times {} of slowhttptest, deadlines after {:?}: \
         {peak} connections at once\n\n\
         | attack | ended | ms after the deadline plus a tick: p50 | p99 | most |\n\
         |---|--:|--:|--:|--:|\n",
        plan.dribblers, plan.testers, plan.limit
    );
    for (attack, Ends { late, .. }) in Attack::ALL.into_iter().zip(&web.ends) {
        let [p50, p99, most] = [50, 99, 100].map(|percent| percentile(late, percent));
        writeln!(table, "| {attack:?} | {} | {p50} | {p99} | {most} |", late.len()).unwrap();
    }
    writeln!(
        table,
        "\nLongest turn {:.1} ms. Good clients: {} answers, p50 {} us, p99 {} us, most {} us; the \
         p99 of a good second {} us.",
        1e3 * web.longest_turn.as_secs_f64(),
        all.len(),
        percentile(&all, 50),
        percentile(&all, 99),
        percentile(&all, 100),
        good_p99(seconds),
    )
    .unwrap();
    table
}

/// The p99 of a good second, in microseconds.
fn good_p99(seconds: &[Vec<u64>]) -> u64 {
    let p99 = |second: &Vec<u64>| percentile(second, 99);
    percentile(&seconds.iter().map(p99).collect::<Vec<_>>(), 25)
}

// Good clients.

/// Asks all the time, a few hundred times a second, at all doors: microseconds, for each second.
fn ask_all_the_time(addrs: &[SocketAddr], is_over: &AtomicBool) -> Vec<Vec<u64>> {
    let doors = addrs.iter().cycle().take(5 * addrs.len());
    let mut clients: Vec<_> =
        doors.map(|addr| visit(*addr, PATIENCE).expect("it is served")).collect();
    let begin = Instant::now();
    let mut seconds = Vec::new();
    for at in (0..clients.len()).cycle() {
        if is_over.load(Ordering::Relaxed) {
            return seconds;
        }
        if seconds.len() <= begin.elapsed().as_secs() as usize {
            seconds.push(Vec::new());
        }
        let asked = Instant::now();
        ask(&mut clients[at]);
        let second = seconds.last_mut().expect("at least one");
        second.push(asked.elapsed().as_micros() as u64);
        // The pace of one who uses the server, not a wait.
        thread::sleep(Duration::from_millis(2));
    }
    seconds
}

fn ask(client: &mut TcpStream) {
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it is served");
    let mut answer = [0; ANSWER.len()];
    client.read_exact(&mut answer).expect("it is served");
    assert_eq!(&answer, ANSWER);
}

// Attackers.

/// Gives a command the least priority: attackers bring a machine of their own.
const AFAR: &str = "nice -n 19";

/// slowhttptest in its three modes, at the doors where they hurt.
fn start_testers(plan: &Plan, addrs: &[SocketAddr; 4]) -> Vec<Child> {
    need_tool("slowhttptest");
    let modes = [("-H", Attack::Head, ""), ("-B", Attack::Body, ""), ("-X", Attack::Read, "big")];
    let start = |(mode, attack, path): (&str, Attack, &str)| {
        let url = format!("http://{}/{path}", addrs[attack as usize]);
        let count = plan.testers.to_string();
        // Longer than the deadlines, so that it does not give up before.
        let seconds = (plan.limit.as_secs() + 10).to_string();
        let mut command = behind(AFAR, &Command::new("slowhttptest"));
        command.args([mode, "-c", &count, "-r", "100", "-i", "1", "-l", &seconds, "-u", &url]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().expect("it starts")
    };
    modes.into_iter().map(start).collect()
}

const DRIBBLERS: &str = "attackers::dribblers";

/// How often each dribbler moves.
const PERIOD: Duration = Duration::from_secs(2);
/// In how many groups they do.
const GROUPS: usize = 100;
/// How many come while one group moves. Should they come all at once, so do their deadlines, and
/// to end them takes longer than a tick.
const ARRIVALS: usize = 30;

/// All the attackers of our own.
#[test]
#[ignore = "a part that a copy of this program plays"]
fn dribblers() {
    if !plays(DRIBBLERS) {
        return;
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line).unwrap();
    let (count, addrs) = parse_crowd(&line);
    let mut dribblers = Vec::new();
    let mut told = 0;
    for step in 0.. {
        let come = (dribblers.len() + ARRIVALS).min(count);
        dribblers.extend((dribblers.len()..come).map(|number| Dribbler::new(number, &addrs)));
        let group = dribblers.iter_mut().skip(step % GROUPS).step_by(GROUPS);
        told += group.filter_map(Dribbler::dribble).count();
        if come == count && dribblers.iter().all(|dribbler| dribbler.stream.is_none()) {
            break;
        }
        // This pace is the attack.
        thread::sleep(PERIOD / GROUPS as u32);
    }
    println!("told by a reset: {told}");
}

struct Dribbler {
    attack: Attack,
    /// None once it is over.
    stream: Option<TcpStream>,
}

/// That the server has reset it.
struct IsTold;

impl Dribbler {
    fn new(number: usize, addrs: &[SocketAddr]) -> Self {
        let attack = Attack::ALL[number % Attack::ALL.len()];
        let receive_bytes = (attack == Attack::Read).then_some(2 << 10);
        let way = Way { receive_bytes, ..Way::of(number) };
        let mut stream = connect(addrs[attack as usize], way).unwrap();
        let opening: &[u8] = match attack {
            Attack::Silence => b"",
            Attack::Head => b"GET / HTTP/1.1\r\nX-",
            Attack::Body => b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n",
            Attack::Read => b"GET /big HTTP/1.1\r\n\r\n",
        };
        stream.write_all(opening).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self { attack, stream: Some(stream) }
    }

    /// Moves by a byte or a few. `Some` at most once, unless it ends in another way.
    fn dribble(&mut self) -> Option<IsTold> {
        let stream = self.stream.as_mut()?;
        // Known before what the kernel still holds for a slow reader has been read.
        let error = stream.take_error().unwrap();
        let moved = match (error, self.attack) {
            (Some(error), _) => Err(error),
            (None, Attack::Silence) => stream.read(&mut [0; 1]),
            (None, Attack::Read) => stream.read(&mut [0; 5]),
            (None, Attack::Head | Attack::Body) => stream.write(b"x"),
        };
        match moved {
            Ok(1..) => None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            end => {
                self.stream = None;
                end.is_err_and(|error| is_reset(&error)).then_some(IsTold)
            }
        }
    }
}
