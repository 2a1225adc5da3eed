//! What a run has shown, in words and figures: what the table, the JSON object and the page are
//! made of.

use std::net::SocketAddr;
use std::time::Duration;

use crate::http;
use crate::plan::{Ending, Mode, Plan};
use crate::tally::{Tally, Times};
use crate::units::{grouped, latency, plural};

pub(crate) struct Report {
    pub(crate) mode: Mode,
    /// What was run, in a line.
    pub(crate) title: String,
    pub(crate) settings: Vec<Figure>,
    pub(crate) figures: Vec<Figure>,
    /// The first is the one to look at.
    pub(crate) series: Vec<Series>,
    pub(crate) faults: Vec<FaultLine>,
    /// Why the run is not a success; empty if it is one.
    pub(crate) failures: Vec<String>,
    pub(crate) interrupted: bool,
}

/// One figure.
#[derive(Clone)]
pub(crate) struct Figure {
    /// Its name for machines, which tells the unit.
    pub(crate) key: &'static str,
    /// Its name for people.
    pub(crate) label: &'static str,
    pub(crate) value: Value,
}

#[derive(Clone)]
pub(crate) enum Value {
    Count(u64),
    PerSecond(f64),
    Percent(f64),
    MegabytesPerSecond(f64),
    Seconds(f64),
    Text(String),
}

/// Times of one kind.
pub(crate) struct Series {
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) times: Times,
}

/// What went wrong in one way.
pub(crate) struct FaultLine {
    pub(crate) kind: String,
    pub(crate) count: u64,
    pub(crate) example: String,
}

/// The quantiles that are told, with their names for machines and for people.
pub(crate) const QUANTILES: [(&str, &str, f64); 4] = [
    ("p50_us", "p50", 0.5),
    ("p90_us", "p90", 0.9),
    ("p99_us", "p99", 0.99),
    ("p999_us", "p99.9", 0.999),
];

impl Value {
    /// For people, with the unit.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Count(count) => grouped(*count),
            Self::PerSecond(rate) if *rate < 100.0 => format!("{rate:.1} /s"),
            Self::PerSecond(rate) => format!("{} /s", grouped(rate.round() as u64)),
            Self::Percent(share) => format!("{share:.3} %"),
            Self::MegabytesPerSecond(rate) => format!("{rate:.2} MB/s"),
            Self::Seconds(seconds) => format!("{seconds:.2} s"),
            Self::Text(text) => text.clone(),
        }
    }
}

impl Series {
    /// The quantiles and the maximum, for people.
    pub(crate) fn cells(&self) -> Vec<String> {
        let quantiles = QUANTILES.iter();
        quantiles
            .map(|(_, _, quantile)| self.times.value_at_quantile(*quantile))
            .chain([self.times.max()])
            .map(latency)
            .collect()
    }
}

impl Report {
    pub(crate) fn new(plan: &Plan, addr: SocketAddr, tally: Tally) -> Self {
        Self {
            mode: plan.mode,
            title: title(plan, addr),
            settings: [http::reworded(plan, settings(plan, addr)), http::settings(plan)].concat(),
            figures: [
                http::reworded(plan, figures(plan, &tally)),
                http::figures(plan, &tally),
                handshakes(plan, &tally),
            ]
            .concat(),
            failures: failures(plan, &tally),
            interrupted: tally.interrupted,
            faults: tally
                .faults
                .iter()
                .map(|(kind, fault)| FaultLine {
                    kind: kind.clone(),
                    count: fault.count,
                    example: fault.example.clone(),
                })
                .collect(),
            series: series(plan, tally),
        }
    }
}

