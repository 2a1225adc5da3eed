//! What a WebSocket does between its handshake and its end.

use std::rc::Rc;
use std::time::Duration;
#[cfg(target_os = "linux")]
use std::time::Instant;

use waterwheel::Limits;
use waterwheel::ws::{Deflate, Message, Options, Socket};
#[cfg(target_os = "linux")]
use waterwheel::{ListenOptions, TcpOptions};

use crate::peer::{Log, Notes, close_frame, masked, plain, read_head, request, serve, serve_with};
use crate::site::site;
use crate::support::{End, Rig, pattern};

#[test]
fn messages_of_every_shape_come_whole_however_they_are_cut() {
    let mut frames = Vec::new();
    for length in [0, 1, 125, 126, 300, 65_535, 65_536, 100_000] {
        frames.push((masked(0x82, &pattern(length)), plain(0x82, &pattern(length))));
    }
    let parts = [masked(0x01, b"a"), masked(0x89, b"between"), masked(0x80, b"b")].concat();
    let answers = [plain(0x8a, b"between"), plain(0x81, b"ab")].concat();
    frames.push((parts, answers));
    let (sent, answered): (Vec<_>, Vec<_>) = frames.into_iter().unzip();
    let (sent, answered) = (sent.concat(), answered.concat());
    for cut in [1013, 4096, 70_001, usize::MAX] {
        let mut served = serve(Options::default());
        let mut answers = Vec::new();
        for piece in sent.chunks(cut) {
            served.send(piece);
            served.rig.turn();
            while let Ok(more) = served.client.try_read(1 << 20) {
                if more.is_empty() {
                    break;
                }
                answers.extend(more);
            }
        }
        let rest = served.rig.read(&mut served.client, answered.len() - answers.len());
        answers.extend(rest);
        assert!(answers == answered, "cut by {cut}");
    }
}

#[test]
fn frames_that_come_byte_by_byte() {
    let mut served = serve(Options::default());
    let bytes = [masked(0x01, "gr\u{fc}".as_bytes()), masked(0x89, b"p"), masked(0x80, b"n")];
    for byte in bytes.concat() {
        served.send(&[byte]);
        served.rig.turn();
    }
    served.expect(&[plain(0x8a, b"p"), plain(0x81, "gr\u{fc}n".as_bytes())].concat());
}

/// Each has the whole limit for itself, whatever came before it.
#[test]
fn many_compressed_messages_may_be_longer_together_than_one_may_be() {
    let options = Options::default().max_message_bytes(5);
    let options = options.deflate(Some(Deflate::default().keep_peer_context(false)));
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let mut served = serve_with(options, Limits::default(), offer);
    for _ in 0..50 {
        // "Hello", as RFC 7692 has it, in two frames.
        served.send(&[masked(0x41, b"\xf2\x48\xcd"), masked(0x80, b"\xc9\xc9\x07\x00")].concat());
        served.expect(&plain(0x81, b"Hello"));
    }
}

#[test]
fn frames_behind_the_request_are_read_with_it() {
    let mut served = serve(Options::default());
    let (mut client, _) = served.rig.client();
    let bytes = [request("").as_bytes(), &masked(0x81, b"early")[..]].concat();
    client.send(&bytes);
    crate::peer::read_head(&mut served.rig, &mut client);
    served.rig.expect(&mut client, &plain(0x81, b"early"));
}

#[test]
fn a_message_is_sent_in_parts() {
    let mut served = serve(Options::default());
    served.send(&[masked(0x81, b"parts"), masked(0x81, b"x")].concat());
    served.expect(&plain(0x01, "gr\u{fc}".as_bytes()));
    served.expect(&plain(0x80, b"n"));
    served.expect(&plain(0x81, b"x"));
}

#[test]
fn a_pong_is_told() {
    let mut served = serve(Options::default());
    served.send(&masked(0x81, b"ping"));
    served.expect(&plain(0x89, b"there?"));
    served.send(&[masked(0x8a, b"there?"), masked(0x8a, b"")].concat());
    served.rig.until("two pongs", |_| served.log.borrow().len() == 4);
    assert_eq!(served.log()[2..], ["pong there?", "pong "]);
}

#[test]
fn a_silent_peer_is_pinged_and_then_reset() {
    let options = Options::default()
        .ping_interval(Some(Duration::from_millis(20)))
        .pong_timeout(Duration::from_millis(20));
    let mut served = serve(options);
    // What answers is kept.
    for _ in 0..3 {
        served.expect(&plain(0x89, b""));
        served.send(&masked(0x8a, b""));
    }
    served.expect(&plain(0x89, b""));
    assert_eq!(served.rig.read_to_end(&mut served.client), (Vec::new(), End::Reset));
    assert_eq!(served.rig.end_of(served.id), ("Timeout(User)".to_owned(), 0));
    assert_eq!(served.log().last().unwrap(), "end 1006 \"\" false 0");
}

/// Sends much when it is opened.
#[cfg(target_os = "linux")]
struct Much;

#[cfg(target_os = "linux")]
impl waterwheel::ws::Handler for Much {
    type State = ();

