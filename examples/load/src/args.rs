//! The command line: read, checked against the mode, and completed with the mode's defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::http::{self, Circumstances, Url};
use crate::pattern::Pattern;
use crate::plan::{Ending, Mode, Plan, UDP_HEADER_BYTES, most_datagram_bytes};
use crate::target::{first_that_answers, resolve};
use crate::tls::{Tls, Wish};
use crate::ws::Hello;

pub(crate) const USAGE: &str = "\
usage: load [MODE] [options]
       load http [MODE] [URL] [options]
       load ws [MODE] [URL] [options]

modes
  closed    each connection keeps so many messages in flight (the mode if none is named)
  open      messages leave at a fixed total rate, whatever the answers do; latency counts from
            the moment each was meant to leave, so a server that stalls cannot hide it
  storm     connect, one exchange, close, and again
  hold      many idle connections, a few active ones; in the end each idle one must still answer
  udp       echoes over UDP: loss, duplicates, reordering and latency; a closed loop, or an open
            one with --rate, which alone tells the loss of a steady load: in a closed one a lost
            datagram keeps its place for the timeout, and a dead server costs few of them

With http each message is a request of HTTP/1.1, and each answer is checked: its framing, its
status, and its body, which must be that of the first answer. Without URL and --connect the server
is one in this process (which wants a build with --features web). A connection whose end the server
announces is made again.

With ws each message is one of WebSocket, in a frame of its own, and must come back as it was sent,
in one frame or in many. The connection counts as made when the server has answered the handshake;
no extension is offered. Without URL and --connect the server is one in this process, as with http.
A storm ends each connection with a Close frame, which the server must answer.

options                     of        what
  --connect HOST:PORT       all       the server, which must send back what it gets; of several
                                      addresses of a name the first that answers is used
                                      [one in this process, on a thread of its own]
  --connections N           c o h u   connections, sockets [64; hold: 10000, or what fits]
  --size BYTES              all       bytes of a message [64]; udp: 20 to 65507, over IPv6 65527;
                                      http: bytes of the body of a request [no body]
  --depth N                 c u       messages in flight on a connection [1]; http: of c and o, and
                                      --pipeline N is the same
  --rate PER_SECOND         o s u     messages a second, of all connections together [open: 10000];
                                      storm: connections begun [as many as end]
  --timeout MS              u         a datagram without an answer for so long is lost [1000]
  --in-flight K             s h       connections begun and not ended (storm: 64), dials begun
                                      and not up (hold: 256)
  --sources N               s h       dial from 127.0.0.1 to 127.0.0.N, to a loopback server only:
                                      each has its own ports [storm on Linux: 32; hold: what
                                      --connections needs; else 1, which the system chooses]
  --close fin|reset         s         end with FIN (the ports linger in TIME_WAIT) or RST [fin]
  --close server            http c o s  each request says Connection: close, and the server ends
  --method NAME             http      the method [GET; with a body POST]
  --body TEXT|@FILE         http      the body of a request
  --header 'NAME: VALUE'    http ws   a field of a request, or of the handshake; may be given again
  --status N                http      the status that each answer must have [200]
  --expect TEXT|@FILE       http      the body that each answer must have [that of the first]
  --any-body                http      do not compare bodies
  --tls                     c o s h   encrypt; the server in this process makes a certificate, any
                                      certificate of another server is taken; https:// and wss://
                                      are it
  --tls-roots FILE          c o s h   take only certificates that these have signed (PEM)
  --tls-name NAME           c o s h   what the server is called [the host of the URL or --connect]
  --resume                  s         resume TLS sessions [full handshakes]
  --active A                h         connections that exchange messages while the rest idles [10]
  --duration SECONDS        all       time that is measured [8]
  --warmup SECONDS          c o s u   time before it that is not [1]
  --seed N                  all       another content of the messages [1]
  --json                    all       print one JSON object, and progress on stderr
  --html FILE               all       write a page with the plot of the percentiles
  --help

The JSON object: mode, title, interrupted, ok, settings {}, figures {}, latency {series: {count,
min_us, mean_us, p50_us, p90_us, p99_us, p999_us, max_us}}, errors [{kind, count, example}],
failures [text]. Keys are only ever added.

The series exchange is the answers. With a rate they count from the moment each message was meant to
leave, or each connection of a storm to begin, and delay is how late it left: this tester looks once
a millisecond what is due, so that some 0.5 ms of both, and up to 1 ms, are its own. Of a storm with
a rate, offered are the connections that were due and sent those that were begun; where it is less,
--in-flight others had not ended, and the rest has no time.

