//! Files in the output, for short scripts.

use std::fs::{self, File};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

impl crate::sys::FileSink for Scripted {}

/// A file with the bytes 100, 101, 102 and so on.
pub(super) fn file(count: u8) -> Arc<File> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("waterwheel-unit-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all(&(100..100 + count).collect::<Vec<u8>>()).unwrap();
    let _ = fs::remove_file(path);
    Arc::new(file)
}

#[test]
fn whatever_the_socket_does_the_output_leaves_in_order_and_nothing_is_lost_unnoticed() {
    let file = file(8);
    let expected = [1, 2, 101, 102, 103, 104, 3, 100, 101, 107, 4];
    let all = expected.len();
    for first in ACTS {
        for second in ACTS {
            for third in ACTS {
                for short_is_full in [true, false] {
                    let mut spares = Spares::default();
                    let mut connection = connection(&[first, second, third]);
                    connection.queue_output(&[1, 2], &mut spares);
                    connection.queue_file(file.clone(), 1..5);
                    connection.queue_output(&[3], &mut spares);
                    connection.queue_file(file.clone(), 0..2);
                    connection.queue_file(file.clone(), 7..8);
                    connection.queue_output(&[4], &mut spares);
                    assert_eq!((connection.file_bytes(), connection.output_in_memory()), (7, 4));
                    assert_eq!(connection.files_queued(), 3);
                    let mut error = None;
                    for _ in 0..8 {
                        if connection.has_output() && error.is_none() {
                            let sent = connection.flush_all(2, 1 << 20, short_is_full, &mut spares);
                            error = sent.error;
                        }
                        let taken = connection.stream.taken.len();
                        assert_eq!(connection.stream.taken, expected[..taken]);
                        assert_eq!(connection.output_left(), all - taken);
                        check_flags(&connection);
                    }
                    let left = connection.output_left();
                    assert_eq!(left == 0, error.is_none(), "{first:?} {second:?} {third:?}");
                    assert_eq!(connection.clear_output(&mut spares), left);
                    assert!(!connection.has_output() && !connection.has_files());
                    connection.drop_unused();
                    assert!(!connection.has_cold(), "something is left of the files");
                    check_flags(&connection);
                }
            }
        }
    }
}

#[test]
fn a_file_that_has_become_shorter_is_an_error_that_says_how_much_is_missing() {
    let mut connection = connection(&[]);
    let file = file(10);
    connection.queue_file(file.clone(), 2..10);
    file.set_len(5).unwrap();
    let sent = connection.flush_all(1, 1 << 20, true, &mut Spares::default());
    assert_eq!(connection.stream.taken, [102, 103, 104]);
    let error = sent.error.unwrap();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let text = error.to_string();
    assert!(text.contains("ends at byte 5 or before, 5 bytes are missing"), "{text}");
    assert_eq!(connection.output_left(), 5);
}

#[test]
fn the_marks_count_files_and_the_connection_leaves_the_fast_path() {
    let mut spares = Spares::default();
    let mut connection = opened(&Limits::default().low_mark_bytes(4).high_mark_bytes(8));
    connection.stream.script = vec![Act::Move(3), Act::WouldBlock];
    assert!(connection.flags.is_usual());
    connection.queue_file(file(8), 0..7);
    assert!(connection.flags == Flags::HAS_OUTPUT | Flags::HAS_COLD, "{:?}", connection.flags);
    assert_eq!(connection.cork_room(), 0);
    assert!(!connection.crosses_high_mark());
    connection.queue_output(&[1], &mut spares);
    assert!(connection.crosses_high_mark());
    assert!(!connection.crosses_low_mark());
    assert_eq!(connection.flush_all(1, 1 << 20, true, &mut spares).bytes, 3);
    assert!(!connection.crosses_low_mark(), "5 are left");
    connection.flush_all(1, 1 << 20, true, &mut spares);
    assert!(connection.crosses_low_mark());
    assert!(connection.flags == Flags::HAS_COLD, "{:?}", connection.flags);
    connection.drop_unused();
    assert!(connection.flags.is_usual(), "{:?}", connection.flags);
}

#[test]
fn the_least_rate_is_looked_at_until_the_last_file_has_left() {
    let mut connection = opened(&Limits::default().min_send_rate(rate(10)));
    connection.stream.script = vec![Act::Move(3), Act::WouldBlock];
    connection.queue_file(file(8), 0..8);
    connection.watch_output(0);
    let sent = connection.flush_all(1, 1 << 20, true, &mut Spares::default());
    connection.note_sent(sent.bytes, 5);
    assert_eq!((sent.bytes, connection.written_at), (3, 5));
    assert_eq!(connection.expired(13, exact), None, "3 bytes pay for 3 ms");
    assert_eq!(connection.expired(14, exact), Some(Expiry::Timeout(TimeoutKind::SendRate)));
    let sent = connection.flush_all(1, 1 << 20, true, &mut Spares::default());
    connection.note_sent(sent.bytes, 6);
    assert_eq!((sent.bytes, connection.expired(1_000, exact)), (5, None));
}

#[test]
fn a_flush_sends_as_much_of_files_as_it_may_in_as_many_calls() {
    let mut spares = Spares::default();
    let mut connection = connection(&[Act::Move(3), Act::Move(4)]);
    connection.queue_file(file(150), 0..150);
    connection.queue_output(&[9], &mut spares);
    let sent = connection.flush_all(1, 10, true, &mut spares);
    assert_eq!((sent.bytes, sent.calls), (10, 3));
    connection.stream.script = [Act::Move(1); 100].to_vec();
    let sent = connection.flush_all(1, 1 << 20, true, &mut spares);
    assert_eq!((sent.bytes, sent.calls), (72, 72));
    connection.stream.script.clear();
    let sent = connection.flush_all(1, 1 << 20, true, &mut spares);
    assert_eq!((sent.bytes, sent.calls), (69, 2), "what is behind the file leaves too");
    assert!(!connection.has_output() && spares.output() == 0);
}

#[test]
fn parts_are_queued_in_order_behind_what_waits() {
    for has_file in [false, true] {
        let mut spares = Spares::default();
        let mut connection = connection(&[]);
        connection.queue_parts(&[b"", b""], &mut spares);
        assert!(!connection.has_output());
        connection.queue_output(b"ab", &mut spares);
        if has_file {
            connection.queue_file(file(2), 0..2);
        }
        connection.queue_parts(&[b"cd", b"", b"e"], &mut spares);
        check_flags(&connection);
        assert_eq!((connection.output_in_memory(), spares.output()), (5, 5));
        connection.flush_all(2, 1 << 20, true, &mut spares);
        let expected = if has_file { &b"abdecde"[..] } else { b"abcde" };
        assert_eq!((connection.stream.taken.as_slice(), spares.output()), (expected, 0));
    }
}
