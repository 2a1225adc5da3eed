//! What the fuzzers drive of this room.

use std::cell::RefCell;

use crate::ws::assembly::{Assembly, MessageLimits, Place, inflater_for};
use crate::ws::code::{Fault, parse_close};
use crate::ws::deflate::{Codecs, How, Inflated, Window};
use crate::ws::handler::Kind;
use crate::ws::handshake::{check_answer, check_request};
use crate::ws::header::{self, Opcode};
use crate::ws::{Deflate, Options};

/// What came in.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Message(Kind, Vec<u8>),
    Control(Opcode, Vec<u8>),
}

/// How frames are read.
#[derive(Clone, Copy)]
struct Setting {
    is_masked: bool,
    deflates: bool,
    limits: MessageLimits,
}

const LIMITS: MessageLimits = MessageLimits { max_bytes: 200, max_frames: 5, max_in_parts: None };

thread_local! {
    /// What an input leaves is taken for the next one, as a server does: to make it costs ten times
    /// what the input itself does. One set for each level, which a set has for good.
    static CODECS: RefCell<[Codecs; 8]> = RefCell::default();
}

/// Frames of any bytes: where they are cut makes no difference.
pub fn frame(bytes: &[u8]) {
    CODECS.with_borrow_mut(|codecs| frame_with(bytes, &mut codecs[0]));
}

fn frame_with(bytes: &[u8], codecs: &mut Codecs) {
    let [setting, cut, wire @ ..] = bytes else { return };
    let deflates = setting & 2 != 0;
    let max_in_parts = (setting & 4 != 0).then_some(LIMITS.max_bytes as u64);
    let limits = MessageLimits { max_in_parts, ..LIMITS };
    let setting = Setting { is_masked: setting & 1 == 0, deflates, limits };
    let whole = read(wire, wire.len().max(1), setting, codecs);
    let in_pieces = read(wire, 1 + usize::from(cut % 20), setting, codecs);
    assert_eq!(whole.0, in_pieces.0);
    // A compressed message may be wrong in two ways, of which a piece shows one earlier.
    match deflates {
        false => assert_eq!(whole.1, in_pieces.1),
        true => assert_eq!(whole.1.is_some(), in_pieces.1.is_some()),
    }
    for event in whole.0 {
        if let Event::Message(_, bytes) = event {
            assert!(bytes.len() <= LIMITS.max_bytes);
        }
    }
}

/// Reads frames of which so many more bytes come at a time, up to the first fault.
fn read(
    wire: &[u8],
    piece: usize,
    setting: Setting,
    codecs: &mut Codecs,
) -> (Vec<Event>, Option<Fault>) {
    let (mut events, mut assembly) = (Vec::new(), Assembly::default());
    let mut parts = Vec::new();
    let (mut at, mut end) = (0, 0);
    while end < wire.len() {
        end = wire.len().min(end + piece);
        loop {
            let step = step(&wire[at..end], &mut assembly, &mut events, setting, codecs);
            let told = step.and_then(|count| {
                let is_told = tell_parts(&mut assembly, &mut parts, &mut events)?;
                Ok((count, is_told))
            });
            match told {
                Ok((0, false)) => break,
                Ok((count, _)) => at += count,
                Err(fault) => return (events, Some(fault)),
            }
        }
    }
    (events, None)
}

/// Takes the next thing; returns its bytes, none if it is not complete.
fn step(
    rest: &[u8],
    assembly: &mut Assembly,
    events: &mut Vec<Event>,
    setting: Setting,
    codecs: &mut Codecs,
) -> Result<usize, Fault> {
    let Setting { is_masked, deflates, limits } = setting;
    let take = |assembly: &mut Assembly, rest: &[u8]| match limits.max_in_parts {
        None => assembly.take(rest, limits),
        Some(_) => assembly.take_some(rest, limits).map(|(count, _)| count),
    };
    let mut used = 0;
    if assembly.left() > 0 {
        if !rest.is_empty() {
            used = take(assembly, rest)?;
        }
    } else {
        let Some(header) = header::parse(rest, is_masked)? else { return Ok(0) };
        used += header.size;
        if header.opcode.is_control() {
            let Some(payload) = rest[used..].get(..header.length as usize) else { return Ok(0) };
            let payload = assembly.take_control(payload, header.key);
            if header.opcode == Opcode::Close {
                let (code, _) = parse_close(payload)?;
                assert!(payload.is_empty() || code.is_sendable());
            }
            events.push(Event::Control(header.opcode, payload.to_vec()));
            return Ok(used + header.length as usize);
        }
        assembly.begin(&header, limits, || deflates.then(|| inflater_for(codecs, None)))?;
        if header.length == 0 {
            take(assembly, &[])?;
        }
    }
    if assembly.is_whole() && limits.max_in_parts.is_none() {
        let kind = assembly.kind().expect("what is whole has begun");
        let message = assembly.message(kind, &Place::Assembled, &[])?;
        events.push(Event::Message(kind, message.bytes().to_vec()));
        assembly.end();
    }
    Ok(used)
}