Of http: body_megabytes_per_second are the bodies of answers. wrong are answers of another status,
length or body; they have no time. reconnects are connections that were made again; requests
without an answer then are sent again, and their time goes on. hold makes one request on each idle
connection when it is up, and one in the end.

With --tls, tls_handshakes and tls_resumed count those of all connections, in a storm those in the
measured time; the series connect lasts from a dial to the end of its handshake. Without --tls-roots
the certificate of another server is not verified, as certificates of tests seldom can be.

Figures of udp count the datagrams of the measured time: sent = answered + lost + not_sent +
in_flight. offered, with --rate, are those that were due; where it is more than sent, this tester
was too slow for the rest. loss_percent is lost of answered + lost. late are those of the lost that
came after the timeout; they stay lost. duplicates are answers beyond the first. reordered are those
of the answered with a number smaller than the next expected (RFC 4737), reordering_extent is how
many answers it was at most since one of them was overtaken. too_old are answers of which it is not
known any more whether they are late or duplicates. receive_drops and server_receive_drops (Linux)
are what this machine dropped because this tester, or the server in this process, did not read fast
enough. queued had to wait for the send buffer, send_buffer_full were dropped there. wrong came back
changed, and are lost; foreign were not of this run, network_errors are what the network answered
instead. silent_sockets got no answer in time at all: in a closed loop a silent one sends so little
that the loss hardly tells of it. It, the drops, send_buffer_full, wrong, foreign and network_errors
count from the beginning, the warm-up too, so that they may be more than lost. datagrams_per_second
are the answers that came in the measured time; answered has those after it as well.

In the end answers are waited for, for 10 s at most, or, with hold, as long as some come. They are
given up after a silence of twice the longest exchange so far, of 2 s at least and 30 s at most.

Exit code: 0; 1 if a byte was wrong, a connection was lost or not made, or something stayed without
an answer; 2 if what was asked for makes no sense or does not fit. Of udp: loss is a measurement and
no failure; 1 if a datagram was wrong or none was answered. SIGINT ends the run early, with its
table.";

/// The modes over TCP.
const TCP: [Mode; 4] = [Mode::Closed, Mode::Open, Mode::Storm, Mode::Hold];

/// The options that only some modes have.
const MODES_OF: [(&str, &[Mode]); 13] = [
    ("connections", &[Mode::Closed, Mode::Open, Mode::Hold, Mode::Udp]),
    ("depth", &[Mode::Closed, Mode::Udp]),
    ("rate", &[Mode::Open, Mode::Storm, Mode::Udp]),
    ("timeout", &[Mode::Udp]),
    ("in-flight", &[Mode::Storm, Mode::Hold]),
    ("sources", &[Mode::Storm, Mode::Hold]),
    ("close", &[Mode::Storm]),
    ("active", &[Mode::Hold]),
    ("tls", &TCP),
    ("tls-roots", &TCP),
    ("tls-name", &TCP),
    ("resume", &[Mode::Storm]),
    ("warmup", &[Mode::Closed, Mode::Open, Mode::Storm, Mode::Udp]),
];

/// The options that are for HTTP, and have a value: all but `header` for it alone.
const HTTP: [&str; 5] = ["method", "body", "header", "status", "expect"];

/// What was given, before the defaults of the mode fill the gaps.
#[derive(Default)]
struct Given {
    mode: Option<Mode>,
    /// All addresses of the server's name.
    targets: Vec<SocketAddr>,
    connections: Option<usize>,
    size: Option<usize>,
    depth: Option<usize>,
    rate: Option<u32>,
    timeout: Option<u64>,
    in_flight: Option<usize>,
    sources: Option<u8>,
    active: Option<usize>,
    ending: Option<Ending>,
    duration: Option<Duration>,
    warmup: Option<Duration>,
    seed: Option<u64>,
    json: bool,
    html: Option<PathBuf>,
    /// What was given for `--connect`.
    connect: Option<String>,
    /// What is asked of HTTP, if it is to be spoken.
    is_http: bool,
    /// WebSocket is to be spoken.
    is_ws: bool,
    http: http::Wish,
    tls_roots: Option<String>,
    tls_name: Option<String>,
    /// The names of the options that were given.
    names: Vec<String>,
}