    fn on_open(&mut self, _: &mut (), socket: &mut Socket<'_>) {
        socket.send_binary(&pattern(1 << 20));
    }

    fn on_message(&mut self, _: &mut (), _: &mut Socket<'_>, _: Message<'_>) {}
}

/// The kernel has taken all at once, and the ping stands behind it.
#[cfg(target_os = "linux")]
#[test]
fn a_peer_that_reads_slowly_what_the_kernel_has_is_not_lost() {
    let (interval, timeout) = (Duration::from_millis(100), Duration::from_millis(400));
    let options = Options::default().ping_interval(Some(interval)).pong_timeout(timeout);
    let tcp = TcpOptions::default().send_buffer_bytes(Some(2 << 20));
    let mut rig = Rig::with_listen(site(Much, options), ListenOptions::default().tcp(tcp));
    let (mut client, id) = rig.client();
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(32 << 10).unwrap();
    client.send(request("").as_bytes());
    read_head(&mut rig, &mut client);
    rig.until("the kernel has all", |rig| rig.reactor.stats().bytes_written > 1 << 20);
    let (answer, begin) = (plain(0x82, &pattern(1 << 20)), Instant::now());
    let mut found = Vec::new();
    while found.len() < answer.len() {
        // In some 2 s.
        let due = answer.len().min(begin.elapsed().as_millis() as usize * 512);
        while found.len() < due {
            let bytes = client.try_read(due - found.len()).expect("it is not lost");
            if bytes.is_empty() {
                break;
            }
            found.extend(bytes);
        }
        rig.reactor.run_once(Some(Duration::from_millis(4))).unwrap();
    }
    assert!(found == answer && begin.elapsed() > 3 * timeout);
    // From then on nothing comes, and nothing stands before the ping.
    assert_eq!(rig.end_of(id).0, "Timeout(User)");
}

#[test]
fn a_peer_that_goes_without_a_word_is_told_as_such() {
    let mut served = serve(Options::default());
    served.send(&masked(0x01, b"half a mess"));
    served.client.finish();
    served.rig.end_of(served.id);
    assert_eq!(served.log(), ["open", "end 1006 \"\" false 0"]);
}

#[test]
fn a_stop_says_1001() {
    let mut served = serve(Options::default());
    served.rig.reactor.context().drain(Duration::from_secs(5));
    served.expect(&plain(0x88, b"\x03\xe9"));
    served.send(&close_frame(1001));
    assert_eq!(served.rig.read_to_end(&mut served.client), (Vec::new(), End::Fin));
    served.client.finish();
    served.rig.end_of(served.id);
    assert_eq!(served.log(), ["open", "end 1001 \"\" true 0"]);
}

/// The drain was told to HTTP, when the handshake had begun.
#[test]
fn a_stop_says_1001_to_a_client_that_shakes_hands_meanwhile() {
    let log = Log::default();
    let site = site(Notes { log: Rc::clone(&log) }, Options::default());
    let mut rig = Rig::with_limits(site, Limits::default());
    let (mut client, id) = rig.client();
    let text = request("");
    let (begun, rest) = text.split_at(20);
    client.send(begun.as_bytes());
    rig.expect_quiet();
    rig.reactor.context().drain(Duration::from_secs(5));
    rig.expect_quiet();
    client.send(rest.as_bytes());
    assert!(read_head(&mut rig, &mut client).starts_with("HTTP/1.1 101 "));
    assert_eq!(rig.read(&mut client, 4), b"\x88\x02\x03\xe9");
    client.send(&close_frame(1001));
    assert_eq!(rig.read_to_end(&mut client), (Vec::new(), End::Fin));
    client.finish();
    rig.end_of(id);
    assert_eq!(*log.borrow(), ["open", "end 1001 \"\" true 0"]);
}

/// Answers each message with a long one.
struct Long;

impl waterwheel::ws::Handler for Long {
    type State = ();

    fn on_message(&mut self, _: &mut (), socket: &mut Socket<'_>, _: Message<'_>) {
        assert!(socket.send_binary(&pattern(4096)).is_accepted());
    }
}

/// A connection may queue 16 MiB, and the answers to all that comes in one read are more.
#[test]
fn who_sends_much_before_it_reads_is_held_back_and_not_cut() {
    const COUNT: usize = 6_000;
    let mut rig = Rig::with_limits(site(Long, Options::default()), Limits::default());
    let (mut client, _) = rig.client();
    client.send(request("").as_bytes());
    read_head(&mut rig, &mut client);
    client.send(&masked(0x82, b"").repeat(COUNT));
    let answer = plain(0x82, &pattern(4096));
    for number in 0..COUNT {
        assert!(rig.read(&mut client, answer.len()) == answer, "{number}");
    }
}

#[test]
fn an_idle_limit_says_1001() {
    let limits = Limits::default().all_idle(Some(Duration::from_millis(30)));
    let mut served = serve_with(Options::default().ping_interval(None), limits, "");
    served.expect(&plain(0x88, b"\x03\xe9idle"));
    served.send(&close_frame(1001));
    served.client.finish();
    served.rig.end_of(served.id);
    assert_eq!(served.log(), ["open", "end 1001 \"\" true 0"]);
}

