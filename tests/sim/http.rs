//! An HTTP server in simulated worlds: requests cut anywhere, bodies that pause, answers that come
//! later, clients that are slow, and one exact answer for each request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::http::{self, Body, Flow, ReplyId, Response, Route, Router, Server};
use waterwheel::sim::{Dice, Faults, PeerEnd, Script, Seeds, Simulation};
use waterwheel::{Context, HandlerKey, ListenOptions, Timer, TimerHandler, Written};

/// What is to be done later, by the token of its timer.
type Later = Rc<RefCell<HashMap<u64, (ReplyId, What)>>>;

#[derive(Clone, Copy)]
enum What {
    Answer(u32),
    Resume,
    Go(u32),
}

/// Answers later, by timers of its own.
struct Clock {
    web: Option<HandlerKey<Server<App>>>,
    later: Later,
}

impl TimerHandler for Clock {
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>) {
        let Some((id, what)) = self.later.borrow_mut().remove(&timer.token) else { return };
        let web = self.web.expect("the server is registered");
        cx.post(web, move |server, cx| {
            server.answer(cx, id, |app, res| match what {
                What::Answer(number) => res.text(&number.to_string()),
                What::Resume => res.resume(),
                What::Go(count) => app.go_on(count, res),
            });
        });
    }
}

struct App {
    clock: HandlerKey<Clock>,
    later: Later,
    next: u64,
    dice: Dice,
    gone: u64,
}

impl App {
    fn soon(&mut self, id: ReplyId, what: What, cx: &mut Context<'_>) {
        self.next += 1;
        self.later.borrow_mut().insert(self.next, (id, what));
        cx.set_timer(self.clock, Duration::from_millis(self.dice.spread(1, 50)), self.next);
    }

    /// Writes one more piece of a streamed answer, of `count` that are left.
    fn go_on(&mut self, count: u32, res: &mut Response<'_, Self>) {
        if count == 0 {
            return res.end();
        }
        assert_ne!(res.write(format!("{count},").as_bytes()), Written::Full);
        let id = res.id();
        self.soon(id, What::Go(count - 1), &mut res.context());
    }
}

/// Sends a body back when all of it has come, and pauses now and then.
struct Echo(Vec<u8>);

impl Body<App> for Echo {
    fn on_chunk(&mut self, app: &mut App, chunk: &[u8], res: &mut Response<'_, App>) -> Flow {
        assert!(!chunk.is_empty());
        self.0.extend_from_slice(chunk);
        if app.dice.one_in(4) {
            let id = res.id();
            app.soon(id, What::Resume, &mut res.context());
            res.later(); // known to the clock
            return Flow::Pause;
        }
        Flow::More
    }

    fn on_end(&mut self, _: &mut App, res: &mut Response<'_, App>) {
        res.bytes("application/octet-stream", &self.0);
    }

    fn on_gone(&mut self, app: &mut App) {
        app.gone += 1;
    }
}

fn routes() -> Router<App> {
    Router::new()
        .get("/now/{n}", |_, req, res| res.text(req.param("n")))
        .get("/later/{n}", |app: &mut App, req, res| {
            let id = res.later();
            let number = req.param("n").parse().expect("a number");
            app.soon(id, What::Answer(number), &mut res.context());
        })
        .get("/stream/{n}", |app: &mut App, req, res| {
            let count = req.param("n").parse().expect("a number");
            res.stream(None);
            app.go_on(count, res);
        })
        .get("/big", |_, _, res| {
            res.stream(None);
            let mut left = 40;
            res.on_drain(move |_, res| {
                while left > 0 {
                    left -= 1;
                    if res.write(&[b'x'; 10_000]) != Written::Below {
                        return;
                    }
                }
                res.end();
            });
        })
        .route("/echo", Route::new().post(|_, _, res| res.receive(Echo(Vec::new()))))
        .post("/collect", |_, _, res| {
            res.collect(1 << 20, |_, body, res| res.bytes("application/octet-stream", body));
        })
        .route("/small", Route::new().post(|_, _, res| res.text("small")).max_body_bytes(10))
        .post("/skip", |_, _, res| res.text("skipped"))
}

