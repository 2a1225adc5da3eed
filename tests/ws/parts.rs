//! Messages that are delivered in parts: what the program is told, and what the peer gets for what
//! breaks a rule.

use std::rc::Rc;
use std::time::Duration;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use waterwheel::Limits;
use waterwheel::ws::{Deflate, Options, Parts};

use crate::peer::{Served, close_frame, expect_failure, masked, plain, serve, serve_with};
use crate::support::pattern;

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// What no limit of whole messages applies to.
fn in_parts() -> Options {
    Options::default().parts(Some(Parts::default())).max_message_bytes(10)
}

fn with_deflate(options: Options) -> Served {
    let deflate = Deflate::default().keep_context(true).keep_peer_context(true);
    serve_with(options.deflate(Some(deflate)), wide(), DEFLATE)
}

/// Room for the echoes.
fn wide() -> Limits {
    Limits::default().max_output_bytes(64 << 20).pause_at_high_mark(false)
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

/// The sizes of the parts of bytes that were told.
fn sizes(log: &[String]) -> Vec<usize> {
    log.iter().filter_map(|line| line.split_once(' ')?.0.parse().ok()).collect()
}

/// Their sum.
fn told(log: &[String]) -> usize {
    sizes(log).iter().sum()
}

#[test]
fn a_text_is_told_in_whole_characters_as_it_comes() {
    let mut served = serve(in_parts());
    let euro = "\u{20ac}".as_bytes();
    for (frame, told) in [
        (masked(0x01, &euro[..1]), None),
        (masked(0x00, &euro[1..]), Some("part \u{20ac} true false")),
        (masked(0x00, b""), None),
        (masked(0x89, b"between"), None),
        (masked(0x00, &[b"ab", &euro[..2]].concat()), Some("part ab false false")),
        (masked(0x80, &euro[2..]), Some("part \u{20ac} false true")),
        (masked(0x81, b"whole"), Some("part whole true true")),
        (masked(0x81, b""), Some("part  true true")),
        (masked(0x01, b"x"), Some("part x true false")),
        (masked(0x80, b""), Some("part  false true")),
    ] {
        let before = served.log().len();
        served.send(&frame);
        match told {
            None => served.rig.turn(),
            Some(_) => served.rig.until("a part", |_| served.log.borrow().len() > before),
        }
        assert_eq!(served.log().get(before).map(String::as_str), told);
    }
    let frames = [plain(0x01, euro), plain(0x8a, b"between"), plain(0x00, b"ab")];
    served.expect(&frames.concat());
    served.expect(&[plain(0x80, euro), plain(0x81, b"whole")].concat());
    served.send(&close_frame(1000));
    served.expect(&[plain(0x81, b""), plain(0x01, b"x"), plain(0x80, b"")].concat());
    served.expect_close(1000);
}

#[test]
fn a_message_far_over_the_limit_of_whole_ones_passes_in_parts_that_are_small() {
    let bytes = pattern(8 << 20);
    let mut served = serve_with(in_parts(), wide(), "");
    let mut sent = masked(0x02, &bytes[..3 << 20]);
    sent.extend(masked(0x00, &bytes[3 << 20..7 << 20]));
    sent.extend(masked(0x80, &bytes[7 << 20..]));
    for piece in sent.chunks(100_001) {
        served.send(piece);
        served.rig.turn();
    }
    assert!(served.message() == (2, bytes));
    assert!(sizes(&served.log()).into_iter().all(|size| size <= 128 << 10));
}

#[test]
fn what_is_inflated_comes_in_parts_and_may_refer_to_all_before() {
    let mut served = with_deflate(in_parts());
    let mut compress = compressor();
    let mut dice = 7_u32;
    // A period of less than the window, which the next message refers to from its first byte.
    let text: Vec<u8> = std::iter::from_fn(|| {
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((dice >> 24) as u8)
    })
    .take(30_000)
    .collect();
    for message in [text.repeat(20), text.clone(), vec![7; 3 << 20], text] {
        let body = deflated(&mut compress, &message);
        let (first, rest) = body.split_at(body.len() / 3);
        served.send(&[masked(0x42, first), masked(0x80, rest)].concat());
        assert!(served.message() == (2, message));
    }
    assert!(sizes(&served.log()).into_iter().all(|size| size <= 128 << 10));
}

/// Among the longest times there are, no sum is too long for a clock.
#[test]
fn a_peer_that_is_never_pinged_may_have_a_message_inflated_in_turns() {
    let mut served = with_deflate(in_parts().ping_interval(Some(Duration::MAX)));
    let message = vec![7; 4 << 20];
    served.send(&masked(0xc2, &deflated(&mut compressor(), &message)));
    assert!(served.message() == (2, message));
}

#[test]
fn a_last_block_may_come_amid_a_message() {
    let mut served = with_deflate(in_parts());
    let part = pattern(200_000);
    let mut message = Vec::with_capacity(500_000);
    let mut compress = compressor();
    compress.compress_vec(&part, &mut message, FlushCompress::Finish).unwrap();
    message.extend(deflated(&mut compressor(), &part));
    served.send(&masked(0xc2, &message));
    assert!(served.message() == (2, part.repeat(2)));
}

#[test]
fn a_program_that_pauses_is_told_the_rest_when_it_goes_on_though_nothing_more_comes() {
    let mut served = with_deflate(in_parts());
    let bomb = vec![b'P'; 4 << 20];
    let body = deflated(&mut compressor(), &bomb);
    assert!(body.len() < 10_000);
    served.send(&masked(0xc2, &body));
    assert!(served.message() == (2, bomb));
    let log = served.log();
    // Never two parts without a pause between them.
    let parts: Vec<bool> = log[1..].iter().map(|line| line != "resume").collect();
    let count = parts.iter().filter(|is_part| **is_part).count();
    assert!(count > 30 && parts.windows(2).all(|two| !(two[0] && two[1])), "{log:?}");
    // And not compressed.
    let mut served = serve_with(in_parts(), wide(), "");
    let bytes = vec![b'P'; 500_000];
    served.send(&masked(0x82, &bytes));
    assert!(served.message() == (2, bytes));
}

#[test]
fn all_that_a_fragment_holds_is_told_before_the_next_one_comes() {
    let mut served = with_deflate(in_parts());
    let bytes = vec![b'P'; 1 << 20];
    let body = deflated(&mut compressor(), &bytes);
    // Fragments that hold a little less or more than what fits into one part.
    for cut in 110..140 {
        let (first, rest) = body.split_at(cut);
        let mut plain = Vec::with_capacity(bytes.len());
        let mut inflate = Decompress::new(false);
        inflate.decompress_vec(first, &mut plain, FlushDecompress::Sync).unwrap();
        let wanted = told(&served.log()) + plain.len();
        served.send(&masked(0x42, first));
        let log = Rc::clone(&served.log);
        served.rig.until("all of the fragment", |_| told(&log.borrow()) == wanted);
        served.send(&masked(0x80, rest));
        assert!(served.message() == (2, bytes.clone()), "cut at {cut}");
    }
}

#[test]
fn rows_67_to_78_hold_for_parts_too() {
    let options = in_parts().parts(Some(Parts::default().max_bytes(1000))).max_frames(20);
    expect_failure(&options, &plain(0x81, b"x"), 1002);
    expect_failure(&options, &masked(0xc1, b"x"), 1002);
    expect_failure(&options, &[0x83], 1002);
    expect_failure(&options, &masked(0x89, &[0; 126]), 1002);
    expect_failure(&options, &[0x82, 0xfe, 0, 125, 1, 2, 3, 4], 1002);
    // Over the limit, by the head alone, and by the sum of the fragments.
    expect_failure(&options, &[0x82, 0xfe, 3, 233, 1, 2, 3, 4], 1009);
    expect_failure(&options, &masked(0x80, b"x"), 1002);
    expect_failure(&options, &masked(0x88, b"\x03"), 1002);
    expect_failure(&options, &masked(0x81, b"\xff"), 1007);
    expect_failure(&options, &masked(0x81, b"\xce"), 1007);
    expect_failure(&options, &masked(0x81, b"\xf4\x90\x80\x80xyz")[..8], 1007);
    for (frames, code) in [
        ([masked(0x02, &[0; 500]), vec![0x80, 0xfe, 1, 245, 1, 2, 3, 4]].concat(), 1009),
        ([masked(0x01, b"x"), masked(0x81, b"y")].concat(), 1002),
        ([masked(0x01, b"x\xce"), masked(0x80, b"")].concat(), 1007),
        ([masked(0x02, b"x"), masked(0x00, b"").repeat(21)].concat(), 1008),
    ] {
        let mut served = serve(options.clone());
        served.send(&frames);
        // What came before is echoed, and then the server says Close.
        served.rig.until("a part", |_| served.log.borrow().len() > 1);
        let echo = if code == 1009 { plain(0x02, &[0; 500]) } else { plain(frames[0], b"x") };
        served.expect(&echo);
        served.expect_close(code);
    }
}
