//! A bad network: packets are lost, late, doubled, out of order and damaged, and not a byte of any
//! stream changes.
//!
//! The two ends and a router between them each have a network of their own; it is the router that
//! mistreats the packets. The ends compute the checksums themselves and send no more than a frame
//! at a time, as over a wire: damage done in the router strikes any byte of a packet, and only
//! TCP's checksum is there to see it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use waterwheel::{
    Closed, Conn, ConnectOptions, Context, Handler, Limits, Peer, Reactor, TcpOptions, Written,
};

use crate::chance::stream_bytes;
use crate::program::{Program, behind};
use crate::tools::{self, Scale};
use crate::uml::{self, Machine};

/// Puts a command into the network of the far end.
pub(crate) const FAR: &str = "ip netns exec far";

/// The far end's address.
pub(crate) const FAR_ADDR: &str = "10.9.2.1";

/// Two ends and the router between them.
pub(crate) const ROADS: &str = r#"
for name in sch_netem veth; do load $name; done
for name in middle far; do ip netns add $name; ip -n $name link set lo up; done
# as over a wire: what this end of a link sends has its checksum, and is a frame long
wire() { $1 ethtool -K "$2" tx off sg off tso off gso off gro off >/dev/null; }
ip link add near type veth peer name near netns middle
ip -n far link add far type veth peer name far netns middle
wire "" near
wire "ip netns exec middle" near
wire "ip netns exec middle" far
wire "ip netns exec far" far
ip addr add 10.9.1.1/24 dev near
ip -n middle addr add 10.9.1.2/24 dev near
ip -n middle addr add 10.9.2.2/24 dev far
ip -n far addr add 10.9.2.1/24 dev far
ip link set near up
ip -n middle link set near up
ip -n middle link set far up
ip -n far link set far up
ip netns exec middle sysctl -q -w net.ipv4.ip_forward=1
ip route add default via 10.9.1.2
ip -n far route add default via 10.9.2.2
"#;

/// What the router does to each packet, either way.
const BAD: &str = "delay 20ms 5ms loss 10% reorder 10% duplicate 2% corrupt 1%";

const TEST: &str = "network::a_bad_network_changes_no_byte";

const CONNECTIONS: u64 = 50;

/// Bytes of a write.
const CHUNK_BYTES: u64 = 16 << 10;

/// A connection attempt may lose its first packets, and a last one its answer.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
#[ignore = "tests/faults/run runs it"]
fn a_bad_network_changes_no_byte() {
    if uml::is_inside() {
        return send_and_compare();
    }
    tools::need_tool("ethtool");
    let roads = ROADS.to_owned()
        + "for end in near far; do\n\
           tc -n middle qdisc add dev $end root netem limit 100000 "
        + BAD
        + "\ndone\n";
    let machine = Machine::new(TEST, "2G", deadline()).setup(&roads);
    tools::report("network", &uml::table("A bad network", &machine.run()));
}

/// Bytes that are sent in all, and come back.
fn total() -> u64 {
    match tools::scale() {
        Scale::Part => 64 << 20,
        Scale::Whole => 256 << 20,
    }
}

fn deadline() -> Duration {
    match tools::scale() {
        Scale::Part => Duration::from_secs(180),
        Scale::Whole => Duration::from_secs(900),
    }
}

fn send_and_compare() {
    let start = Instant::now();
    let server = format!("{FAR_ADDR}:7000");
    let mut echo = Command::new(tools::program("echo"));
    echo.args(["--idle-timeout", "0", "--listen", &server]);
    let echo = Program::start(&mut behind(FAR, &echo));
    echo.hear("listening on", PATIENCE);
    let each = total().div_ceil(CONNECTIONS);
    let senders = run_senders(server.parse().expect("an address"), each);
    let took = start.elapsed().as_secs_f64();
    echo.signal(Signal::TERM);
    let stats = echo.hear("open 0 ", PATIENCE);

    assert_eq!(senders.ends, CONNECTIONS, "{:?}", senders.troubles);
    assert!(senders.troubles.is_empty(), "{:?}", senders.troubles);
    let bytes = each * CONNECTIONS;
    assert!(stats.contains(&format!("closed {CONNECTIONS} (idle 0, broken 0)")), "{stats}");
    assert!(stats.contains(&format!("read {bytes} bytes")), "{stats}");
    assert!(stats.contains(&format!("wrote {bytes} in")), "{stats}");
    println!("\n| what | figure |\n|---|---|");
    println!("| each packet, either way | {BAD} |");
    println!("| sent through an echo server, and back | {bytes} bytes each way |");
    println!("| over | {CONNECTIONS} connections |");
    println!("| bytes that came back and were compared with those sent | {} |", senders.compared);
    println!("| wrong, missing or surplus bytes | 0 |");
    println!("| connections that broke | 0 |");
    println!("| time | {took:.0} s |");
    print_counters();
}

