//! A network that is cut for a while, and healed: what waits in vain expires on time meanwhile,
//! what may wait goes on afterwards, and nobody is left behind as a slot or as a descriptor.
//!
//! The server is at the far end of the roads of [`crate::network`], in a process of its own; the
//! clients are at the near end. Three kinds of connections are there when the cut comes: quiet
//! ones, whose idle limit passes during it; busy ones, whose output is stuck; lasting ones, which
//! have no limit and must survive.

mod clients;
mod server;

use std::process::Command;
use std::time::{Duration, Instant};

use waterwheel::Reactor;

use crate::network::{FAR, ROADS};
use crate::parts::{copy_as, part};
use crate::program::{Program, behind};
use crate::tools::{self, Scale};
use crate::uml::{self, Machine};
use clients::{Clients, Kind};
use server::Report;

const TEST: &str = "partition::what_waits_expires_and_nobody_is_left_behind";

const QUIET: usize = 40;
const BUSY: usize = 10;
const LASTING: usize = 20;
const DIALS: usize = 10;

/// Longest wait for what takes milliseconds on a healthy network.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most that the median of the idle limits may be late, by the server's clock, which counts whole
/// ticks of a millisecond: one, because what is never early must wait for the tick after the one
/// that it falls into, and the one that it may be late.
const MEDIAN_LATE: Duration = Duration::from_millis(2);

/// Most that the slowest may be late: a busy host may wake a sleeper late.
const MAX_LATE: Duration = Duration::from_millis(100);

/// How the network is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Every packet is lost, either way.
    Loss,
    /// The router takes the server's link down.
    Down,
}

#[test]
#[ignore = "tests/faults/run runs it"]
fn what_waits_expires_and_nobody_is_left_behind() {
    match part() {
        Some(_) => return server::serve(),
        None if uml::is_inside() => return cut_again_and_again(),
        None => {}
    }
    tools::need_tool("ethtool");
    let roads = ROADS.to_owned()
        + "for end in near far; do\n\
           tc -n middle qdisc add dev $end root netem limit 10000 delay 2ms\n\
           done\n";
    let longest: Duration = cuts().iter().map(|(_, length)| 4 * *length + PATIENCE).sum();
    let output = Machine::new(TEST, "1G", longest).setup(&roads).run();
    tools::report("partition", &uml::table("A network that is cut", &output));
}

fn cuts() -> Vec<(Cut, Duration)> {
    let lengths: &[_] = match tools::scale() {
        Scale::Part => &[(Cut::Loss, 1), (Cut::Down, 3)],
        Scale::Whole => {
            &[(Cut::Loss, 1), (Cut::Down, 1), (Cut::Down, 10), (Cut::Loss, 60), (Cut::Down, 120)]
        }
    };
    lengths.iter().map(|&(cut, seconds)| (cut, Duration::from_secs(seconds))).collect()
}

fn cut_again_and_again() {
    let mut scene = Scene::new();
    println!(
        "\n| cut | for | idle limit | quiet ended | early | late: median | late: worst \
         | stuck ended | dials failed | slots left | descriptors left | lasting went on within |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (cut, length) in cuts() {
        scene.cut(cut, length);
    }
    scene.end();
}

/// A server, its clients, and a network between them.
struct Scene {
    server: Program,
    reactor: Reactor,
    clients: Clients,
    /// Descriptors of this process while there is no connection.
    own_files: usize,
    /// The server's, likewise.
    server_files: usize,
    /// Cuts during which the idle limits passed late.
    late: Vec<String>,
}

impl Scene {
    fn new() -> Self {
        let server = Program::start(&mut behind(FAR, &copy_as(TEST, "server")));
        let server_files = server.hear("ready, descriptors:", PATIENCE);
        let server_files = server_files.parse().expect("a number");
        let mut reactor = Reactor::new().expect("a reactor");
        let clients = Clients::new(&mut reactor);
        let own_files = server::open_files();
        let late = Vec::new();
        let mut scene = Self { server, reactor, clients, own_files, server_files, late };
        scene.connect(Kind::Lasting, LASTING, Duration::ZERO);
        scene.until("the lasting are there", PATIENCE, |clients| clients.lasting() == LASTING);
        scene
    }