fn title(plan: &Plan, addr: SocketAddr) -> String {
    let connections = plural(plan.connections() as u64, "connection");
    let noun = noun(plan);
    let what = match plan.mode {
        Mode::Closed => {
            format!("{connections}, {} in flight on each", plural(plan.depth as u64, noun))
        }
        Mode::Open => {
            format!("{} {noun}s a second over {connections}", grouped(plan.rate().into()))
        }
        Mode::Storm => {
            let how = match plan.ending {
                Ending::Fin => "FIN",
                Ending::Reset => "RST",
                Ending::Server => "FIN by the server",
            };
            match plan.rate {
                Some(rate) => format!(
                    "{} a second, at most {} at a time, ended with {how}",
                    plural(rate.into(), "connection"),
                    plan.in_flight
                ),
                None => format!("{connections} at a time, ended with {how}"),
            }
        }
        Mode::Hold => format!("{connections}, {} of them active", plan.active()),
        Mode::Udp => {
            let sockets = plural(plan.connections() as u64, "socket");
            match plan.rate {
                Some(rate) => {
                    format!("{} a second over {sockets}", plural(rate.into(), "datagram"))
                }
                None => {
                    format!(
                        "{sockets}, {} in flight on each",
                        plural(plan.depth as u64, "datagram")
                    )
                }
            }
        }
    };
    let server = match plan.target {
        Some(_) => format!("server {addr}"),
        None => "server in this process".to_owned(),
    };
    let tls = if plan.tls.is_some() { " over TLS" } else { "" };
    match (&plan.http, &plan.ws) {
        (Some(http), _) => {
            let asked = format!("{} {}", http.method, http.url);
            format!("http {}: {what}, {asked}, {server}", plan.mode)
        }
        (None, Some(ws)) => {
            let (mode, size, url) = (plan.mode, plan.size, &ws.url);
            format!("ws {mode}: {what}, {size}-byte {noun}s, {url}, {server}")
        }
        (None, None) => {
            format!("{}: {what}, {}-byte {noun}s{tls}, {server}", plan.mode, plan.size)
        }
    }
}

/// What a message is called.
fn noun(plan: &Plan) -> &'static str {
    match plan.mode {
        Mode::Udp => "datagram",
        _ if plan.http.is_some() => "request",
        _ => "message",
    }
}

pub(crate) fn figure(key: &'static str, label: &'static str, value: Value) -> Figure {
    Figure { key, label, value }
}

fn settings(plan: &Plan, addr: SocketAddr) -> Vec<Figure> {
    let count = |key, label, value: usize| figure(key, label, Value::Count(value as u64));
    let time = |key, label, time: Duration| figure(key, label, Value::Seconds(time.as_secs_f64()));
    let mut list = vec![
        figure("target", "target", Value::Text(addr.to_string())),
        figure(
            "server",
            "server",
            Value::Text(match plan.target {
                Some(_) => "apart".to_owned(),
                None => "in this process".to_owned(),
            }),
        ),
        count("size_bytes", "message size, bytes", plan.size),
        time("duration_seconds", "duration", plan.duration),
        time("warmup_seconds", "warm-up", plan.warmup),
        figure("seed", "seed", Value::Count(plan.seed)),
    ];
    match plan.mode {
        Mode::Closed => list.extend([
            count("connections", "connections", plan.connections()),
            count("depth", "in flight on each", plan.depth),
        ]),
        Mode::Open => list.extend([
            count("connections", "connections", plan.connections()),
            count("rate_per_second", "rate, a second", plan.rate() as usize),
        ]),
        Mode::Storm => list.extend([
            count("in_flight", "in flight", plan.in_flight),
            count("sources", "sources", plan.sources().into()),
        ]),
        Mode::Hold => list.extend([
            count("connections", "connections", plan.connections()),
            count("active", "active", plan.active()),
            count("in_flight", "dials in flight", plan.in_flight),
            count("sources", "sources", plan.sources().into()),
        ]),
        Mode::Udp => list.extend([
            count("connections", "sockets", plan.connections()),
            match plan.rate {
                Some(rate) => count("rate_per_second", "rate, a second", rate as usize),
                None => count("depth", "in flight on each", plan.depth),
            },
            time("timeout_seconds", "timeout", plan.timeout),
        ]),
    }
    if plan.mode == Mode::Storm {
        list.extend(
            plan.rate.map(|rate| count("rate_per_second", "rate, a second", rate as usize)),
        );
    }
    if let Some(ws) = &plan.ws {
        list.push(figure("url", "URL", Value::Text(ws.url.clone())));
    }
    if let Some(tls) = &plan.tls {
        let text = |key, label, text: &str| figure(key, label, Value::Text(text.to_owned()));
        list.push(text("tls_certificate", "certificate of the server", tls.trust));
        list.push(text(
            "tls_resume",
            "sessions are resumed",
            if tls.resumes { "yes" } else { "no" },
        ));
    }
    list
}