/// Delivers a part, if there is one; returns whether there was.
fn tell_parts(
    assembly: &mut Assembly,
    parts: &mut Vec<u8>,
    events: &mut Vec<Event>,
) -> Result<bool, Fault> {
    let Some(kind) = assembly.kind().filter(|_| assembly.has_part()) else { return Ok(false) };
    let Some(part) = assembly.part(kind)? else { return Ok(false) };
    assert!(parts.is_empty() || !part.is_first);
    parts.extend(part.content.bytes());
    let is_last = part.is_last;
    assembly.end_part();
    if is_last {
        events.push(Event::Message(kind, std::mem::take(parts)));
        assembly.end();
    }
    Ok(true)
}

/// Any request to a server, and any answer to a client: refused, or with what was offered.
pub fn handshake(bytes: &[u8]) {
    let [setting, rest @ ..] = bytes else { return };
    let deflate = Deflate {
        keep_context: setting & 1 != 0,
        keep_peer_context: setting & 2 != 0,
        window_bits: 9 + (setting >> 2) % 7,
        ..Deflate::default()
    };
    let options = Options::default().protocols(["chat", "b"]).deflate(Some(deflate));
    const NAMES: [&str; 6] = [
        "Connection",
        "Upgrade",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
    ];
    // Most of a good request, which the input adds to.
    let mut request: Vec<(&str, &[u8])> = vec![
        ("Connection", b"Upgrade"),
        ("Upgrade", b"websocket"),
        ("Sec-WebSocket-Version", b"13"),
        ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut answer: Vec<(&str, &[u8])> = vec![
        ("Connection", b"Upgrade"),
        ("Upgrade", b"websocket"),
        ("Sec-WebSocket-Accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ];
    for line in rest.split(|byte| *byte == b'\n') {
        if let [name, value @ ..] = line {
            let field = (NAMES[usize::from(*name) % NAMES.len()], value);
            request.push(field);
            answer.push(field);
        }
    }
    let agreed = check_request("GET", &request, &options).map(|answer| {
        assert_eq!(answer.accept.len(), 28);
        answer.agreed
    });
    let taken = check_answer(&answer, "dGhlIHNhbXBsZSBub25jZQ==", &options);
    for agreed in agreed.ok().into_iter().chain(taken.ok()) {
        assert!(agreed.protocol.is_none_or(|place| place < 2));
        if let Some(params) = agreed.deflate {
            assert!((9..=15).contains(&params.bits) && (8..=15).contains(&params.peer_bits));
            assert!(deflate.keep_context || !params.keeps);
            assert!(deflate.keep_peer_context || !params.peer_keeps);
        }
    }
}

/// Any bytes as a message that is compressed, and as one that is to be; with a window before them.
pub fn deflate(bytes: &[u8]) {
    let [setting, split, rest @ ..] = bytes else { return };
    let level = setting >> 3 & 7;
    CODECS.with_borrow_mut(|codecs| {
        deflate_with((*setting, *split), level, rest, &mut codecs[usize::from(level)]);
    });
}

fn deflate_with((setting, split): (u8, u8), level: u8, rest: &[u8], codecs: &mut Codecs) {
    let (before, plain) = rest.split_at(usize::from(split).min(rest.len()));
    let bits = 9 + setting % 7;
    let mut window = Window::default();
    window.push(before, bits);
    let how = How { bits, level, is_always: true };
    let body = codecs.deflate(plain, window.bytes(), how).expect("it is to be compressed").to_vec();
    let back = inflate(codecs, &window, &body, plain.len(), 1 + usize::from(split));
    assert_eq!(back.as_deref(), Some(plain), "level {}", how.level);
    // And what others may send.
    let limit = 1_000;
    if let Some(back) = inflate(codecs, &window, plain, limit, 1 + usize::from(split)) {
        assert!(back.len() <= limit);
    }
}

/// Inflates a message that comes in pieces; `None` if it is broken, or too large.
fn inflate(
    codecs: &mut Codecs,
    window: &Window,
    body: &[u8],
    limit: usize,
    piece: usize,
) -> Option<Vec<u8>> {
    let mut inflater = codecs.inflater(window.bytes());
    let (mut plain, mut filled) = (Vec::new(), 0);
    for piece in body.chunks(piece) {
        let inflated = inflater.inflate(piece, &mut plain, &mut filled, limit).ok()?;
        if inflated == Inflated::TooBig {
            return None;
        }
    }
    let end = inflater.finish(&mut plain, &mut filled, limit).ok()?;
    codecs.put_back(inflater);
    plain.truncate(filled);
    (end == Inflated::All).then_some(plain)
}
