//! What a forwarder has to know of a DNS message (RFC 1035), and nothing else.

/// A message begins with an id, flags, and how many records of each kind there are.
pub(crate) const HEADER: usize = 12;

/// The type of the record that is none: it says what the sender can take (EDNS, RFC 6891).
const OPT: u16 = 41;

/// The number of two bytes at a place.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Where the name at a place ends.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2), // the rest is elsewhere
            length => at += 1 + usize::from(length),
        }
    }
}

/// The only question of a message, with its type and class.
pub(crate) fn question(message: &[u8]) -> Option<&[u8]> {
    let end = skip_name(message, HEADER)? + 4;
    (u16_at(message, 4)? == 1).then(|| message.get(HEADER..end))?
}

/// All that an answer depends on: the question, the flags, and what the client can take: how many
/// bytes over UDP, and whether it wants signatures.
pub(crate) fn cache_key(query: &[u8], question: &[u8], is_tcp: bool) -> Box<[u8]> {
    let mut key = [question, &query[2..4], &[u8::from(is_tcp)]].concat();
    // The name of such a record is empty; its class is the size, its time to live the flags.
    if let Some([0, 0, 41, edns @ ..]) = query.get(HEADER + question.len()..) {
        key.extend_from_slice(edns.get(..6).unwrap_or(edns));
    }
    key.into()
}

/// Whether more was to be said than went into the message.
fn is_cut(message: &[u8]) -> bool {
    message[2] & 2 != 0
}

/// A record behind the question.
struct Record {
    kind: u16,
    /// Where its time to live is.
    ttl_at: usize,
    /// Bytes of what it says.
    length: u16,
}

/// All records of an answer; `None` if it is malformed.
fn records(answer: &[u8]) -> Option<Vec<Record>> {
    let counts = [u16_at(answer, 6)?, u16_at(answer, 8)?, u16_at(answer, 10)?];
    let (mut at, mut records) = (HEADER + question(answer)?.len(), Vec::new());
    for _ in 0..counts.into_iter().map(u32::from).sum() {
        at = skip_name(answer, at)?;
        let (kind, length) = (u16_at(answer, at)?, u16_at(answer, at + 8)?);
        records.push(Record { kind, ttl_at: at + 4, length });
        at += 10 + usize::from(length);
    }
    (at <= answer.len()).then_some(records)
}

/// How long all of an answer is valid, in seconds; `None` if it is not to be kept.
pub(crate) fn ttl(answer: &[u8]) -> Option<u32> {
    let is_kept = !is_cut(answer) && answer[3] & 15 == 0 && u16_at(answer, 6)? > 0;
    let records = records(answer).filter(|_| is_kept)?;
    // Options of EDNS, such as a cookie, are for one client.
    if records.iter().any(|record| record.kind == OPT && record.length > 0) {
        return None;
    }
    let valid = records.iter().filter(|record| record.kind != OPT);
    valid.map(|record| ttl_at(answer, record.ttl_at)).min()
}

/// Takes the time for which an answer was kept off its times to live.
pub(crate) fn age(answer: &mut [u8], seconds: u32) {
    for record in records(answer).unwrap_or_default() {
        if record.kind != OPT {
            let left = ttl_at(answer, record.ttl_at).saturating_sub(seconds);
            answer[record.ttl_at..record.ttl_at + 4].copy_from_slice(&left.to_be_bytes());
        }
    }
}

fn ttl_at(message: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer for `a.` with records of these types and times to live.
    fn answer(records: &[(u8, u32)]) -> Vec<u8> {
        let mut message = vec![1, 2, 0x81, 0x80, 0, 1, 0, records.len() as u8, 0, 0, 0, 0];
        message.extend([1, b'a', 0, 0, 1, 0, 1]);
        for (kind, ttl) in records {
            message.extend([0xc0, 12, 0, *kind, 0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend([0, 4, 10, 0, 0, 1]);
        }
        message
    }

    #[test]
    fn an_answer_is_valid_as_long_as_each_of_its_records() {
        assert_eq!(ttl(&answer(&[(1, 300), (1, 60)])), Some(60));
        assert_eq!(ttl(&answer(&[(1, 300), (41, 0)])), None, "an option for one client");
        assert_eq!(ttl(&answer(&[])), None);
        let mut cut = answer(&[(1, 300)]);
        cut[2] |= 2;
        assert_eq!(ttl(&cut), None);
    }

    #[test]
    fn what_was_kept_for_a_while_is_valid_for_less() {
        let mut kept = answer(&[(1, 300), (41, 7), (1, 10)]);
        age(&mut kept, 20);
        assert_eq!(kept, answer(&[(1, 280), (41, 7), (1, 0)]));
    }

    #[test]
    fn a_message_that_ends_anywhere_is_no_reason_to_panic() {
        let whole = answer(&[(1, 300), (1, 60)]);
        for length in HEADER..whole.len() {
            let mut cut = whole[..length].to_vec();
            assert_eq!(ttl(&cut), None, "{length}");
            age(&mut cut, 1);
        }
    }
}
