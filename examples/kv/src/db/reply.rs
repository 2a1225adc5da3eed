//! Replies, appended to a buffer. RESP3 writes some of them in another way than RESP2.

/// The version of the protocol in which a client is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// What every client understands.
    #[default]
    Resp2,
    /// What a client asks for by `HELLO 3`.
    Resp3,
}

/// `+text`
pub(crate) fn simple(out: &mut Vec<u8>, text: &str) {
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `+OK`
pub(crate) fn ok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"+OK\r\n");
}

/// `-text`, on one line whatever the text is.
pub(crate) fn error(out: &mut Vec<u8>, text: &str) {
    out.push(b'-');
    let bytes = text.bytes();
    out.extend(bytes.map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

/// `:number`
pub(crate) fn integer(out: &mut Vec<u8>, number: i64) {
    let size = number.unsigned_abs();
    if number < 0 {
        out.push(b':');
        head(out, b'-', size);
    } else {
        head(out, b':', size);
    }
}

/// A string of bytes.
#[inline]
pub(crate) fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        // Nearly all are short, and one digit needs no loop.
        short @ 0..10 => out.extend_from_slice(&[b'$', b'0' + short as u8, b'\r', b'\n']),
        length => head(out, b'$', length as u64),
    }
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Nothing, where a string could be.
pub(crate) fn null(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"$-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// Text for people.
pub(crate) fn text(out: &mut Vec<u8>, protocol: Protocol, text: &str) {
    match protocol {
        Protocol::Resp2 => bulk(out, text.as_bytes()),
        Protocol::Resp3 => {
            let (kind, text) = (b"txt:", text.as_bytes());
            head(out, b'=', (kind.len() + text.len()) as u64);
            for part in [kind, text, b"\r\n"] as [&[u8]; 3] {
                out.extend_from_slice(part);
            }
        }
    }
}

/// The head of a map; its keys and values follow, in pairs. RESP2 has an array of them.
pub(crate) fn map(out: &mut Vec<u8>, protocol: Protocol, pairs: usize) {
    if protocol == Protocol::Resp2 {
        return array(out, 2 * pairs);
    }
    head(out, b'%', pairs as u64);
}

/// The head of an array; its items follow.
pub(crate) fn array(out: &mut Vec<u8>, items: usize) {
    head(out, b'*', items as u64);
}

/// A line of one byte and a number. `write!` takes three times as long, and nearly each reply has
/// such a line.
fn head(out: &mut Vec<u8>, kind: u8, mut number: u64) {
    let mut text = *b"$18446744073709551615\r\n";
    let mut at = text.len() - 2;
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    at -= 1;
    text[at] = kind;
    out.extend_from_slice(&text[at..]);
}