/// `None` asks for the usage.
pub(crate) fn parse() -> Result<Option<Plan>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut given = Given::default();
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Value(word) => given.take_word(&word.string()?)?,
            Long("help") | Short('h') => return Ok(None),
            Long("json") => given.json = true,
            Long(name @ ("tls" | "resume" | "any-body")) => given.names.push(name.to_owned()),
            Long(name) => {
                let name = name.to_owned();
                if !given.take(&name, &mut parser)? {
                    return Err(Long(&name).unexpected());
                }
                given.names.push(name);
            }
            _ => return Err(arg.unexpected()),
        }
    }
    given.complete().map(Some).map_err(lexopt::Error::from)
}

fn parse_mode(name: &str) -> Result<Mode, String> {
    Mode::ALL
        .into_iter()
        .find(|mode| mode.name() == name)
        .ok_or_else(|| format!("there is no mode {name:?}, only closed, open, storm, hold and udp"))
}

impl Given {
    /// Takes a word that is no option: what is spoken, the mode, or a URL.
    fn take_word(&mut self, word: &str) -> Result<(), String> {
        let is_first = !self.is_http && !self.is_ws;
        if word == "http" && is_first {
            self.is_http = true;
        } else if word == "ws" && is_first {
            self.is_ws = true;
        } else if word.contains("://") && self.http.url.is_none() {
            self.http.url = Some(Url::parse(word)?);
        } else if self.mode.is_none() {
            self.mode = Some(parse_mode(word)?);
        } else {
            return Err(format!("{word:?} is a word too many"));
        }
        Ok(())
    }

