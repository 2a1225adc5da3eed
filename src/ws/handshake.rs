//! The handshake, pure: what a request and an answer must say (RFC 6455, section 4).

use data_encoding::BASE64;
use sha1_smol::Sha1;

use crate::ws::Options;
use crate::ws::deflate;
use crate::ws::wire::Agreed;

/// What the key is hashed with.
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The answer to a key.
pub(super) fn accept_of(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(MAGIC);
    BASE64.encode(&hash.digest().bytes())
}

/// A key of a client.
pub(super) fn key_of(random: [u8; 16]) -> String {
    BASE64.encode(&random)
}

/// Why a request is refused: the status, and the text of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// 400 for a request that is not in order, 426 for a version that is not 13. The answer to the
    /// latter has a field `Sec-WebSocket-Version: 13`.
    pub status: u16,
    /// What is wrong, for people.
    pub text: &'static str,
}

/// What a server answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) agreed: Agreed,
    pub(super) accept: String,
    pub(super) extensions: Option<String>,
}

/// Checks the request of a client. The fields are those of its head, in order.
pub(super) fn check_request<'a>(
    method: &str,
    fields: &[(&'a str, &'a [u8])],
    options: &Options,
) -> Result<Answer, Refused> {
    let bad = |text| Refused { status: 400, text };
    if method != "GET" {
        return Err(bad("a WebSocket is asked for with GET"));
    }
    if !lists(fields, "connection", b"upgrade") || !lists(fields, "upgrade", b"websocket") {
        return Err(bad("the request does not ask for a WebSocket"));
    }
    let versions = values(fields, "sec-websocket-version");
    if !versions.clone().eq([&b"13"[..]]) {
        return Err(Refused { status: 426, text: "the version of WebSocket here is 13" });
    }
    let mut keys = values(fields, "sec-websocket-key");
    let key = keys.next().filter(|key| is_key(key)).ok_or(bad("the key is not 16 bytes"))?;
    if keys.next().is_some() {
        return Err(bad("there are two keys"));
    }
    let protocol = options.protocols.iter().position(|name| {
        let offered = values(fields, "sec-websocket-protocol").flat_map(members);
        offered.into_iter().any(|offered| offered == name.as_bytes())
    });
    let offers = values(fields, "sec-websocket-extensions");
    let agreed = options.deflate.as_ref().and_then(|own| deflate::agree(offers, own));
    let (deflate, extensions) = agreed.unzip();
    let protocol = protocol.and_then(|place| u8::try_from(place).ok());
    Ok(Answer { agreed: Agreed { protocol, deflate }, accept: accept_of(key), extensions })
}

/// Checks the fields of a server's answer to a client that has sent `key`.
pub(super) fn check_answer<'a>(
    fields: &[(&'a str, &'a [u8])],
    key: &str,
    options: &Options,
) -> Result<Agreed, &'static str> {
    if !lists(fields, "connection", b"upgrade") {
        return Err("its answer does not say `Connection: upgrade`");
    }
    let upgrades = values(fields, "upgrade");
    if !upgrades.map(<[u8]>::to_ascii_lowercase).eq([b"websocket"]) {
        return Err("its answer does not say `Upgrade: websocket`");
    }
    let accept = accept_of(key.as_bytes());
    if !values(fields, "sec-websocket-accept").eq([accept.as_bytes()]) {
        return Err("its answer is not to the key that was sent");
    }
    let mut chosen = values(fields, "sec-websocket-protocol");
    let protocol = match (chosen.next(), chosen.next()) {
        (None, _) => None,
        (Some(name), None) => {
            let place = options.protocols.iter().position(|offered| offered.as_bytes() == name);
            let place = place.and_then(|place| u8::try_from(place).ok());
            Some(place.ok_or("it has chosen a subprotocol that was not offered")?)
        }
        (Some(_), Some(_)) => return Err("it has chosen two subprotocols"),
    };
    let extensions = values(fields, "sec-websocket-extensions");
    let deflate = deflate::check_answer(extensions, options.deflate.as_ref())
        .map_err(|()| "it has agreed to an extension that was not offered so")?;
    Ok(Agreed { protocol, deflate })
}

/// The values of all fields of a name.
pub(super) fn values<'a>(
    fields: &[(&'a str, &'a [u8])],
    name: &str,
) -> impl Iterator<Item = &'a [u8]> + Clone {
    let of_name = fields.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name));
    of_name.map(|(_, value)| value.trim_ascii())
}

/// Whether a list has a member, whatever its case.
fn lists(fields: &[(&str, &[u8])], name: &str, member: &[u8]) -> bool {
    values(fields, name).flat_map(members).any(|found| found.eq_ignore_ascii_case(member))
}

fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// 16 bytes in base64, in the one way that there is to write them.
fn is_key(text: &[u8]) -> bool {
    let mut bytes = [0; 18];
    text.len() == 24 && BASE64.decode_mut(text, &mut bytes).is_ok_and(|length| length == 16)
}

/// Whether a head has a line that does not end with CRLF, or a NUL: another reader could see other
/// lines in it.
pub(super) fn has_loose_line(head: &[u8]) -> bool {
    let is_loose = |at: usize| match head[at] {
        b'\n' => at == 0 || head[at - 1] != b'\r',
        b'\r' => head.get(at + 1) != Some(&b'\n'),
        0 => true,
        _ => false,
    };
    (0..head.len()).any(is_loose)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::Deflate;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    const GOOD: [(&str, &str); 5] = [
        ("Host", "a.example"),
        ("Upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
    ];

    fn fields<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a [u8])> {
        pairs.iter().map(|(name, value)| (*name, value.as_bytes())).collect()
    }

    fn checked(pairs: &[(&str, &str)], options: &Options) -> Result<Answer, u16> {
        check_request("GET", &fields(pairs), options).map_err(|refused| refused.status)
    }

    #[test]
    fn the_example_of_the_specification() {
        assert_eq!(accept_of(KEY.as_bytes()), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let answer = checked(&GOOD, &Options::default()).unwrap();
        assert_eq!(answer.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!((answer.agreed, answer.extensions), (Agreed::default(), None));
    }

    #[test]
    fn a_request_that_lacks_or_doubles_something_is_refused() {
        let options = Options::default();
        for place in 1..GOOD.len() {
            let mut pairs = GOOD.to_vec();
            let (name, _) = pairs.remove(place);
            let status = if name == "Sec-WebSocket-Version" { 426 } else { 400 };
            assert_eq!(checked(&pairs, &options), Err(status), "without {name}");
        }
        for (name, value, status) in [
            ("Sec-WebSocket-Key", KEY, 400),
            ("Sec-WebSocket-Version", "13", 426),
            ("Sec-WebSocket-Version", "8", 426),
        ] {
            let pairs = [&GOOD[..], &[(name, value)]].concat();
            assert_eq!(checked(&pairs, &options), Err(status), "with another {name}");
        }
        let refused = check_request("POST", &fields(&GOOD), &options).unwrap_err();
        assert_eq!(refused.status, 400);
    }

    #[test]
    fn a_key_is_16_bytes_in_base64() {
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZR==",
            "SGVsbG8=",
            "dGhlIHNhbXBsZSBub25jZSEh",
            "dGhlIHNhbXBsZSBub25j\u{e9}Q==",
        ] {
            let mut pairs = GOOD;
            pairs[3].1 = key;
            assert_eq!(checked(&pairs, &Options::default()), Err(400), "{key}");
        }
    }

    #[test]
    fn the_servers_first_subprotocol_that_is_offered_is_taken() {
        let options = Options::default().protocols(["b", "a"]);
        for (offered, expected) in [("a, b", Some(0)), ("x,a", Some(1)), ("B", None), ("", None)] {
            let pairs = [&GOOD[..], &[("Sec-WebSocket-Protocol", offered)]].concat();
            let answer = checked(&pairs, &options).unwrap();
            assert_eq!(answer.agreed.protocol, expected, "{offered}");
        }
    }

    #[test]
    fn an_answer_that_is_not_in_order_is_refused() {
        let accept = accept_of(KEY.as_bytes());
        let good = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", &*accept),
        ];
        let options = Options::default().protocols(["a"]).deflate(Some(Deflate::default()));
        let check = |pairs: &[(&str, &str)]| check_answer(&fields(pairs), KEY, &options);
        assert_eq!(check(&good), Ok(Agreed::default()));
        for place in 0..good.len() {
            let mut pairs = good.to_vec();
            pairs.remove(place);
            assert!(check(&pairs).is_err());
        }
        let with = |name, value| [&good[..], &[(name, value)]].concat();
        assert_eq!(check(&with("sec-websocket-protocol", "a")).unwrap().protocol, Some(0));
        assert!(check(&with("sec-websocket-protocol", "b")).is_err());
        assert!(check(&with("sec-websocket-accept", &accept)).is_err());
        assert!(check(&with("sec-websocket-extensions", "foo")).is_err());
        let none = "permessage-deflate; server_no_context_takeover";
        assert!(check(&with("sec-websocket-extensions", none)).unwrap().deflate.is_some());
    }
}
