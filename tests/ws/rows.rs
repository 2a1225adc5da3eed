//! Each rule of the protocol that a peer can break, and what it gets for it, on the wire.

use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};
use waterwheel::Limits;
use waterwheel::ws::{Deflate, Options};

use crate::peer::{
    close_frame, connect, expect_failure, masked, plain, read_head, request, serve, serve_with,
};
use crate::support::End;

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

fn with_deflate() -> Options {
    let deflate = Deflate::default().keep_context(true).keep_peer_context(true);
    Options::default().deflate(Some(deflate))
}

/// A message as permessage-deflate has it.
fn deflated(compress: &mut Compress, plain: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(plain.len() + 100);
    compress.compress_vec(plain, &mut body, FlushCompress::Sync).unwrap();
    assert!(body.ends_with(&[0, 0, 0xff, 0xff]));
    body.truncate(body.len() - 4);
    body
}

fn compressor() -> Compress {
    Compress::new(Compression::default(), false)
}

/// The status that a request gets, and the whole head of the answer.
#[track_caller]
fn refused(request: &str) -> (u16, String) {
    let mut served = serve(Options::default());
    let (mut client, _) = served.rig.client();
    client.send(request.as_bytes());
    let head = read_head(&mut served.rig, &mut client);
    let status = head[9..12].parse().unwrap();
    (status, head)
}

#[test]
fn row_64_a_request_that_is_not_in_order_gets_400() {
    let good = request("");
    for (from, to) in [
        ("GET", "POST"),
        ("Connection: Upgrade", "Connection: close"),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZSE="),
        ("Host", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nHost"),
    ] {
        let (status, head) = refused(&good.replacen(from, to, 1));
        assert_eq!(status, 400, "{to}");
        assert!(head.contains("\r\nConnection: close\r\n"), "{to}: {head}");
    }
}

#[test]
fn row_65_another_version_gets_426_and_the_one_that_is_spoken() {
    let (status, head) = refused(&request("").replacen("n: 13", "n: 14", 1));
    assert_eq!(status, 426);
    assert!(head.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{head}");
}

#[test]
fn row_66_a_subprotocol_that_was_not_offered_is_never_chosen() {
    let options = Options::default().protocols(["b", "a"]);
    let offer = "Sec-WebSocket-Protocol: x, a\r\nSec-WebSocket-Protocol: c\r\n";
    let served = serve_with(options.clone(), Limits::default(), offer);
    assert!(served.answer.contains("\r\nSec-WebSocket-Protocol: a\r\n"), "{}", served.answer);
    assert_eq!(served.log(), ["open a"]);
    let offer = "Sec-WebSocket-Protocol: x\r\n";
    let served = serve_with(options, Limits::default(), offer);
    assert!(!served.answer.contains("Protocol:"), "{}", served.answer);
}

#[test]
fn row_66_a_page_of_another_host_gets_403() {
    let with = |origin: &str| request(&format!("Origin: {origin}\r\n"));
    assert_eq!(refused(&with("https://a.example")).0, 101);
    for origin in ["https://b.example", "https://a.example.b", "http://a.example:81", "null", ""] {
        assert_eq!(refused(&with(origin)).0, 403, "{origin}");
    }
}

#[test]
fn row_67_a_frame_without_a_mask_from_a_client_gets_1002() {
    expect_failure(&Options::default(), &plain(0x81, b"x"), 1002);
}

#[test]
fn row_67_a_frame_with_a_mask_from_a_server_gets_1002() {
    let mut connected = connect(Options::default());
    let answer = connected.answer("");
    connected.server.send(answer.as_bytes());
    connected.server.send(&masked(0x81, b"x"));
    let (first, _, payload) = connected.frame();
    assert_eq!((first, &payload[..2]), (0x88, &1002_u16.to_be_bytes()[..]));
    let end = connected.rig.read_to_end(&mut connected.server);
    assert_eq!(end, (Vec::new(), End::Fin));
}

#[test]
fn row_68_a_reserved_bit_without_an_extension_gets_1002() {
    for first in [0xc1, 0xa1, 0x91, 0xc9, 0xa8] {
        expect_failure(&Options::default(), &masked(first, b"x"), 1002);
    }
    // With compression RSV1 means it, but not on these.
    for frames in [masked(0xc9, b"x"), [masked(0x01, b"x"), masked(0xc0, b"x")].concat()] {
        let mut served = serve_with(with_deflate(), Limits::default(), DEFLATE);
        served.send(&frames);
        served.expect_failed(1002);
    }
}

#[test]
fn row_69_an_unknown_opcode_gets_1002() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        // From its first byte, whatever follows.
        expect_failure(&Options::default(), &[0x80 | opcode], 1002);
    }
}

#[test]
fn row_70_a_control_frame_that_is_long_or_in_fragments_gets_1002() {
    for opcode in [8, 9, 10] {
        expect_failure(&Options::default(), &masked(0x80 | opcode, &[0; 126]), 1002);
        expect_failure(&Options::default(), &masked(opcode, b""), 1002);
    }
}