    /// Reads the value of an option; `false` if there is no such option.
    fn take(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<bool, lexopt::Error> {
        use lexopt::prelude::*;
        let mut value = || parser.value()?.string();
        match name {
            "connect" => {
                let text = value()?;
                self.targets = resolve(&text).map_err(|error| format!("--connect {error}"))?;
                self.connect = Some(text);
            }
            "tls-roots" => self.tls_roots = Some(value()?),
            "tls-name" => self.tls_name = Some(value()?),
            "connections" => self.connections = Some(whole(name, &value()?, MOST_CONNECTIONS)?),
            "size" => self.size = Some(whole(name, &value()?, MOST_BYTES)?),
            "depth" | "pipeline" => self.depth = Some(whole(name, &value()?, 1 << 16)?),
            "rate" => self.rate = Some(whole(name, &value()?, 10_000_000)?),
            "timeout" => self.timeout = Some(whole(name, &value()?, MOST_TIMEOUT_MILLIS)?),
            "in-flight" => self.in_flight = Some(whole(name, &value()?, MOST_CONNECTIONS)?),
            "sources" => self.sources = Some(whole(name, &value()?, 254)?),
            "active" => self.active = Some(number(name, &value()?)?),
            "close" => self.ending = Some(parse_ending(&value()?)?),
            "duration" => self.duration = Some(seconds(name, &value()?, SHORTEST)?),
            "warmup" => self.warmup = Some(seconds(name, &value()?, Duration::ZERO)?),
            "seed" => self.seed = Some(number(name, &value()?)?),
            "html" => self.html = Some(PathBuf::from(parser.value()?)),
            name if HTTP.contains(&name) => return Ok(self.http.take(name, value()?)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Checks the options against the mode and against each other.
    fn complete(mut self) -> Result<Plan, String> {
        let mode = self.mode.unwrap_or(Mode::Closed);
        self.check_url()?;
        self.check_ws(mode)?;
        self.check_http(mode)?;
        for (name, modes) in MODES_OF {
            let is_pipeline = self.is_http && mode == Mode::Open && name == "depth";
            let is_end = self.is_http && name == "close";
            if self.has(name) && !modes.contains(&mode) && !is_pipeline && !is_end {
                let modes: Vec<_> = modes.iter().map(|mode| mode.name()).collect();
                let modes = modes.join(", ");
                return Err(format!("--{name} is for the mode {modes}, not for {mode}"));
            }
        }
        if let (Some(url), None) = (&self.http.url, &self.connect) {
            self.targets = resolve(&url.authority)?;
        }
        let target = first_that_answers(&self.targets, mode == Mode::Udp);
        if mode == Mode::Udp {
            self.check_udp(target)?;
        }
        // A minute's TIME_WAIT of a storm, spread so thin that each source has ports to spare.
        let is_storm_on_linux = mode == Mode::Storm && cfg!(target_os = "linux");
        let is_loopback = target.is_none_or(|addr| addr.ip().is_loopback());
        let is_v4 = target.is_none_or(|addr| addr.is_ipv4());
        let many_sources = is_loopback && is_v4;
        if self.sources.is_some_and(|sources| sources > 1) && !many_sources {
            return Err("--sources needs a server on 127.0.0.0/8: only loopback has \
                        addresses to spare"
                .to_owned());
        }
        let tls = self.tls()?;
        let http = self.request(tls.is_some())?;
        let ws = self.hello(tls.is_some())?;
        let plan = Plan {
            mode,
            tls,
            target,
            connections: self.connections,
            size: http.as_ref().map_or(self.size.unwrap_or(64), |http| http.bytes.len()),
            http,
            ws,
            depth: self.depth.unwrap_or(1),
            rate: match mode {
                Mode::Open => Some(self.rate.unwrap_or(10_000)),
                _ => self.rate,
            },
            timeout: Duration::from_millis(self.timeout.unwrap_or(1_000)),
            in_flight: self.in_flight.unwrap_or(match mode {
                Mode::Storm => 64,
                _ => 256,
            }),
            sources: match self.sources {
                None if is_storm_on_linux && many_sources => Some(32),
                sources => sources,
            },
            active: self.active,
            ending: self.ending.unwrap_or(Ending::Fin),
            duration: self.duration.unwrap_or(Duration::from_secs(8)),
            warmup: match mode {
                Mode::Hold => Duration::ZERO,
                _ => self.warmup.unwrap_or(Duration::from_secs(1)),
            },
            seed: self.seed.unwrap_or(1),
            json: self.json,
            html: self.html,
            files: None,
        };
        Ok(plan)
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|given| given == name)
    }

    /// What is spoken, as the URL has it.
    fn check_url(&mut self) -> Result<(), String> {
        let Some(url) = &self.http.url else { return Ok(()) };
        if (self.is_http && url.is_ws) || (self.is_ws && !url.is_ws) {
            let spoken = if self.is_http { "http" } else { "ws" };
            return Err(format!("{spoken} is not what the URL begins with"));
        }
        if !url.is_tls && self.has("tls") {
            let scheme = if url.is_ws { "ws" } else { "http" };
            return Err(format!("--tls and a URL that begins with {scheme}:// exclude each other"));
        }
        self.is_ws = url.is_ws;
        self.is_http = !url.is_ws;
        Ok(())
    }

    /// Whether what was given fits WebSocket.
    fn check_ws(&self, mode: Mode) -> Result<(), String> {
        match mode {
            Mode::Udp if self.is_ws => Err("WebSocket is not spoken over UDP".to_owned()),
            _ => Ok(()),
        }
    }

    /// Whether what was given of HTTP is for it, and fits together.
    fn check_http(&mut self, mode: Mode) -> Result<(), String> {
        self.http.any_body = self.has("any-body");
        let is_closing = self.ending == Some(Ending::Server);
        if !self.is_http {
            let own = HTTP.iter().chain(&["any-body", "pipeline"]);
            let mut own = own.filter(|name| !self.is_ws || **name != "header");
            return match own.find(|name| self.has(name)) {
                Some(name) => Err(format!("--{name} is for http")),
                None if is_closing => Err("--close server is for http".to_owned()),
                None => Ok(()),
            };
        }
        let may_pipeline = matches!(mode, Mode::Closed | Mode::Open);
        match mode {
            Mode::Udp => Err("http is not spoken over UDP".to_owned()),
            _ if self.has("pipeline") && !may_pipeline => {
                Err(format!("--pipeline is for the modes closed and open, not for {mode}"))
            }
            Mode::Hold if is_closing => Err("--close is not for the mode hold".to_owned()),
            Mode::Closed | Mode::Open if self.has("close") && !is_closing => {
                Err(format!("in the mode {mode} --close is server only"))
            }
            _ if is_closing && self.depth.is_some_and(|depth| depth > 1) => {
                Err("a last request has none behind it: --close server is with --depth 1"
                    .to_owned())
            }
            _ => Ok(()),
        }
    }

    /// What is asked for, if HTTP is spoken.
    fn request(&mut self, is_https: bool) -> Result<Option<http::Request>, String> {
        if !self.is_http {
            return Ok(None);
        }
        let filling = self.size.map(|size| {
            let mut body = vec![0; size];
            Pattern::new(self.seed.unwrap_or(1)).fill(0, 0, &mut body);
            body
        });
        let closes = self.ending == Some(Ending::Server);
        let connect = self.connect.as_deref();
        let with = Circumstances { connect, filling, closes, is_https };
        std::mem::take(&mut self.http).complete(with).map(Some)
    }

    /// How WebSocket is asked for, if that is spoken.
    fn hello(&mut self, is_wss: bool) -> Result<Option<Hello>, String> {
        if !self.is_ws {
            return Ok(None);
        }
        let place = match (&self.http.url, &self.connect) {
            (Some(url), _) => (url.host.as_str(), url.target.as_str()),
            (None, Some(host)) => (host.as_str(), "/"),
            (None, None) => ("localhost", "/"),
        };
        Hello::new(is_wss, place, &self.http.fields).map(Some)
    }

    /// What encrypts the connections.
    fn tls(&self) -> Result<Option<Tls>, String> {
        let has = |name: &str| self.has(name);
        let url = self.http.url.as_ref();
        if !has("tls") && !url.is_some_and(|url| url.is_tls) {
            let without = ["tls-roots", "tls-name", "resume"].into_iter().find(|name| has(name));
            return match without {
                Some(name) => Err(format!("--{name} is for --tls")),
                None => Ok(None),
            };
        }
        let own_name = || match (url, &self.connect) {
            (Some(url), _) => host_of(&url.authority),
            (None, Some(text)) => host_of(text),
            (None, None) => "localhost",
        };
        let wish = Wish {
            name: self.tls_name.clone().unwrap_or_else(|| own_name().to_owned()),
            roots: self.tls_roots.clone(),
            resumes: has("resume"),
            is_own: self.connect.is_none() && url.is_none(),
        };
        Tls::new(wish).map(Some)
    }

    fn check_udp(&self, target: Option<SocketAddr>) -> Result<(), String> {
        let most = most_datagram_bytes(target);
        if let Some(size) = self.size
            && !(UDP_HEADER_BYTES..=most).contains(&size)
        {
            return Err(format!(
                "--size is {size}; a datagram of udp has {UDP_HEADER_BYTES} bytes at the \
                 least, to be recognized by, and {most} at the most"
            ));
        }
        match (self.depth, self.rate) {
            (Some(_), Some(_)) => Err("--depth is for a closed loop and --rate for an open one; \
                                       give one of them"
                .to_owned()),
            _ => Ok(()),
        }
    }
}

/// As many as fit in 32 bits are more than any system has.
const MOST_CONNECTIONS: u64 = 10_000_000;

/// A message is held in memory as often as it is in flight.
const MOST_BYTES: u64 = 16 << 20;

/// A minute is longer than any way there and back.
const MOST_TIMEOUT_MILLIS: u64 = 60_000;

/// A shorter window holds too few turns of the 10 ms ticker to mean anything.
const SHORTEST: Duration = Duration::from_millis(100);

/// So that a slip of the finger does not run for years.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The host of `HOST:PORT`, an IPv6 address without its brackets and its interface.
fn host_of(text: &str) -> &str {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    match host.strip_prefix('[') {
        Some(inside) => inside.split(['%', ']']).next().unwrap_or(inside),
        None => host,
    }
}

fn parse_ending(text: &str) -> Result<Ending, String> {
    match text {
        "fin" => Ok(Ending::Fin),
        "reset" => Ok(Ending::Reset),
        "server" => Ok(Ending::Server),
        _ => Err(format!("--close is {text:?}; it must be fin, reset or server")),
    }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("--{name} is {text:?}; it must be a whole number"))
}

/// From 1 to `most`.
fn whole<T: TryFrom<u64>>(name: &str, text: &str, most: u64) -> Result<T, String> {
    let wrong = || format!("--{name} is {text:?}; it must be a whole number from 1 to {most}");
    match text.parse::<u64>() {
        Ok(value) if (1..=most).contains(&value) => T::try_from(value).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

fn seconds(name: &str, text: &str, least: Duration) -> Result<Duration, String> {
    let value = text.parse::<f64>().ok();
    let value = value.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    value.filter(|value| (least..=LONGEST).contains(value)).ok_or_else(|| {
        let (least, most) = (least.as_secs_f64(), LONGEST.as_secs());
        format!("--{name} is {text:?}; it must be from {least} to {most} seconds")
    })
}
