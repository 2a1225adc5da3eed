//! What a forwarder has to know of a DNS message (RFC 1035), and nothing else.

use domain::base::Message;
use domain::base::iana::{Rcode, Rtype};

/// The only question of an answer, with its type and class. `None` if it is a query, or malformed.
pub(crate) fn question(message: &[u8]) -> Option<&[u8]> {
    let parsed = Message::from_slice(message).ok()?;
    let (begin, end) = (parsed.question().pos(), parsed.answer().ok()?.pos());
    let is_answer = parsed.header().qr() && parsed.header_counts().qdcount() == 1;
    is_answer.then(|| &message[begin..end])
}

/// All that the answer to a query depends on: the question, with which it begins, the flags, and
/// what the client can take: how many bytes over UDP, and whether it wants signatures. `None` if it
/// is no query, or malformed.
pub(crate) fn cache_key(query: &[u8], is_tcp: bool) -> Option<Vec<u8>> {
    let parsed = Message::from_slice(query).ok()?;
    let (begin, answers) = (parsed.question().pos(), parsed.answer().ok()?);
    if parsed.header().qr() || parsed.header_counts().qdcount() != 1 {
        return None;
    }
    let mut key = Vec::with_capacity(query.len());
    key.extend_from_slice(&query[begin..answers.pos()]);
    key.extend([query[2], query[3], u8::from(is_tcp)]);
    let additional = answers.next_section().ok()??.next_section().ok()??;
    for record in additional {
        let record = record.ok()?;
        if record.rtype() == Rtype::OPT {
            // What EDNS (RFC 6891) has in place of a class is the size, and of a time the flags.
            key.extend(record.class().to_int().to_be_bytes());
            key.extend(record.ttl().as_secs().to_be_bytes());
        }
    }
    Some(key)
}

/// A time to live: where it is in its message, and how many seconds it was.
pub(crate) type Ttl = (usize, u32);

/// The times to live of an answer; `None` if it is not to be kept.
pub(crate) fn ttls(answer: &[u8]) -> Option<Box<[Ttl]>> {
    let parsed = Message::from_slice(answer).ok()?;
    let (header, mut ttls) = (parsed.header(), Vec::new());
    if header.tc() || header.rcode() != Rcode::NOERROR || parsed.header_counts().ancount() == 0 {
        return None;
    }
    let mut section = Some(parsed.answer().ok()?);
    while let Some(mut records) = section {
        while let Some(record) = records.next() {
            let record = record.ok()?;
            match (record.rtype(), usize::from(record.rdlen())) {
                (Rtype::OPT, 0) => {}
                (Rtype::OPT, _) => return None, // its options, such as a cookie, are for one client
                // Behind it are two bytes of length, and what the record says.
                (_, length) => ttls.push((records.pos() - length - 6, record.ttl().as_secs())),
            }
        }
        section = records.next_section().ok()?;
    }
    Some(ttls.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes in front of the first record.
    const FRONT: usize = 19;

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
    fn the_times_to_live_of_an_answer_are_found() {
        let two = answer(&[(1, 300), (1, 60)]);
        assert_eq!(ttls(&two).unwrap()[..], [(FRONT + 6, 300), (FRONT + 22, 60)]);
        assert_eq!(two[FRONT + 22..FRONT + 26], 60_u32.to_be_bytes());
        assert_eq!(ttls(&answer(&[(1, 300), (41, 0)])), None, "an option for one client");
        assert_eq!(ttls(&answer(&[])), None);
        let mut cut = answer(&[(1, 300)]);
        cut[2] |= 2;
        assert_eq!(ttls(&cut), None);
    }

    #[test]
    fn times_to_live_are_found_in_all_sections() {
        let mut message = answer(&[(1, 300), (2, 60), (28, 7)]);
        (message[7], message[9], message[11]) = (1, 1, 2);
        message.extend([0, 0, 41, 16, 0, 0, 0, 0x80, 0, 0, 0]); // EDNS without an option
        let found = ttls(&message).unwrap();
        assert_eq!(found[..], [(FRONT + 6, 300), (FRONT + 22, 60), (FRONT + 38, 7)]);
    }

    #[test]
    fn a_message_that_ends_anywhere_is_no_reason_to_panic() {
        let whole = answer(&[(1, 300), (1, 60)]);
        for length in 0..whole.len() {
            let cut = &whole[..length];
            assert_eq!(ttls(cut), None, "{length}");
            assert_eq!(question(cut).is_some(), length >= FRONT, "{length}");
            assert_eq!(cache_key(cut, false), None, "{length}");
        }
    }

    #[test]
    fn what_a_client_can_take_is_part_of_the_key_and_what_is_its_own_is_not() {
        let query = |more: &[u8]| {
            let additional = u8::from(!more.is_empty());
            let head = [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, additional];
            [&head[..], &[1, b'a', 0, 0, 1, 0, 1], more].concat()
        };
        let key = |more: &[u8]| cache_key(&query(more), false);
        let small = key(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        assert!(small.is_some() && small != key(&[]));
        assert_ne!(small, key(&[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]), "a larger answer");
        assert_ne!(small, key(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]), "signatures");
        let cookie = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 6, 0, 10, 0, 2, 7, 7];
        assert_eq!(small, key(&cookie));
        assert_eq!(key(&[0, 0, 41, 4]), None, "malformed");
        assert_ne!(cache_key(&query(&[]), true), cache_key(&query(&[]), false));
        assert_eq!(cache_key(&answer(&[(1, 300)]), false), None, "an answer");
    }
}
