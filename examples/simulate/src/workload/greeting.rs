//! Hosts behind a balancer, if the feature `proxy-protocol` is on: peers begin with a header then,
//! or should.

use waterwheel::ListenOptions;
use waterwheel::sim::{Dice, Script};

#[cfg(feature = "proxy-protocol")]
use std::time::Duration;

/// First bytes of a header that are the same in all of its version.
#[cfg(feature = "proxy-protocol")]
const SIGNATURE_BYTES: u64 = 6;

/// Makes every fourth listener one behind a balancer; whether it is one.
#[cfg(feature = "proxy-protocol")]
pub(super) fn choose(dice: &Dice, options: ListenOptions) -> (ListenOptions, bool) {
    if !dice.one_in(4) {
        return (options, false);
    }
    let limit = Duration::from_millis(dice.spread(1, 60_000));
    let everybody = waterwheel::proxy_protocol::ProxyProtocol::from_trusted(["0.0.0.0/0", "::/0"]);
    let everybody = everybody.expect("these are networks").header_timeout(limit);
    let mut options = options.proxy_protocol(Some(everybody));
    if dice.one_in(3) {
        options = options.max_per_source(Some(1 + dice.below(3) as usize));
    }
    (options, true)
}

#[cfg(not(feature = "proxy-protocol"))]
pub(super) fn choose(_: &Dice, options: ListenOptions) -> (ListenOptions, bool) {
    (options, false)
}

/// A header of either version: whole, in pieces, byte by byte, cut short or wrong. One that is cut
/// or wrong is so in its first bytes: else it could take some of the stream for its own.
#[cfg(feature = "proxy-protocol")]
pub(super) fn greet(dice: &Dice, script: Script) -> Script {
    let client = 1 + dice.below(4) as u8;
    let mut header = match dice.below(4) {
        0 => b"PROXY UNKNOWN\r\n".to_vec(),
        1 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x03abc".to_vec(),
        2 => format!("PROXY TCP4 192.0.2.{client} 198.51.100.1 4711 443\r\n").into_bytes(),
        _ => {
            let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
            header.extend([192, 0, 2, client, 198, 51, 100, 1, 18, 103, 1, 187]);
            header
        }
    };
    if dice.one_in(8) {
        let at = dice.below(SIGNATURE_BYTES) as usize;
        header[at] ^= 1 << dice.below(8);
    }
    let at = dice.below(header.len() as u64) as usize;
    let pause = Duration::from_micros(dice.spread(1, 100_000));
    match dice.below(8) {
        0 => script.dribble(header, pause),
        1 => script.send(&header[..at]).wait(pause).send(&header[at..]),
        2 => script.send(&header[..dice.below(SIGNATURE_BYTES) as usize]).wait(pause),
        3 => script.send(&header[..at]).wait(pause).finish(),
        _ => script.send(header),
    }
}

#[cfg(not(feature = "proxy-protocol"))]
pub(super) fn greet(_: &Dice, script: Script) -> Script {
    script
}
