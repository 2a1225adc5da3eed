//! The handshake: what is asked, and whether the server agrees.

/// What is asked of the server.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    /// Where to, for people.
    pub(crate) url: String,
    /// The request as it is sent.
    pub(crate) bytes: Vec<u8>,
}

/// The key of the example in RFC 6455, and what a server makes of it. Keys keep caches from
/// answering, and there are none before a server that is tested: one will do for all.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The longest answer.
const MOST_BYTES: usize = 16 << 10;

/// The fields of an answer at the most.
const MOST_FIELDS: usize = 64;

impl Hello {
    pub(crate) fn new(
        is_wss: bool,
        (host, target): (&str, &str),
        fields: &[(String, String)],
    ) -> Result<Self, String> {
        let mut text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n");
        text += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
        text += &format!("Sec-WebSocket-Key: {KEY}\r\n");
        for (name, value) in fields {
            let is_own = ["host", "upgrade", "sec-websocket-version", "sec-websocket-key"]
                .iter()
                .any(|own| name.eq_ignore_ascii_case(own));
            if is_own || name.eq_ignore_ascii_case("sec-websocket-extensions") {
                return Err(format!("--header {name}: the handshake has it, or does without it"));
            }
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        let scheme = if is_wss { "wss" } else { "ws" };
        Ok(Self { url: format!("{scheme}://{host}{target}"), bytes: text.into_bytes() })
    }
}

/// Reads the answer. Returns its bytes, or `None` if it is not complete.
pub(crate) fn check(input: &[u8]) -> Result<Option<usize>, String> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let size = match answer.parse(input) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) if input.len() < MOST_BYTES => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("its head has no end".to_owned()),
        Err(error) => return Err(format!("it is no answer of HTTP: {error}")),
    };
    let status = answer.code.unwrap_or_default();
    if status != 101 {
        return Err(format!("status {status}, not 101"));
    }
    let values = |wanted: &'static str| {
        let fields = answer.headers.iter();
        let fields = fields.filter(move |field| field.name.eq_ignore_ascii_case(wanted));
        fields.map(|field| str::from_utf8(field.value).unwrap_or_default().trim())
    };
    let has_token = |name: &'static str, token: &str| {
        values(name)
            .flat_map(|value| value.split(','))
            .any(|one| one.trim().eq_ignore_ascii_case(token))
    };
    if !has_token("upgrade", "websocket") || !has_token("connection", "upgrade") {
        return Err("it does not say Upgrade: websocket and Connection: Upgrade".to_owned());
    }
    if !values("sec-websocket-accept").eq([ACCEPT]) {
        return Err("its Sec-WebSocket-Accept is not that of the key".to_owned());
    }
    if values("sec-websocket-extensions").next().is_some() {
        return Err("it takes an extension, and none was offered".to_owned());
    }
    Ok(Some(size))
}