/// What was counted of handshakes.
fn handshakes(plan: &Plan, tally: &Tally) -> Vec<Figure> {
    if plan.tls.is_none() {
        return Vec::new();
    }
    let count = |key, label, value| figure(key, label, Value::Count(value));
    let share = tally.resumed as f64 / tally.handshakes.max(1) as f64 * 100.0;
    vec![
        count("tls_handshakes", "TLS handshakes", tally.handshakes),
        count("tls_resumed", "of these, resumed", tally.resumed),
        figure("tls_resumed_percent", "resumed", Value::Percent(share)),
    ]
}

fn figures(plan: &Plan, tally: &Tally) -> Vec<Figure> {
    let window = tally.window.as_secs_f64();
    let per_second = |count: u64| if window > 0.0 { count as f64 / window } else { 0.0 };
    let count = |key, label, value| figure(key, label, Value::Count(value));
    let rate = |key, label, value| figure(key, label, Value::PerSecond(value));
    let bytes = (plan.size as f64) * per_second(tally.measured) / 1e6;
    let payload =
        figure("megabytes_per_second", "payload, each way", Value::MegabytesPerSecond(bytes));
    let measured = figure("measured_seconds", "measured for", Value::Seconds(window));
    let answered = per_second(tally.measured);
    match plan.mode {
        Mode::Closed => vec![
            rate("messages_per_second", "messages", answered),
            payload,
            count("messages", "messages in all", tally.measured),
            measured,
            count("connections", "connections", tally.opened),
            count("unanswered", "unanswered at the end", tally.unanswered),
        ],
        Mode::Open => vec![
            rate("asked_per_second", "asked for", plan.rate().into()),
            rate("messages_per_second", "answered", answered),
            payload,
            count("offered", "messages due", tally.offered),
            count("sent", "messages sent", tally.left),
            count("unanswered", "unanswered at the end", tally.unanswered),
            measured,
            count("connections", "connections", tally.opened),
        ],
        Mode::Storm => {
            let mut list = Vec::from_iter(asked(plan));
            list.extend([
                rate("connections_per_second", "connections", answered),
                payload,
                count("connections", "connections in all", tally.measured),
            ]);
            if plan.rate.is_some() {
                list.push(count("offered", "connections due", tally.offered));
                list.push(count("sent", "connections begun", tally.left));
            }
            list.extend([
                measured,
                count("failed", "failed", tally.lost + tally.refused + tally.wrong),
                count("unanswered", "unfinished at the end", tally.unanswered),
            ]);
            list
        }
        Mode::Hold => vec![
            count("connections", "connections held", tally.opened),
            rate("dialled_per_second", "dialled", dial_rate(tally)),
            count("refused", "refused", tally.refused),
            count("lost", "lost", tally.lost),
            count("woken", "idle, answered at the end", tally.woken),
            count("unanswered", "unanswered at the end", tally.unanswered),
            rate("messages_per_second", "messages of the active", answered),
            measured,
        ],
        Mode::Udp => {
            let mut list = Vec::from_iter(asked(plan));
            list.extend([rate("datagrams_per_second", "answered", answered), payload]);
            if plan.rate.is_some() {
                list.push(count("offered", "due", tally.datagrams.offered));
            }
            list.extend(fates(tally));
            list.extend([measured, count("connections", "sockets", tally.opened)]);
            list
        }
    }
}

/// What was asked for, if there is a rate.
fn asked(plan: &Plan) -> Option<Figure> {
    let rate = Value::PerSecond(plan.rate?.into());
    Some(figure("asked_per_second", "asked for", rate))
}