/// What the kernels of the ends and the router's queues have seen: the network was bad.
fn print_counters() {
    let [near, far] = ["", FAR].map(snmp);
    for (text, name) in [
        ("segments sent again", "Tcp.RetransSegs"),
        ("segments thrown away for a wrong checksum", "Tcp.InCsumErrors"),
        ("packets thrown away for a damaged header", "Ip.InHdrErrors"),
        ("segments received", "Tcp.InSegs"),
    ] {
        let [near, far] = [&near, &far].map(|counters| counters[name]);
        assert!(near + far > 0, "the network was not bad: no {text}");
        println!("| {text}, near and far | {near} and {far} |");
    }
    let queues = Command::new("tc").args(["-n", "middle", "-s", "qdisc", "show"]).output();
    let queues = String::from_utf8(queues.expect("tc").stdout).expect("text");
    for (end, line) in ["near", "far"].iter().zip(lines_about(&queues, "Sent ")) {
        println!("| the router, towards the {end} end | {line} |");
    }
}

fn lines_about<'a>(text: &'a str, beginning: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = text.lines().skip_while(|line| !line.starts_with("qdisc netem"));
    lines.map(str::trim).filter(move |line| line.starts_with(beginning))
}

/// The counters of a network, by names such as `Tcp.InSegs`.
fn snmp(front: &str) -> HashMap<String, u64> {
    let output = behind(front, Command::new("cat").arg("/proc/net/snmp")).output();
    let text = String::from_utf8(output.expect("cat").stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    let mut counters = HashMap::new();
    for pair in lines.chunks_exact(2) {
        let (group, names) = pair[0].split_once(": ").expect("names");
        let values = pair[1].split_whitespace().skip(1);
        for (name, value) in names.split_whitespace().zip(values) {
            // One of them may be negative, and is no count.
            counters.insert(format!("{group}.{name}"), value.parse().unwrap_or(0));
        }
    }
    counters
}

/// The clients: each sends a stream of its own and compares what comes back, byte for byte.
#[derive(Debug)]
struct Senders {
    each: u64,
    /// Connections that came to their end.
    ends: u64,
    compared: u64,
    troubles: Vec<String>,
}

#[derive(Debug)]
struct Stream {
    seed: u64,
    sent: u64,
    received: u64,
}

fn run_senders(server: SocketAddr, each: u64) -> Senders {
    let mut reactor = Reactor::new().expect("a reactor");
    let senders = Senders { each, ends: 0, compared: 0, troubles: Vec::new() };
    let service = reactor.register(senders);
    let options = ConnectOptions::default()
        .timeout(PATIENCE)
        .tcp(TcpOptions::default().nodelay(false))
        .limits(Limits::default().pause_at_high_mark(false).close_timeout(PATIENCE));
    for seed in 0..CONNECTIONS {
        let _ = reactor.connect(server, service, Stream { seed, sent: 0, received: 0 }, &options);
    }
    let (start, mut said) = (Instant::now(), Instant::now());
    loop {
        reactor.run_once(Some(Duration::from_secs(1))).expect("turns");
        let senders = reactor.handler_mut(service).expect("its service");
        if said.elapsed() > Duration::from_secs(5) {
            said = Instant::now();
            println!("{:.0} s: {} bytes", start.elapsed().as_secs_f64(), senders.compared);
        }
        if senders.ends == CONNECTIONS || !senders.troubles.is_empty() {
            break;
        }
    }
    let empty = Senders { each, ends: 0, compared: 0, troubles: Vec::new() };
    std::mem::replace(reactor.handler_mut(service).expect("its service"), empty)
}

impl Handler for Senders {
    type State = Stream;

    fn on_accept(&mut self, _: &Peer) -> Option<Stream> {
        None
    }

    fn on_open(&mut self, stream: &mut Stream, conn: &mut Conn<'_>) {
        self.send(stream, conn);
    }

    fn on_drain(&mut self, stream: &mut Stream, conn: &mut Conn<'_>) {
        self.send(stream, conn);
    }

    fn on_data(&mut self, stream: &mut Stream, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        if input != stream_bytes(stream.seed, stream.received, input.len()) {
            self.troubles.push(format!("a wrong byte after {} of {stream:?}", stream.received));
        }
        stream.received += input.len() as u64;
        self.compared += input.len() as u64;
        if stream.received >= self.each {
            conn.close();
        }
        input.len()
    }

    fn on_close(&mut self, stream: Stream, closed: Closed, _: &mut Context<'_>) {
        self.ends += 1;
        if stream.received != self.each || closed.unsent_bytes != 0 {
            self.troubles.push(format!("{stream:?} ended: {closed:?}"));
        }
    }

    fn on_connect_failed(&mut self, stream: Stream, error: std::io::Error, _: &mut Context<'_>) {
        self.troubles.push(format!("{stream:?}: {error}"));
    }
}

impl Senders {
    /// As much as is taken below the mark.
    fn send(&mut self, stream: &mut Stream, conn: &mut Conn<'_>) {
        while stream.sent < self.each {
            let count = CHUNK_BYTES.min(self.each - stream.sent);
            let written = conn.write(&stream_bytes(stream.seed, stream.sent, count as usize));
            assert!(written.is_accepted(), "{written:?}");
            stream.sent += count;
            if written == Written::Above {
                return;
            }
        }
    }
}
