//! `http://HOST[:PORT][/PATH][?QUERY]`, and the same with https, ws and wss.

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// It is https or wss.
    pub(crate) is_tls: bool,
    /// It is ws or wss.
    pub(crate) is_ws: bool,
    /// The host with its port, for a connection.
    pub(crate) authority: String,
    /// The host as the field Host has it.
    pub(crate) host: String,
    /// The path and the query.
    pub(crate) target: String,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?}: {why}; give http://HOST[:PORT]/PATH, or ws://…");
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let (is_tls, is_ws, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (false, false, 80),
            "https" => (true, false, 443),
            "ws" => (false, true, 80),
            "wss" => (true, true, 443),
            _ => return Err(wrong("the scheme is neither http nor https, ws or wss")),
        };
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("blanks and characters beyond ASCII are written as %XX"));
        }
        let rest = rest.split('#').next().unwrap_or_default(); // a fragment stays with the client
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, target) = rest.split_at(end);
        if host.is_empty() || host.contains('@') {
            return Err(wrong("there is no host, or a name of a user"));
        }
        let target = match target {
            "" => "/".to_owned(),
            query if query.starts_with('?') => format!("/{query}"),
            path => path.to_owned(),
        };
        let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
        let authority = match behind.contains(':') {
            true => host.to_owned(),
            false => format!("{host}:{port}"),
        };
        Ok(Self { is_tls, is_ws, authority, host: host.to_owned(), target })
    }
}
