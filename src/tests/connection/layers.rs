//! A layer between the socket and the handler, for short scripts.

use std::any::Any;
use std::net::IpAddr;

use crate::base::buffer::Scratch;
use crate::options::{Decoded, Layer, LayerStage, MAX_PLAIN_BYTES, PIECE_BYTES};

use super::*;

const HEAD_BYTES: usize = 4;
const MAX_WAITING_BYTES: usize = 4 << 10;

/// Puts a record behind what is there: its kind, how much it has, and that.
fn push(output: &mut Scratch, kind: u8, content: &[u8]) {
    output.push(&(u32::from(kind) << 24 | content.len() as u32).to_be_bytes());
    output.push(content);
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut output = Scratch::default();
    push(&mut output, kind, content);
    output.as_slice().to_vec()
}

/// The first whole record of bytes.
fn first(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let head = bytes.first_chunk::<HEAD_BYTES>()?;
    let length = (u32::from_be_bytes(*head) & 0xff_ffff) as usize;
    Some((head[0], bytes.get(HEAD_BYTES..HEAD_BYTES + length)?))
}

/// What the socket was given: the plaintext of its whole records, and the kinds of the others.
fn given(mut bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut plain, mut kinds) = (Vec::new(), Vec::new());
    while let Some((kind, content)) = first(bytes) {
        if kind == b'D' {
            plain.extend_from_slice(content);
        } else {
            kinds.push(kind);
        }
        bytes = &bytes[HEAD_BYTES + content.len()..];
    }
    (plain, kinds)
}

/// Data in records; a ping is answered, and what it does not know is refused with an alert.
#[derive(Debug)]
struct Records;

impl Layer for Records {
    fn begin(&mut self, reply: &mut Scratch) {
        push(reply, b'H', b"hello");
    }