#[test]
fn row_71_a_length_that_is_not_minimal_or_has_its_top_bit_gets_1002() {
    let options = Options::default();
    expect_failure(&options, &[0x82, 0xfe, 0, 125, 1, 2, 3, 4], 1002);
    expect_failure(&options, &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 1002);
    expect_failure(&options, &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], 1002);
}

#[test]
fn row_72_a_message_over_the_limit_gets_1009_before_it_has_come() {
    let options = Options::default().max_message_bytes(1000);
    // The head alone.
    expect_failure(&options, &[0x82, 0xfe, 3, 233, 1, 2, 3, 4], 1009);
    expect_failure(&options, &[0x82, 0xff, 0x7f, 255, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1009);
    // The sum of the fragments.
    let head = [0x80, 0xfe, 1, 245, 1, 2, 3, 4];
    expect_failure(&options, &[&masked(0x02, &[0; 500])[..], &head].concat(), 1009);
    // What is inflated.
    let mut served = serve_with(with_deflate().max_message_bytes(1000), Limits::default(), DEFLATE);
    served.send(&masked(0xc2, &deflated(&mut compressor(), &[7; 1001])));
    served.expect_failed(1009);
    // Just the limit is no fault.
    let mut served = serve(options);
    served.send(&masked(0x82, &[7; 1000]));
    served.expect(&plain(0x82, &[7; 1000]));
}

#[test]
fn row_73_a_fragment_out_of_order_gets_1002() {
    let options = Options::default();
    expect_failure(&options, &masked(0x80, b"x"), 1002);
    expect_failure(&options, &masked(0x00, b"x"), 1002);
    expect_failure(&options, &[masked(0x01, b"x"), masked(0x81, b"y")].concat(), 1002);
    expect_failure(&options, &[masked(0x02, b"x"), masked(0x01, b"y")].concat(), 1002);
}

#[test]
fn row_74_text_that_is_not_utf_8_gets_1007_as_early_as_it_shows() {
    let options = Options::default();
    expect_failure(&options, &masked(0x81, b"\xce\xba\xff"), 1007);
    // Not whole, but wrong already: in a frame of which the rest does not come, and in the first of
    // two fragments that cut a character.
    expect_failure(&options, &masked(0x81, b"abc\xf4\x90\x80\x80xyz")[..11], 1007);
    expect_failure(&options, &[masked(0x01, b"\xf4"), masked(0x00, b"\x90")].concat(), 1007);
    // Cut short.
    expect_failure(&options, &masked(0x81, b"\xce"), 1007);
    expect_failure(&options, &[masked(0x01, b"\xce"), masked(0x80, b"")].concat(), 1007);
    expect_failure(&options, &masked(0x88, b"\x03\xe8\xff"), 1007);
    // A character over three fragments is whole.
    let mut served = serve(options);
    let parts = [masked(0x01, b"\xf0"), masked(0x00, b"\x9f\x8c"), masked(0x80, b"\x8a")];
    served.send(&parts.concat());
    served.expect(&plain(0x81, "\u{1f30a}".as_bytes()));
    // Bytes need be no text.
    served.send(&masked(0x82, b"\xff"));
    served.expect(&plain(0x82, b"\xff"));
}

#[test]
fn row_75_a_close_that_is_not_in_order_gets_1002() {
    expect_failure(&Options::default(), &masked(0x88, b"\x03"), 1002);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        expect_failure(&Options::default(), &close_frame(code), 1002);
    }
    for code in [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999] {
        let mut served = serve(Options::default());
        served.send(&close_frame(code));
        assert_eq!(served.expect_close(code), "");
        served.client.finish();
        served.rig.end_of(served.id);
        assert_eq!(served.log(), ["open".to_owned(), format!("end {code} \"\" true 0")]);
    }
}

#[test]
fn row_76_what_comes_behind_our_close_is_dropped() {
    let mut served = serve(Options::default());
    served.send(&masked(0x81, b"close"));
    served.expect(&plain(0x88, b"\x03\xe8asked"));
    // Data whole, in fragments and in pieces; a ping; and then the answer, twice.
    served.send(&[masked(0x81, b"late"), masked(0x01, b"la"), masked(0x80, b"te")].concat());
    let long = masked(0x82, &[9; 70_000]);
    served.send(&long[..40_000]);
    served.rig.turn();
    served.send(&long[40_000..]);
    served.send(&masked(0x89, b"ping"));
    served.send(&[close_frame(1000), close_frame(1001)].concat());
    assert_eq!(served.rig.read_to_end(&mut served.client), (Vec::new(), End::Fin));
    served.client.finish();
    served.rig.end_of(served.id);
    assert_eq!(served.log(), ["open", "text close", "end 1000 \"\" true 0"]);
}

#[test]
fn row_76_a_peer_that_does_not_answer_our_close_gets_fin_after_the_limit() {
    let mut served = serve(Options::default().close_timeout(Duration::from_millis(30)));
    served.send(&masked(0x81, b"close"));
    served.expect(&plain(0x88, b"\x03\xe8asked"));
    assert_eq!(served.rig.read_to_end(&mut served.client), (Vec::new(), End::Fin));
    served.client.finish();
    served.rig.end_of(served.id);
    assert_eq!(served.log().last().unwrap(), "end 1006 \"\" false 0");
}