/// What became of datagrams.
fn fates(tally: &Tally) -> Vec<Figure> {
    let count = |key, label, value| figure(key, label, Value::Count(value));
    let told = &tally.datagrams;
    let counts = &told.counts;
    let known = counts.answered + counts.lost;
    let loss = if known > 0 { counts.lost as f64 / known as f64 * 100.0 } else { 0.0 };
    let own = told.receive_drops;
    let server = told.server_receive_drops;
    let mut list = vec![
        count("sent", "sent", counts.sent),
        count("answered", "answered in time", counts.answered),
        count("lost", "lost", counts.lost),
        figure("loss_percent", "loss", Value::Percent(loss)),
    ];
    list.extend(
        own.map(|drops| {
            count("receive_drops", "dropped by our receive buffer, warm-up too", drops)
        }),
    );
    list.extend(
        server.map(|drops| {
            count("server_receive_drops", "dropped by the server's, warm-up too", drops)
        }),
    );
    list.extend([
        count("late", "of the lost, came late", counts.late),
        count("not_sent", "not let out", counts.dropped),
        count("in_flight", "in flight at the end", told.in_flight),
        count("duplicates", "duplicates", counts.duplicates),
        count("reordered", "reordered", counts.reordered),
        count("reordering_extent", "reordered by at most", counts.largest_extent),
        count("silent_sockets", "sockets without an answer, warm-up too", told.silent_sockets),
        count("too_old", "too old to tell", counts.forgotten),
        count("wrong", "wrong", tally.wrong),
        count("foreign", "foreign", told.foreign),
        count("network_errors", "errors told by the network", told.network_errors),
        count("queued", "waited for the send buffer", told.queued),
        count("send_buffer_full", "found the send buffer full", told.overflowed),
    ]);
    list
}

fn dial_rate(tally: &Tally) -> f64 {
    let seconds = tally.dialling.as_secs_f64();
    if seconds > 0.0 { tally.opened as f64 / seconds } else { 0.0 }
}

fn series(plan: &Plan, tally: Tally) -> Vec<Series> {
    let one = |key, label, times| Series { key, label, times };
    let label = match plan.tls {
        Some(_) => "dial to end of handshake",
        None => "dial to connection",
    };
    // Without TLS a few dials say nothing.
    let tells_dials =
        plan.tls.is_some() || tally.reconnects > 0 || matches!(plan.mode, Mode::Storm | Mode::Hold);
    let connect = tells_dials.then_some(tally.connect);
    let mut list = match plan.mode {
        Mode::Closed => vec![one("exchange", "exchange", tally.exchange)],
        Mode::Open => vec![
            one("exchange", "answer, since meant to leave", tally.exchange),
            one("delay", "left late by", tally.delay),
        ],
        Mode::Udp => vec![
            match plan.rate {
                Some(_) => one("exchange", "answer, since meant to leave", tally.exchange),
                None => one("exchange", "answer", tally.exchange),
            },
            one("delay", "left late by", tally.delay),
        ],
        Mode::Storm if plan.rate.is_some() => vec![
            one("exchange", "answer, since meant to begin", tally.exchange),
            one("delay", "begun late by", tally.delay),
        ],
        Mode::Storm => vec![one("exchange", "dial to answer", tally.exchange)],
        Mode::Hold => vec![
            one("exchange", "exchange, active", tally.exchange),
            one("wake", "exchange after the silence", tally.wake),
        ],
    };
    list.extend(connect.map(|times| one("connect", label, times)));
    list.retain(|series| !series.times.is_empty());
    list
}

fn failures(plan: &Plan, tally: &Tally) -> Vec<String> {
    let mut list = Vec::new();
    if let Some(first) = &tally.first_wrong {
        list.push(match plan.mode {
            Mode::Udp => {
                format!("{} came back wrong; first {first}", plural(tally.wrong, "datagram"))
            }
            _ if plan.http.is_some() => {
                format!("{}: wrong; first {first}", plural(tally.wrong, "answer"))
            }
            _ if plan.ws.is_some() => {
                format!("{}: wrong; first {first}", plural(tally.wrong, "connection"))
            }
            _ => {
                let connections = plural(tally.wrong, "connection");
                format!("wrong bytes came back on {connections}; first {first}")
            }
        });
    }
    let mut add = |count: u64, noun: &str, what: &str| {
        if count > 0 {
            list.push(format!("{}: {what}", plural(count, noun)));
        }
    };
    add(tally.lost, "connection", "lost");
    add(tally.refused, "connection", "not made");
    if tally.interrupted {
        return list;
    }
    match plan.mode {
        Mode::Closed | Mode::Open => add(tally.unanswered, noun(plan), "no answer"),
        Mode::Storm | Mode::Hold => add(tally.unanswered, "connection", "no answer"),
        // Loss is what is measured.
        Mode::Udp => {}
    }
    let is_silent = plan.mode == Mode::Hold && plan.active() == 0;
    let answers = match plan.mode {
        Mode::Udp => tally.datagrams.counts.answered,
        _ => tally.measured,
    };
    if answers == 0 && !is_silent {
        list.push("nothing was answered while it was measured".to_owned());
    }
    list
}
