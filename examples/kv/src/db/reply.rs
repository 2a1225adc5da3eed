//! Replies in RESP2, appended to a buffer.

/// `+text`
pub(crate) fn simple(out: &mut Vec<u8>, text: &str) {
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
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
    out.push(b':');
    if number < 0 {
        out.push(b'-');
    }
    digits(out, number.unsigned_abs());
    out.extend_from_slice(b"\r\n");
}

/// A string of bytes.
pub(crate) fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'$');
    digits(out, bytes.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Nothing, where a string could be.
pub(crate) fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"$-1\r\n");
}

/// The head of an array; its items follow.
pub(crate) fn array(out: &mut Vec<u8>, items: usize) {
    out.push(b'*');
    digits(out, items as u64);
    out.extend_from_slice(b"\r\n");
}

/// A number as text. `write!` takes three times as long, and each reply has a number in it.
fn digits(out: &mut Vec<u8>, mut number: u64) {
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}