/// Requests that are refused, whatever stands behind them.
const REFUSED: &[(u16, &str)] = &[
    (400, "nonsense\r\n\r\n"),
    (400, "GET /now/1 HTTP/1.1\r\nHost: x\n\r\n"),
    (400, "GET /now/1 HTTP/1.1\nHost: x\r\n\r\n"),
    (400, "GET /now/1 HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
    (400, "GET /now/1 HTTP/1.1\r\n\r\n"),
    (400, "GET /../now HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 05\r\n\r\nhello"),
    (400, "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
    (
        400,
        "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\
         \r\n0\r\n\r\n",
    ),
    (400, "POST /collect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    (
        400,
        "POST /collect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
         1\r\nxyz0\r\n\r\n",
    ),
    (
        400,
        "POST /collect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
         1\nx\r\n0\r\n\r\n",
    ),
    (501, "BREW / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
    (413, "POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"),
    (200, "POST /skip HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (200, "GET /now/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
];

/// A request, and the body of its answer.
fn request(dice: &Dice, number: u64) -> (Vec<u8>, u16, Vec<u8>) {
    let get = |path: String| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    let post = |path: &str, body: &[u8]| {
        let mut bytes = format!("POST {path} HTTP/1.1\r\nHost: x\r\n").into_bytes();
        if dice.one_in(2) {
            bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
            bytes.extend_from_slice(body);
            return bytes;
        }
        bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        let mut rest = body;
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(dice.spread(1, rest.len() as u64) as usize);
            bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
            rest = more;
        }
        bytes.extend_from_slice(if dice.one_in(3) { b"0\r\nA: b\r\n\r\n" } else { b"0\r\n\r\n" });
        bytes
    };
    let body = |most| vec![b'a' + (number % 26) as u8; dice.below(most) as usize];
    match dice.below(12) {
        0..4 => (get(format!("/now/{number}")), 200, number.to_string().into_bytes()),
        4 | 5 => (get(format!("/later/{number}")), 200, number.to_string().into_bytes()),
        6 => {
            let count = dice.below(6);
            let text = (1..=count).rev().map(|n| format!("{n},")).collect::<String>();
            (get(format!("/stream/{count}")), 200, text.into_bytes())
        }
        7 => (get("/big".to_owned()), 200, vec![b'x'; 400_000]),
        8 => {
            let body = body(200_000);
            (post("/collect", &body), 200, body)
        }
        9 | 10 => {
            let body = body(20_000);
            (post("/echo", &body), 200, body)
        }
        _ => {
            let head = b"POST /skip HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n123456789";
            (head.to_vec(), 200, b"skipped".to_vec())
        }
    }
}

/// One answer from the front of the bytes, if all of it is there: its status, whether it is the
/// last one by its own word, its body, and what stands behind it.
fn answer(bytes: &[u8]) -> Option<(u16, bool, Vec<u8>, &[u8])> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("a head of text");
    assert!(head.starts_with("HTTP/1.1 "), "{head}");
    let status = head[9..12].parse().expect("a status");
    let closes = head.contains("\r\nConnection: close\r\n");
    let mut rest = &bytes[end..];
    if let Some((_, value)) = head.split_once("Content-Length: ") {
        let length: usize = value.split_once("\r\n")?.0.parse().expect("a length");
        let (body, rest) = rest.split_at_checked(length)?;
        return Some((status, closes, body.to_vec(), rest));
    }
    assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let text = std::str::from_utf8(&rest[..line]).expect("a size");
        let size = usize::from_str_radix(text, 16).expect("a size");
        let chunk = rest.get(line + 2..line + 2 + size)?;
        assert_eq!(rest.get(line + 2 + size..line + 4 + size)?, b"\r\n");
        body.extend_from_slice(chunk);
        rest = &rest[line + 4 + size..];
        if size == 0 {
            return Some((status, closes, body, rest));
        }
    }
}

/// Sends bytes in pieces, with waits between them.
fn cut(dice: &Dice, mut script: Script, mut bytes: &[u8]) -> Script {
    while !bytes.is_empty() {
        let most = if dice.one_in(3) { 5 } else { 200_000 };
        let count = dice.spread(1, most.min(bytes.len() as u64)) as usize;
        script = script.send(&bytes[..count]);
        if dice.one_in(3) {
            script = script.wait(Duration::from_millis(dice.spread(1, 30)));
        }
        bytes = &bytes[count..];
    }
    script
}

/// What a client does, the answers that it is to get, and whether the last of them says that it is.
fn client(dice: &Dice) -> (Script, Vec<(u16, Vec<u8>)>, bool) {
    let (mut script, mut wanted, mut bytes) = (Script::new(), Vec::new(), Vec::new());
    for number in 0..dice.spread(1, 8) {
        let (request, status, body) = request(dice, number);
        bytes.extend(request);
        wanted.push((status, body));
    }
    let ends = dice.one_in(3);
    if ends {
        let (status, refused) = REFUSED[dice.below(REFUSED.len() as u64) as usize];
        // Many of them in two parts, at any place, or near the end.
        let length = refused.len();
        let at = match dice.below(3) {
            0 => 0,
            1 => dice.below(length as u64) as usize,
            _ => length - dice.spread(1, 3) as usize,
        };
        let (first, second) = refused.as_bytes().split_at(at);
        if at > 0 {
            script = cut(dice, script, &bytes).send(first).wait(Duration::from_millis(900));
            bytes.clear();
        }
        bytes.extend_from_slice(second);
        // Who has said that nothing more will come has nothing more.
        if !refused.contains("Connection: close") && dice.one_in(2) {
            bytes.extend_from_slice(b"GET /now/7 HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        wanted.push((status, Vec::new()));
    }
    (cut(dice, script, &bytes).finish().read_to_end(), wanted, ends)
}

/// A server and some clients, in a world in which nothing is lost, or in any.
pub(crate) fn run(sim: &mut Simulation, is_harmless: bool) -> io::Result<()> {
    let dice = sim.dice();
    let later = Later::default();
    let (host, (addr, web)) = sim.host("server", |reactor| {
        let clock = Clock { web: None, later: later.clone() };
        let clock = reactor.register(clock);
        let app = App { clock, later, next: 0, dice: dice.clone(), gone: 0 };
        let web = reactor.register(Server::new(app, routes()));
        reactor.handler_mut(clock).expect("it is registered").web = Some(web);
        let options = ListenOptions::default().limits(http::limits());
        Ok((reactor.listen("0.0.0.0:80", web, options)?, web))
    })?;
    let mut peers = Vec::new();
    for _ in 0..dice.spread(1, 4) {
        let (script, wanted, ends) = client(&dice);
        peers.push((sim.peer(addr, script), wanted, ends));
    }
    sim.run(Duration::from_secs(600));
    for (peer, wanted, ends) in peers {
        let received = sim.received(peer);
        let (mut rest, mut count) = (&received[..], 0);
        while let Some((status, closes, body, behind)) = answer(rest) {
            if status == 408 && !is_harmless {
                // The clock has jumped, or the process stood still. Nothing follows.
                assert_eq!(behind, b"");
                rest = behind;
                break;
            }
            let (wanted_status, wanted_body) = &wanted[count];
            assert_eq!(status, *wanted_status, "answer {count}");
            let is_last = ends && count == wanted.len() - 1;
            assert!(body == *wanted_body || is_last, "the body of answer {count}");
            assert!(closes || !is_last, "answer {count} does not say that it is the last");
            (rest, count) = (behind, count + 1);
        }
        if is_harmless {
            assert_eq!(rest, b"", "a part of an answer");
            assert_eq!(count, wanted.len(), "{:?}", sim.end_of(peer));
            assert_eq!(sim.end_of(peer), PeerEnd::Finished);
        } else if sim.end_of(peer) == PeerEnd::Finished && !sim.was_hurt(peer) {
            assert_eq!(rest, b"", "a part of an answer, and a clean end");
        }
    }
    let stats =
        sim.with(host, move |reactor| reactor.handler_mut(web).expect("it is there").stats());
    assert_eq!(stats.unanswered, 0);
    Ok(())
}

#[test]
fn every_request_gets_its_answer_whatever_the_network_does_to_its_bytes() {
    Seeds::new(2_000).faults(Faults::harmless()).run(|sim| run(sim, true));
}

#[test]
fn what_breaks_is_never_taken_for_a_whole_answer() {
    Seeds::new(2_000).faults(Faults::all()).run(|sim| run(sim, false));
}