#[test]
fn row_77_every_ping_is_answered_and_a_peer_that_does_not_read_is_held_back() {
    let mut served = serve(Options::default());
    let pings: Vec<_> = (0..5000_u32).map(|at| masked(0x89, &at.to_be_bytes())).collect();
    served.send(&pings.concat());
    let pongs: Vec<_> = (0..5000_u32).map(|at| plain(0x8a, &at.to_be_bytes())).collect();
    served.expect(&pongs.concat());
    // A flood whose answers are not read.
    let flood = masked(0x89, &[0; 125]).repeat(1000);
    let (mut sent, mut at) = (0, 0);
    let mut idle = 0;
    while idle < 100 {
        let count = served.client.try_send(&flood[at..]);
        (sent, at) = (sent + count, (at + count) % flood.len());
        idle = if count == 0 { idle + 1 } else { 0 };
        served.rig.turn();
    }
    let pending = served.rig.reactor.context().conn(served.id).unwrap().pending_bytes();
    assert!(pending < 600 << 10, "{pending} bytes queued of {sent} that were sent");
}

#[test]
fn row_78_a_message_of_too_many_frames_gets_1008() {
    let mut frames = masked(0x01, b"");
    frames.extend(masked(0x00, b"").repeat(1000));
    expect_failure(&Options::default().max_frames(1000), &frames, 1008);
    let mut served = serve(Options::default().max_frames(1001));
    served.send(&[frames, masked(0x89, b"")].concat());
    served.expect(&plain(0x8a, b""));
}

#[test]
fn row_79_an_offer_that_is_not_in_order_is_declined() {
    for params in [
        "x=1",
        "server_no_context_takeover; server_no_context_takeover",
        "server_max_window_bits=16",
        "server_max_window_bits=8",
        "client_max_window_bits=7",
    ] {
        let offer = format!("Sec-WebSocket-Extensions: permessage-deflate; {params}\r\n");
        let served = serve_with(with_deflate(), Limits::default(), &offer);
        assert!(!served.answer.contains("Extensions"), "{params}: {}", served.answer);
        let offer = offer.replace("\r\n", ", permessage-deflate; client_max_window_bits\r\n");
        let served = serve_with(with_deflate(), Limits::default(), &offer);
        let answer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        assert!(served.answer.contains(answer), "{params}: {}", served.answer);
    }
}

#[test]
fn row_80_a_bomb_gets_1009_and_a_broken_stream_1007() {
    let bomb = deflated(&mut compressor(), &vec![0; 64 << 20]);
    assert!(bomb.len() < 100_000);
    for (body, code) in
        [(&bomb[..], 1009), (b"\x07\xff\xff", 1007), (b"\xf2\x00\x11\x00\x00", 1007)]
    {
        let mut served = serve_with(with_deflate(), Limits::default(), DEFLATE);
        served.send(&masked(0xc2, body));
        served.expect_failed(code);
    }
}

#[test]
fn row_80_the_window_is_kept_as_agreed() {
    let text: Vec<u8> = (0..3000_u32).flat_map(|at| (at * at).to_be_bytes()).collect();
    let mut client = compressor();
    let first = deflated(&mut client, &text);
    let second = deflated(&mut client, &text);
    assert!(second.len() * 4 < first.len());
    let mut served = serve_with(with_deflate(), Limits::default(), DEFLATE);
    for body in [&first, &second, &second] {
        served.send(&masked(0xc2, body));
    }
    served.rig.until("three messages", |_| served.log.borrow().len() == 4);
    assert_eq!(served.log()[3], "Binary of 12000");
    // Without a context the second refers to what is not there.
    let offer = DEFLATE.replace("\r\n", "; client_no_context_takeover\r\n");
    let mut served = serve_with(with_deflate(), Limits::default(), &offer);
    served.send(&masked(0xc2, &first));
    served.send(&masked(0xc2, &first));
    served.rig.until("two messages", |_| served.log.borrow().len() == 3);
    served.send(&masked(0xc2, &second));
    served.rig.until("the end", |rig| rig.reactor.stats().bytes_written > 0);
    served.client.finish();
    served.rig.end_of(served.id);
    assert!(served.log()[3].starts_with("end 1007 "), "{:?}", served.log());
}

#[test]
fn row_81_each_frame_of_a_client_has_a_mask_of_its_own() {
    let mut connected = connect(Options::default());
    let answer = connected.answer("");
    connected.server.send(answer.as_bytes());
    let mut keys = std::collections::HashSet::new();
    for _ in 0..200 {
        connected.server.send(&plain(0x81, b"again"));
        let (first, key, payload) = connected.frame();
        assert_eq!((first, &payload[..]), (0x81, &b"again"[..]));
        keys.insert(key);
    }
    assert!(keys.len() >= 199, "{} keys", keys.len());
}
