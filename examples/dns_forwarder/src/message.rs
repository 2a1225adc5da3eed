//! What a forwarder has to know of a DNS message (RFC 1035), and nothing else.

use domain::base::Message;
use domain::base::iana::{Opcode, Rcode, Rtype};

/// Codes that a query is refused with.
pub(crate) const SERVER_FAILURE: u8 = 2;
pub(crate) const NOT_IMPLEMENTED: u8 = 4;

/// All that an answer depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) is_tcp: bool,
    /// The query without its id, and without the options of a client, such as a cookie: they are
    /// not to be passed on (RFC 6891, 6.1.1). What the client can take is in it: how many bytes
    /// over UDP, and whether it wants signatures.
    query: Box<[u8]>,
}

impl Question {
    /// What a client asks, or the code that it is refused with. `None` if the message is no query,
    /// or malformed.
    pub(crate) fn of(query: &[u8], is_tcp: bool) -> Option<Result<Self, u8>> {
        let parsed = Message::from_slice(query).ok()?;
        let (header, counts, answers) =
            (parsed.header(), parsed.header_counts(), parsed.answer().ok()?);
        if header.qr() || counts.qdcount() != 1 {
            return None;
        }
        let [flags, other] = [query[2], query[3]];
        let head = [flags, other, 0, 1, 0, 0, 0, 0, 0, counts.arcount().min(1) as u8];
        let mut own = [&head, &query[12..answers.pos()]].concat();
        let additional = answers.next_section().ok()??.next_section().ok()??;
        // A zone comes in many messages, and no answer here has more than one (RFC 5936, 2.2).
        let is_transfer = matches!(query[answers.pos() - 4..], [0, 251 | 252, ..]); // IXFR, AXFR
        let mut is_plain = header.opcode() == Opcode::QUERY
            && !is_transfer
            && counts.ancount() + counts.nscount() == 0
            && counts.arcount() < 2;
        for record in additional {
            let record = record.ok()?;
            is_plain &= record.rtype() == Rtype::OPT;
            // What EDNS has in place of a class is the size, and of a time the flags.
            own.extend([0, 0, 41]);
            own.extend(record.class().to_int().to_be_bytes());
            own.extend(record.ttl().as_secs().to_be_bytes());
            own.extend([0, 0]);
        }
        Some(if is_plain { Ok(Self { is_tcp, query: own.into() }) } else { Err(NOT_IMPLEMENTED) })
    }

    /// The query to send upstream.
    pub(crate) fn query(&self, id: u16) -> Vec<u8> {
        [&id.to_be_bytes(), &self.query[..]].concat()
    }

    /// Whether a message is an answer to it. A forged one may have guessed the id.
    pub(crate) fn is_answered_by(&self, answer: &[u8]) -> bool {
        let Ok(parsed) = Message::from_slice(answer) else { return false };
        let is_answer = parsed.header().qr() && parsed.header_counts().qdcount() == 1;
        let Ok(answers) = parsed.answer() else { return false };
        is_answer && self.query[10..].starts_with(&answer[12..answers.pos()])
    }
}

/// An OPT record without options: messages of up to 1,232 bytes are taken over UDP.
const OPT: [u8; 11] = [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];

/// Whether a query has an OPT record, so that its answer has to have one (RFC 6891, 6.1.1).
fn has_opt(query: &[u8]) -> bool {
    let parsed = Message::from_slice(query).ok();
    let records = parsed.and_then(|parsed| parsed.additional().ok()).into_iter().flatten();
    records.filter(|it| it.as_ref().is_ok_and(|it| it.rtype() == Rtype::OPT)).count() == 1
}

/// Answers a query of one question with a code alone.
pub(crate) fn refusal(query: &[u8], code: u8) -> Vec<u8> {
    let end = Message::from_slice(query).ok().and_then(|it| it.answer().ok());
    let mut answer = query[..end.map_or(12, |answers| answers.pos())].to_vec();
    answer[2] = 0x80 | answer[2] & 0x79; // its kind, and whether it is for other servers to ask
    answer[3] = 0x80 | answer[3] & 0x10 | code;
    answer[6..12].fill(0);
    if has_opt(query) {
        answer[11] = 1;
        answer.extend(OPT);
    }
    answer
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

    /// A query for `a.` with what stands behind the question.
    fn query(more: &[u8]) -> Vec<u8> {
        let head = [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!more.is_empty())];
        [&head[..], &[1, b'a', 0, 0, 1, 0, 1], more].concat()
    }

    #[track_caller]
    fn question(query: &[u8]) -> Question {
        Question::of(query, false).unwrap().ok().unwrap()
    }

    #[test]
    fn a_message_that_ends_anywhere_is_no_reason_to_panic() {
        let (whole, asked) = (answer(&[(1, 300), (1, 60)]), question(&query(&[])));
        for length in 0..whole.len() {
            let cut = &whole[..length];
            assert_eq!(ttls(cut), None, "{length}");
            assert_eq!(asked.is_answered_by(cut), length >= FRONT, "{length}");
            assert!(Question::of(cut, false).is_none(), "{length}");
        }
        let mut other = whole.clone();
        other[13] = b'b';
        assert!(asked.is_answered_by(&whole) && !asked.is_answered_by(&other));
        let whole = query(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        for length in 0..whole.len() {
            assert!(Question::of(&whole[..length], false).is_none(), "{length}");
        }
    }

    #[test]
    fn what_a_client_can_take_is_part_of_the_question_and_what_is_its_own_is_not() {
        let small = question(&query(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]));
        assert!(small != question(&query(&[])));
        assert!(small != question(&query(&[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0])), "a larger answer");
        assert!(small != question(&query(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0])), "signatures");
        let cookie = query(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 6, 0, 10, 0, 2, 7, 7]);
        assert!(small == question(&cookie));
        let sent = small.query(0x0102);
        assert_eq!(sent, query(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]), "no option is passed on");
        assert!(Question::of(&query(&[0, 0, 41, 4]), false).is_none(), "malformed");
        assert!(Question::of(&query(&[]), true) != Question::of(&query(&[]), false));
        assert!(Question::of(&answer(&[(1, 300)]), false).is_none(), "an answer");
    }

    #[test]
    fn a_refusal_has_an_opt_record_if_the_query_has() {
        for more in [&OPT[..], &[0, 0, 41, 16, 0, 0, 0, 0x80, 0, 0, 6, 0, 10, 0, 2, 7, 7]] {
            let query = query(more);
            let refused = refusal(&query, SERVER_FAILURE);
            let head = [1, 2, query[2] | 0x80, 0x82, 0, 1, 0, 0, 0, 0, 0, 1];
            assert_eq!(refused, [&head, &query[12..FRONT], &OPT].concat());
        }
    }

    #[test]
    fn what_is_more_than_a_question_is_refused() {
        let two = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0].repeat(2);
        let mut pair = query(&two);
        pair[11] = 2;
        let mut update = query(&[]);
        update[2] |= 5 << 3;
        let signed = query(&[0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0]);
        let [mut zone, mut changes] = [query(&[]), query(&[])];
        (zone[FRONT - 3], changes[FRONT - 3]) = (252, 251); // AXFR and IXFR
        for query in [pair, update, signed, zone, changes] {
            assert!(matches!(Question::of(&query, false), Some(Err(NOT_IMPLEMENTED))), "{query:?}");
            let refused = refusal(&query, NOT_IMPLEMENTED);
            let head = [1, 2, query[2] | 0x80, 0x84, 0, 1, 0, 0, 0, 0, 0, 0];
            assert_eq!(refused, [&head, &query[12..FRONT]].concat());
        }
    }
}