#[test]
fn what_was_accepted_and_is_lost_is_told() {
    let limits = Limits::default().max_output_bytes(64 << 20);
    let options = Options::default().max_message_bytes(64 << 20);
    let mut served = serve_with(options, limits, "");
    served.send(&masked(0x82, &pattern(1000)));
    served.expect(&plain(0x82, &pattern(1000)));
    let big = masked(0x82, &pattern(32 << 20));
    let mut at = 0;
    while at < big.len() {
        at += served.client.try_send(&big[at..]);
        served.rig.turn();
    }
    served.rig.until("the message", |_| served.log.borrow().len() == 3);
    let Some(pending) =
        served.rig.reactor.context().conn(served.id).map(|conn| conn.pending_bytes())
    else {
        panic!("it has ended")
    };
    assert!(pending > 1 << 20, "{pending}");
    served.client.reset();
    let (_, unsent) = served.rig.end_of(served.id);
    assert!(unsent > 1 << 20);
    assert_eq!(served.log.borrow().last().unwrap(), &format!("end 1006 \"\" false {unsent}"));
}

/// A stream of messages that inflate to much is no stream of long turns.
#[test]
fn what_is_inflated_in_a_turn_is_bounded() {
    use flate2::{Compress, Compression, FlushCompress};
    let options = Options::default().deflate(Some(Deflate::default()));
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let limits = Limits::default().max_output_bytes(1 << 30).high_mark_bytes(1 << 29);
    let mut served = serve_with(options, limits, offer);
    let mut body = Vec::with_capacity(10_000);
    let plain = vec![b'x'; 1 << 20];
    let mut compress = Compress::new(Compression::best(), false);
    compress.compress_vec(&plain, &mut body, FlushCompress::Sync).unwrap();
    body.truncate(body.len() - 4);
    let frame = masked(0xc2, &body);
    served.send(&frame.repeat(20));
    std::thread::sleep(Duration::from_millis(20));
    let mut seen = vec![served.log().len()];
    served.rig.until("all", |_| {
        seen.push(served.log.borrow().len());
        served.log.borrow().len() == 21
    });
    let steps: Vec<_> = seen.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.iter().all(|step| *step <= 2), "messages a turn: {steps:?}");
}

/// Nor is one of messages that inflate to little, with much to do for it.
#[test]
fn what_last_blocks_cost_in_a_turn_is_bounded() {
    let options = Options::default().deflate(Some(Deflate::default()));
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let mut served = serve_with(options.clone(), Limits::default(), offer);
    // 32 KiB without compression, and 500 last blocks without content behind them.
    let stored = [b"\x00\x00\x80\xff\x7f", &[b'x'; 32 << 10][..]].concat();
    let frame = masked(0xc2, &[stored.clone(), b"\x03\x00".repeat(500)].concat());
    served.send(&frame.repeat(10));
    std::thread::sleep(Duration::from_millis(20));
    let mut seen = vec![served.log().len()];
    served.rig.until("all", |_| {
        seen.push(served.log.borrow().len());
        served.log.borrow().len() == 11
    });
    let steps: Vec<_> = seen.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.iter().all(|step| *step <= 2), "messages a turn: {steps:?}");
    let mut served = serve_with(options, Limits::default(), offer);
    served.send(&masked(0xc2, &[stored, b"\x03\x00".repeat(2_000)].concat()));
    served.expect_failed(1008);
}

/// Nor is one of small messages, each of which has its context copied.
#[test]
fn what_contexts_cost_in_a_turn_is_bounded() {
    const COUNT: usize = 3_000;
    let deflate = Deflate::default().keep_context(true).keep_peer_context(true);
    let options = Options::default().deflate(Some(deflate.min_bytes(0)));
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    // What comes in alone has a context, and what goes out.
    for (first, second) in [(0xc2, 0xc2), (0x82, 0x82)] {
        let limits = Limits::default().max_output_bytes(64 << 20).pause_at_high_mark(false);
        let mut served = serve_with(options.clone(), limits, offer);
        // 32 KiB that are stored, and a message of two bytes.
        let stored = [b"\x00\x00\x80\xff\x7f", &pattern(32 << 10)[..], b"\x00"].concat();
        let (long, short) = match first {
            0xc2 => (stored, b"\x00\x02\x00\xfd\xffhi\x00".to_vec()),
            _ => (pattern(32 << 10), b"hi".to_vec()),
        };
        served.send(&masked(first, &long));
        served.rig.until("the context", |_| served.log.borrow().len() == 2);
        served.send(&masked(second, &short).repeat(COUNT));
        std::thread::sleep(Duration::from_millis(20));
        let mut seen = vec![served.log().len()];
        served.rig.until("all", |_| {
            seen.push(served.log.borrow().len());
            served.log.borrow().len() == 2 + COUNT
        });
        let steps: Vec<_> = seen.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(steps.iter().all(|step| *step <= 256), "messages a turn: {steps:?}");
    }
}