    fn cut(&mut self, cut: Cut, length: Duration) {
        let limit = length / 2;
        self.connect(Kind::Busy, BUSY, length / 4);
        self.until("the busy are busy", PATIENCE, |clients| clients.busy == BUSY);
        self.connect(Kind::Quiet, QUIET, limit);
        self.until("the quiet are there", PATIENCE, |clients| clients.quiet == QUIET);
        let begin = Instant::now();
        set(cut, true);
        let rounds = self.state().rounds.clone();
        self.clients.dial_in_vain(&mut self.reactor, DIALS, limit);
        self.drive(length.saturating_sub(begin.elapsed()));

        // At the end of the cut, and before it is healed.
        let report = self.report();
        self.judge(cut, length, &report);
        let failed = self.state().failed;
        assert_eq!(failed, DIALS, "dials that failed");
        set(cut, false);
        let healed = Instant::now();
        // TCP tries again after a time that has doubled since the cut began.
        self.until("the lasting go on", 2 * length + PATIENCE, |clients| {
            clients.rounds.iter().zip(&rounds).all(|(now, then)| now > &(then + 1))
        });
        let resumed = healed.elapsed();
        self.expect_clean();
        println!(
            "| {cut:?} | {length:?} | {limit:?} | {} of {QUIET} | {} | {:?} | {:?} \
             | {} of {BUSY} | {failed} of {DIALS} | {} | {} | {resumed:.1?} |",
            report.expired,
            report.early,
            report.median_late,
            report.worst_late,
            report.stuck,
            report.slots - LASTING,
            report.files - self.server_files - LASTING,
        );
    }

    /// What is late fails the test only after the last cut, so that the whole table is there.
    fn judge(&mut self, cut: Cut, length: Duration, report: &Report) {
        assert_eq!(report.expired, QUIET, "idle limits that passed: {report:?}");
        assert_eq!(report.early, 0, "{report:?}");
        assert_eq!(report.stuck, BUSY, "{report:?}");
        if report.median_late > MEDIAN_LATE || report.worst_late > MAX_LATE {
            let Report { median_late, worst_late, .. } = report;
            let late = format!("{cut:?} for {length:?}: {median_late:?}, at worst {worst_late:?}");
            self.late.push(late);
        }
    }

    /// What the server says at the end of a cut: only the lasting are left.
    fn report(&mut self) -> Report {
        let line = self.server.ask("report", "report:", PATIENCE);
        let report = Report::parse(&line);
        assert_eq!(report.slots, LASTING, "connections that the server has left: {report:?}");
        let files = self.server_files + LASTING;
        assert_eq!(report.files, files, "descriptors that the server has left: {report:?}");
        report
    }

    /// The clients that were cut off learn of it as soon as they say something, and then this end
    /// has only the lasting left, too.
    fn expect_clean(&mut self) {
        assert!(self.state().broken.is_empty(), "{:?}", self.state().broken);
        self.clients.poke(&mut self.reactor);
        self.until("the others end", PATIENCE, |clients| clients.ended == QUIET + BUSY);
        assert_eq!(self.reactor.stats().connections, LASTING as u64);
        assert_eq!(server::open_files(), self.own_files + LASTING);
        self.state().forget();
    }

    /// The lasting have survived all cuts, and end well.
    fn end(mut self) {
        self.clients.close_lasting(&mut self.reactor);
        self.until("the lasting end", PATIENCE, |clients| clients.ended == LASTING);
        assert!(self.state().broken.is_empty(), "{:?}", self.state().broken);
        assert_eq!(self.reactor.stats().connections, 0);
        assert_eq!(server::open_files(), self.own_files);
        let report = Report::parse(&self.server.ask("report", "report:", PATIENCE));
        assert_eq!((report.slots, report.files), (0, self.server_files));
        println!("| at the end | | | | | | | | | {} | 0 | |", report.slots);
        self.server.finish(PATIENCE);
        // A busy host may delay the machine for the time of one cut.
        assert!(self.late.len() <= 1, "idle limits passed late: {:#?}", self.late);
    }

    fn connect(&mut self, kind: Kind, count: usize, limit: Duration) {
        self.clients.connect(&mut self.reactor, kind, count, limit);
    }

    fn state(&mut self) -> &mut clients::State {
        self.clients.state(&mut self.reactor)
    }

    fn drive(&mut self, time: Duration) {
        let start = Instant::now();
        while let Some(left) = time.checked_sub(start.elapsed()) {
            self.reactor.run_once(Some(left)).expect("turns");
        }
    }

    #[track_caller]
    fn until(&mut self, what: &str, patience: Duration, done: impl Fn(&clients::State) -> bool) {
        let start = Instant::now();
        while !done(self.state()) {
            assert!(start.elapsed() < patience, "waited in vain: {what}; {:?}", self.state());
            self.reactor.run_once(Some(Duration::from_millis(10))).expect("turns");
        }
    }
}

/// Cuts the network, or heals it.
fn set(cut: Cut, is_cut: bool) {
    match cut {
        Cut::Loss => {
            for end in ["near", "far"] {
                let loss = if is_cut { "100%" } else { "0%" };
                let shape = ["netem", "limit", "10000", "delay", "2ms", "loss", loss];
                let command = ["-n", "middle", "qdisc", "change", "dev", end, "root"];
                run(Command::new("tc").args(command).args(shape));
            }
        }
        Cut::Down => {
            let state = if is_cut { "down" } else { "up" };
            run(Command::new("ip").args(["-n", "middle", "link", "set", "far", state]));
        }
    }
}

fn run(command: &mut Command) {
    let status = command.status();
    assert!(status.as_ref().is_ok_and(|status| status.success()), "{command:?}: {status:?}");
}
