//! The request, in the bytes that are sent.

use crate::http::Expected;

/// What is asked for, and what must come back.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// What is asked, for people.
    pub(crate) url: String,
    /// The request as it is sent.
    pub(crate) bytes: Vec<u8>,
    /// Bytes of its body.
    pub(crate) body_bytes: usize,
    /// Each says that it is the last of its connection.
    pub(crate) closes: bool,
    pub(crate) status: u16,
    pub(crate) expected: Expected,
}

/// Fields that follow from other options.
const OWN: [(&str, &str); 3] = [
    ("content-length", "it is that of --body"),
    ("transfer-encoding", "a body is sent with its length"),
    ("connection", "--close server ends each connection"),
];

/// Writes a head and a body.
pub(crate) fn write(
    (method, target, host): (&str, &str, &str),
    fields: &[(String, String)],
    body: Option<&[u8]>,
    closes: bool,
) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\n");
    if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text += &format!("Host: {host}\r\n");
    }
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    if closes {
        text += "Connection: close\r\n";
    }
    if let Some(body) = body {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    text += "\r\n";
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

/// `Name: value` of a field.
pub(crate) fn field(text: &str) -> Result<(String, String), String> {
    let wrong = |why: &str| format!("--header {text:?}: {why}");
    let (name, value) = text.split_once(':').ok_or_else(|| wrong("give 'Name: value'"))?;
    if !is_token(name) {
        return Err(wrong("the name is not one"));
    }
    if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(wrong("the value has control characters"));
    }
    let own = OWN.iter().find(|(own, _)| name.eq_ignore_ascii_case(own));
    if let Some((_, why)) = own {
        return Err(wrong(why));
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

/// A word as methods and names of fields are.
pub(crate) fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}
