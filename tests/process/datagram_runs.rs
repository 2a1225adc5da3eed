//! Runs of datagrams that are sent as segments of one, where the way takes that and where not.

use waterwheel::udp::{DatagramSocket, SendStatus, UdpOptions};

#[cfg(target_os = "linux")]
use crate::network::alone_or_skipped;
use crate::support::datagrams::{Rig, Told};
use crate::support::pattern;

const NOTHING: fn(&mut DatagramSocket<'_>, std::net::SocketAddr, &[u8]) = |_, _, _| {};

fn batch() -> UdpOptions {
    UdpOptions::default().batch(true)
}

/// Lengths with runs of equal ones, which may leave as segments: runs that end in a shorter one,
/// in a longer one, in an empty one, with the last batch, and longer ones than one may be.
fn lengths() -> Vec<usize> {
    let mut lengths = vec![1_000; 20];
    lengths.extend([500, 500, 499, 0, 0, 7, 8, 9, 9, 9, 3]);
    lengths.extend([4_000; 20]);
    lengths.extend([1; 100]);
    lengths
}

/// Sends datagrams of `lengths` in one go; all arrive in order at a socket that takes segments and
/// at one that knows nothing of them.
fn expect_runs_to_pass(lengths: &[usize]) {
    let room = |options: UdpOptions| options.receive_buffer_bytes(Some(4 << 20));
    let numbered = |at: usize, length: usize| -> Vec<u8> {
        pattern(length + at)[at..].to_vec() // each has another content
    };
    for is_batch in [true, false] {
        let to = Rig::bind("127.0.0.1:0", room(batch().batch(is_batch)), NOTHING);
        let mut from = Rig::bind("127.0.0.1:0", batch(), NOTHING);
        let mut to = to;
        let mut next = 0;
        // In parts that the kernel's buffer has room for.
        for part in lengths.chunks(40) {
            from.with(|socket| {
                for (at, &length) in part.iter().enumerate() {
                    let status = socket.send_to(to.addr, &numbered(next + at, length));
                    assert_eq!(status, SendStatus::Batched);
                }
            });
            from.turn();
            next += part.len();
            to.expect_told(next, |told| matches!(told, Told::Datagram(..)));
        }
        let mut told = to.told();
        told.retain(|told| *told != Told::BatchEnd);
        assert_eq!(told.len(), lengths.len());
        for (at, (told, &length)) in told.iter().zip(lengths).enumerate() {
            assert!(*told == Told::Datagram(numbered(at, length), false), "datagram {at}");
        }
        assert_eq!(from.told(), []);
        assert_eq!(from.reactor.stats().datagrams_sent, lengths.len() as u64);
        assert_eq!(to.reactor.stats().datagrams_received, lengths.len() as u64);
    }
}

#[test]
fn runs_of_equal_lengths_pass_whole() {
    expect_runs_to_pass(&lengths());
}

/// Where datagrams are longer than what the way takes they are cut by IP, which segments are not.
#[cfg(target_os = "linux")]
#[test]
fn runs_that_are_too_long_for_segments_pass_too() {
    alone_or_skipped("ip link set lo mtu 1500 up", || {
        expect_runs_to_pass(&lengths());
    });
}