    fn decode(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Scratch,
    ) -> io::Result<Decoded> {
        let (mut consumed, mut stage) = (0, LayerStage::Open);
        while let Some((kind, content)) = first(&input[consumed..]) {
            match kind {
                b'D' => plain.extend_from_slice(content),
                b'?' => push(reply, b'!', content),
                b'E' => stage = LayerStage::Ended,
                b'S' => return Err(io::ErrorKind::InvalidData.into()),
                _ => {
                    push(reply, b'A', &[kind]);
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            consumed += HEAD_BYTES + content.len();
        }
        Ok(Decoded { consumed, stage })
    }

    fn encode(&mut self, plain: &[u8], _: &mut [u8], output: &mut Scratch) -> io::Result<()> {
        assert!(!plain.is_empty() && plain.len() <= MAX_PLAIN_BYTES);
        push(output, b'D', plain);
        Ok(())
    }

    fn encode_end(&mut self, _: &mut [u8], output: &mut Scratch) {
        push(output, b'E', &[]);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// An open connection whose layer has done its handshake.
fn layered(script: &[Act]) -> Connection<Scripted> {
    let mut connection = connection(script);
    connection.set_layer(Box::new(Records), SOURCE);
    connection.finish_layers(&mut Spares::default());
    connection.open(0);
    assert!(connection.flags == Flags::LAYERED | Flags::HAS_COLD, "{:?}", connection.flags);
    connection
}

/// Writes as the loop does; in how many bytes and calls.
fn write(
    connection: &mut Connection<Scripted>,
    (one, two): (&[u8], &[u8]),
    short_is_full: bool,
    spares: &mut Spares,
) -> Sent {
    if two.is_empty() && connection.takes_record() {
        return connection.send_record(one, short_is_full, spares);
    }
    let (mut taken, mut sent) = (0, Sent::default());
    if connection.takes_plaintext() {
        (taken, sent) = connection.send_plaintext((one, two), true, 2, short_is_full, spares);
    }
    for part in [one, two] {
        let gone = taken.min(part.len());
        taken -= gone;
        connection.queue_output(&part[gone..], spares);
    }
    sent
}

/// What is said of the output is so, if so much was written and the socket was given that.
#[track_caller]
fn check_output(connection: &Connection<Scripted>, written: usize) {
    let waits = connection.output().len() + connection.encoded_len();
    assert_eq!(connection.has_output(), waits > 0 || connection.has_files());
    let (arrived, _) = given(&connection.stream.taken);
    let (left, in_memory) = (connection.output_left(), connection.output_in_memory());
    assert!(left <= written, "{left} of {written}");
    assert_eq!(left as u64, in_memory as u64 + connection.file_bytes());
    if waits == 0 && !connection.has_files() {
        assert_eq!((left, arrived.len()), (0, written));
    } else if connection.encoded_len() == 0 {
        assert_eq!(left, written - arrived.len());
    } else {
        // Of a record that has left in part, its head counts as well.
        assert!(left + connection.stream.taken.len() >= written, "{left} of {written}");
    }
}

#[test]
fn what_goes_through_a_layer_leaves_in_order_whatever_the_socket_does() {
    let all = ascending(0, 24);
    for (short_is_full, joint) in [(true, false), (true, true), (false, true), (false, false)] {
        each_script(4, |script| {
            let mut spares = Spares::default();
            let mut connection = layered(script);
            let (mut bytes, mut calls, mut error) = (0, 0, None);
            let mut note = |sent: Sent, connection: &mut Connection<Scripted>| {
                bytes += sent.bytes;
                calls += sent.calls;
                assert_eq!(bytes, connection.stream.taken.len());
                let moves = script.iter().take(connection.stream.calls);
                let moved = moves.filter(|act| matches!(act, Act::Move(_))).count();
                let beyond = connection.stream.calls.saturating_sub(script.len());
                assert_eq!(calls, (moved + beyond) as u64);
                connection.flags.put(Flags::BLOCKED, sent.is_blocked);
                error = sent.error.or(error.take());
                error.is_none()
            };
            let mut goes_on = true;
            for (start, end) in [(0, 9), (9, 16), (16, 24)] {
                let middle = if joint { start + 3 } else { end };
                let parts = (&all[start..middle], &all[middle..end]);
                goes_on = goes_on && {
                    let sent = write(&mut connection, parts, short_is_full, &mut spares);
                    let goes_on = note(sent, &mut connection);
                    check_output(&connection, end);
                    goes_on
                };
            }
            for _ in 0..8 {
                if connection.has_output() && goes_on {
                    let sent = connection.flush_all(2, 0, short_is_full, &mut spares);
                    goes_on = note(sent, &mut connection);
                    check_output(&connection, 24);
                }
            }
            let (arrived, _) = given(&connection.stream.taken);
            assert_eq!(arrived, all[..arrived.len()], "{script:?}");
            assert_eq!(arrived.len() == 24, goes_on, "{script:?}");
            let left = connection.output_left();
            assert_eq!(connection.clear_output(&mut spares), left);
            assert!(!connection.has_output() && spares.output() == 0);
        });
    }
}

#[test]
fn a_write_encodes_a_piece_and_a_rest_goes_with_the_last_one() {
    let lengths = [1, PIECE_BYTES, MAX_PLAIN_BYTES, MAX_PLAIN_BYTES + 1, 3 * PIECE_BYTES + 100];
    for length in lengths {
        let bytes = vec![7; length];
        for first in [0, 1, length / 2, length] {
            let mut spares = Spares::default();
            let mut connection = layered(&[]);
            let parts = bytes.split_at(first);
            let (taken, sent) = connection.send_plaintext(parts, false, 1, true, &mut spares);
            let expected = if length <= MAX_PLAIN_BYTES { length } else { PIECE_BYTES };
            assert_eq!((taken, sent.calls), (expected, 1), "{length} {first}");
            assert_eq!(given(&connection.stream.taken).0.len(), expected);
            assert!(!connection.has_output() && connection.takes_plaintext());
            let rest = (&bytes[taken..], &[][..]);
            let (taken, sent) = connection.send_plaintext(rest, false, 9, true, &mut spares);
            assert_eq!(given(&connection.stream.taken).0, bytes);
            let calls = (taken / PIECE_BYTES).max(usize::from(taken > 0));
            assert_eq!((taken, sent.calls), (length - expected, calls as u64));
        }
    }
}

#[test]
fn a_socket_that_is_full_is_not_written_to_again() {
    let mut spares = Spares::default();
    let bytes = vec![7; 3 * PIECE_BYTES];
    for (length, taken) in [(4, 4), (3 * PIECE_BYTES, PIECE_BYTES)] {
        for act in [Act::WouldBlock, Act::Move(3), Act::Reset] {
            let mut connection = layered(&[act]);
            let parts = bytes[..length].split_at(2);
            let (count, sent) = connection.send_plaintext(parts, false, 4, true, &mut spares);
            assert_eq!((count, connection.stream.calls, sent.is_over()), (taken, 1, true));
            connection.stream.script = vec![Act::Move(1), act];
            connection.flush_all(4, 0, true, &mut spares);
            assert_eq!(connection.stream.calls, 2);
        }
    }
}

#[test]
fn a_flush_makes_as_many_writes_as_it_may_each_of_a_piece() {
    let mut spares = Spares::default();
    let mut connection = layered(&[]);
    connection.queue_output(&vec![7; 3 * PIECE_BYTES], &mut spares);
    for writes in [1, 2] {
        let before = connection.output_left();
        let sent = connection.flush_all(writes, 0, true, &mut spares);
        assert_eq!(sent.calls, writes as u64);
        assert_eq!(connection.output_left(), before - writes * PIECE_BYTES);
        assert_eq!(spares.output(), connection.output_left());
    }
    assert_eq!(given(&connection.stream.taken).0.len(), 3 * PIECE_BYTES);
}

/// A full socket was not given much more than it takes, and the end waits for all.
#[test]
fn nothing_is_encoded_behind_what_waits_unless_that_is_little() {
    let mut spares = Spares::default();
    for (taken, waiting) in [(0, 5_000 + HEAD_BYTES), (904, 4_100), (908, 4_096), (4_000, 1_004)] {
        let mut connection = layered(&[Act::Move(taken.max(1)), Act::Move(1), Act::WouldBlock]);
        if taken == 0 {
            connection.stream.script = vec![Act::WouldBlock];
        }
        let sent = connection.send_record(&[1; 5_000], true, &mut spares);
        assert_eq!((sent.bytes, sent.is_blocked), (taken, true));
        assert_eq!(connection.encoded_len(), waiting);
        assert_eq!(connection.output_in_memory(), waiting.min(5_000));
        assert_eq!(connection.takes_plaintext(), waiting <= MAX_WAITING_BYTES);
        assert!(!connection.takes_record());
        connection.flags.set(Flags::BLOCKED);
        assert!(!connection.takes_plaintext());
        connection.flags.clear(Flags::BLOCKED);
        connection.queue_output(&[2; 100], &mut spares);
        assert!(!connection.takes_plaintext());
        connection.stream.script.clear();
        let calls = connection.stream.calls;
        connection.flush_all(1, 0, true, &mut spares);
        assert_eq!(connection.stream.calls, calls + 1);
        let left = connection.output_left();
        assert_eq!(left == 0, waiting <= MAX_WAITING_BYTES, "{waiting}: {left}");
        connection.flush_all(1, 0, true, &mut spares);
        assert!(!connection.has_output() && spares.output() == 0);
        assert_eq!(given(&connection.stream.taken).0, [[1; 5_000].as_slice(), &[2; 100]].concat());
    }
}

#[test]
fn files_go_through_a_layer_in_order_and_are_counted_until_they_have_left() {
    let file = files::file(8);
    let expected = [1, 2, 101, 102, 103, 104, 3, 100, 101, 4];
    each_script(3, |script| {
        let mut spares = Spares::default();
        let mut connection = layered(script);
        connection.queue_output(&[1, 2], &mut spares);
        connection.queue_file(file.clone(), 1..5);
        connection.queue_output(&[3], &mut spares);
        connection.queue_file(file.clone(), 0..2);
        connection.queue_output(&[4], &mut spares);
        assert!(!connection.takes_plaintext());
        assert_eq!((connection.file_bytes(), connection.output_in_memory()), (6, 4));
        let mut error = None;
        for _ in 0..6 {
            if connection.has_output() && error.is_none() {
                error = connection.flush_all(1, 0, true, &mut spares).error;
                check_output(&connection, 10);
            }
        }
        let (arrived, _) = given(&connection.stream.taken);
        assert_eq!(arrived, expected[..arrived.len()]);
        assert_eq!(arrived.len() == 10, error.is_none());
        if connection.encoded_len() > 10 {
            assert_eq!((connection.file_bytes(), connection.output_in_memory()), (6, 4));
        }
        let left = connection.output_left();
        assert_eq!(connection.clear_output(&mut spares), left);
    });
}

#[test]
fn what_the_layer_itself_says_does_not_count_as_output() {
    let mut spares = Spares::default();
    let all = 2 * HEAD_BYTES + 10;
    let mut connection = layered(&[Act::Move(all - 3), Act::WouldBlock]);
    connection.queue_output(&[1; 4], &mut spares);
    connection.queue_file(files::file(6), 0..6);
    connection.flush_all(1, 0, true, &mut spares);
    assert_eq!((connection.encoded_len(), connection.output_left()), (3, 3));
    connection.decode(&mut record(b'?', &[9; 50]), &mut spares).unwrap();
    assert_eq!(connection.encoded_len(), 3 + HEAD_BYTES + 50);
    assert_eq!(connection.output_left(), 3);
}

#[test]
fn a_large_file_is_encoded_a_piece_at_a_time() {
    let mut spares = Spares::default();
    let file = files::file(8);
    file.set_len(2 * PIECE_BYTES as u64 + 100).unwrap();
    let mut connection = layered(&[]);
    connection.queue_output(&[1; 50], &mut spares);
    connection.queue_file(file.clone(), 0..2 * PIECE_BYTES as u64 + 100);
    for left in [PIECE_BYTES + 150, 150, 0] {
        connection.flush_all(1, 0, true, &mut spares);
        assert_eq!(connection.output_left(), left);
    }
    let (arrived, _) = given(&connection.stream.taken);
    assert_eq!((arrived.len(), &arrived[50..52]), (2 * PIECE_BYTES + 150, &[100, 101][..]));
    assert!(arrived[58..].iter().all(|&byte| byte == 0), "a piece is sent again");
    connection.queue_file(file.clone(), 10..20);
    file.set_len(13).unwrap();
    let sent = connection.flush_all(9, 0, true, &mut spares);
    assert_eq!(sent.error.map(|error| error.kind()), Some(io::ErrorKind::UnexpectedEof));
}

#[test]
fn the_layer_says_the_end_once_in_the_write_of_the_last_bytes() {
    for (queued, closing) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut spares = Spares::default();
        let mut connection = layered(&[]);
        assert!(!connection.is_ending());
        if closing {
            connection.enter(Phase::Closing(Ending::Local));
        } else {
            connection.set_write_side(WriteSide::FinQueued);
        }
        assert!(connection.is_ending());
        if queued {
            connection.queue_output(b"last", &mut spares);
            connection.flush_all(4, 0, true, &mut spares);
        } else {
            connection.send_plaintext((b"la", b"st"), true, 4, true, &mut spares);
        }
        assert_eq!(connection.stream.calls, 1);
        assert_eq!(given(&connection.stream.taken), (b"last".to_vec(), b"E".to_vec()));
        assert!(!connection.encode_end(&mut spares) && !connection.has_output());
    }
    // More follows in another write, or in one that was not tried yet.
    for (length, is_all) in [(2 * PIECE_BYTES, true), (5, false)] {
        let mut spares = Spares::default();
        let mut connection = layered(&[]);
        connection.set_write_side(WriteSide::FinQueued);
        connection.send_plaintext((&vec![1; length], b""), is_all, 1, true, &mut spares);
        assert!(given(&connection.stream.taken).1.is_empty(), "{length}");
    }
    // Without an end behind it there is none, nor from a layer whose handshake is not done.
    let mut spares = Spares::default();
    let mut connection = layered(&[]);
    connection.send_plaintext((b"more", b""), true, 4, true, &mut spares);
    assert!(given(&connection.stream.taken).1.is_empty());
    assert!(connection.encode_end(&mut spares) && connection.has_output());
    assert!(!connection.encode_end(&mut spares));
    let mut early = super::connection(&[]);
    early.set_layer(Box::new(Records), SOURCE);
    assert!(!early.encode_end(&mut spares) && !early.has_output());
    early.finish_layers(&mut spares);
    early.forget_end();
    assert!(!early.encode_end(&mut spares));
    assert!(!early.takes_plaintext() && !early.takes_record());
}

#[test]
fn a_part_of_a_record_waits_for_the_rest() {
    let mut spares = Spares::default();
    let mut connection = layered(&[]);
    let mut bytes = [record(b'D', b"one"), record(b'?', b"x"), record(b'D', b"two")].concat();
    let rest = bytes.split_off(bytes.len() - 2);
    let decoded = connection.decode(&mut bytes, &mut spares).unwrap();
    assert_eq!((decoded.consumed, decoded.stage), (bytes.len() - 5, LayerStage::Open));
    assert_eq!(spares.plain, b"one");
    assert!(connection.has_undecoded() && connection.is_incomplete());
    assert!(connection.has_output() && connection.output_left() == 0, "an answer is no output");
    let mut buffer = [0; 64];
    assert_eq!(connection.lend_undecoded(&mut buffer), 5);
    buffer[5..7].copy_from_slice(&rest);
    connection.decode(&mut buffer[..7], &mut spares).unwrap();
    assert_eq!(spares.plain, b"two");
    assert!(!connection.has_undecoded() && connection.lend_undecoded(&mut buffer) == 0);
    connection.keep_plain(&mut spares);
    assert_eq!((connection.input(), spares.plain.as_slice()), (&b"two"[..], &b""[..]));
    connection.flush_all(1, 0, true, &mut spares);
    assert_eq!(connection.stream.taken, record(b'!', b"x"));
}

#[test]
fn what_is_left_of_a_record_is_dropped_once_the_layer_has_said_its_end() {
    let mut spares = Spares::default();
    let mut connection = layered(&[]);
    let mut bytes = record(b'D', b"cut");
    bytes.truncate(3);
    connection.decode(&mut bytes, &mut spares).unwrap();
    connection.drop_undecoded(&mut spares);
    assert!(connection.has_undecoded());
    connection.encode_end(&mut spares);
    connection.drop_undecoded(&mut spares);
    assert!(!connection.has_undecoded());
    // Nothing is said behind the end.
    connection.decode(&mut record(b'?', b"x"), &mut spares).unwrap();
    connection.flush_all(1, 0, true, &mut spares);
    assert_eq!(given(&connection.stream.taken).1, b"E");
}

#[test]
fn the_peers_end_is_told_once_and_what_follows_it_does_not_count() {
    let mut spares = Spares::default();
    let mut connection = layered(&[]);
    assert!(connection.can_decode() && !connection.has_unreported_end());
    let mut bytes = [record(b'D', b"last"), record(b'E', b""), vec![b'D', 0]].concat();
    let decoded = connection.decode(&mut bytes, &mut spares).unwrap();
    assert_eq!((decoded.consumed, decoded.stage), (bytes.len(), LayerStage::Ended));
    assert_eq!(spares.plain, b"last");
    assert!(connection.has_unreported_end() && !connection.can_decode());
    assert!(!connection.has_undecoded());
    for _ in 0..2 {
        connection.note_layer_end();
        assert!(!connection.has_unreported_end() && !connection.is_truncated());
    }
    let mut cut = layered(&[]);
    for _ in 0..2 {
        cut.note_layer_end();
        assert!(cut.is_truncated() && !cut.can_decode() && !cut.has_unreported_end());
    }
}

#[test]
fn a_layer_that_fails_has_last_words_if_nothing_of_the_handlers_is_lost_by_them() {
    let mut spares = Spares::default();
    let table = [(b'X', false, true), (b'S', false, false), (b'X', true, false)];
    for (kind, waits, expected) in table {
        let mut connection = layered(&[]);
        assert!(!connection.has_last_words());
        assert!(connection.take_layer_failure().is_none());
        if waits {
            connection.queue_output(b"x", &mut spares);
        }
        let error = connection.decode(&mut record(kind, b""), &mut spares).unwrap_err();
        assert_eq!(connection.has_last_words(), expected);
        connection.set_layer_failure(error);
        let failure = connection.take_layer_failure().map(|error| error.kind());
        assert_eq!(failure, Some(io::ErrorKind::InvalidData));
        assert!(connection.take_layer_failure().is_none());
    }
    let mut connection = layered(&[]);
    connection.decode(&mut record(b'?', b""), &mut spares).unwrap();
    assert!(!connection.has_last_words(), "it has not failed");
}

#[test]
fn what_a_layer_that_goes_had_to_say_leaves_before_what_was_written_meanwhile() {
    let mut spares = Spares::default();
    let mut connection = connection(&[]);
    connection.set_layer(Box::new(Records), SOURCE);
    connection.enter(Phase::Handshake);
    connection.begin_layer(&mut spares);
    assert_eq!(connection.encoded_len(), record(b'H', b"hello").len());
    assert!(connection.can_flush() && connection.output_left() == 0);
    connection.queue_output(b"early", &mut spares);
    assert_eq!((connection.output_left(), connection.layer_place()), (5, 0));
    connection.replace_layer(None);
    assert_eq!(connection.layer_place(), 1);
    connection.finish_layers(&mut spares);
    assert!(!connection.flags.has(Flags::LAYERED) && connection.has_output());
    assert_eq!(spares.output(), connection.output_left());
    connection.open(0);
    connection.flush_all(1, 0, true, &mut spares);
    assert_eq!(connection.stream.taken, [record(b'H', b"hello"), b"early".to_vec()].concat());
    assert!(connection.flags.is_usual() && spares.output() == 0, "{:?}", connection.flags);
}

#[test]
fn early_output_waits_for_the_handshake() {
    let mut spares = Spares::default();
    let mut connection = connection(&[]);
    connection.set_layer(Box::new(Records), SOURCE);
    connection.enter(Phase::Handshake);
    connection.queue_output(b"early", &mut spares);
    assert!(connection.has_output() && !connection.can_flush());
    connection.flush_all(2, 0, true, &mut spares);
    assert_eq!((connection.stream.calls, connection.output_left()), (0, 5));
    assert_eq!(connection.handshake_source(), Some(SOURCE));
    let (other, peer) = (IpAddr::from([192, 0, 2, 1]), SocketAddr::from(([192, 0, 2, 1], 5)));
    connection.set_handshake_source(other);
    connection.set_proxied(peer, None);
    assert_eq!(connection.handshake_source(), Some(other));
    assert_eq!(connection.proxied(), Some((peer, None)));
}

#[test]
fn another_socket_takes_what_was_written_and_nothing_else_stays() {
    let mut spares = Spares::default();
    let mut connection = layered(&[Act::WouldBlock]);
    connection.send_record(b"lost", true, &mut spares);
    connection.queue_output(b"stays", &mut spares);
    connection.keep_input(b"input", &mut spares);
    let of_socket = Flags::READABLE | Flags::URGENT | Flags::READ_CLOSED | Flags::BLOCKED;
    let seen = Flags::ASKS_WRITABLE | Flags::HUNG_UP | Flags::ERROR;
    connection.flags.set(of_socket | seen);
    connection.replace_socket(Scripted::default(), &mut spares);
    assert!(connection.is_connecting());
    let kept = Flags::NOT_OPEN | Flags::HAS_OUTPUT | Flags::HAS_COLD;
    assert!(connection.flags == kept, "{:?}", connection.flags);
    assert_eq!((connection.output(), connection.input()), (&b"stays"[..], &b""[..]));
    assert_eq!(connection.output_left(), 5);
}
