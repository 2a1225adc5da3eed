//! What a client says of itself and of its connection, as a library does before it is used.

use super::command::{integer, lower_case, quoted, wrong_number};
use super::reply::{self, Protocol};
use super::request::{Progress, Request};

/// Most bytes of the name of a connection.
const MAX_NAME_BYTES: usize = 256;

/// What there is to know of a connection.
pub(crate) struct Session {
    /// Its number, for `CLIENT ID`.
    id: u64,
    /// What it is called, by `CLIENT SETNAME`.
    name: Option<Box<[u8]>>,
    pub(crate) protocol: Protocol,
    /// Of the request that has not arrived whole.
    pub(crate) progress: Progress,
}

impl Session {
    pub(crate) fn new(id: u64) -> Self {
        Self { id, name: None, protocol: Protocol::default(), progress: Progress::default() }
    }

    /// `HELLO [2|3 [AUTH USER PASSWORD] [SETNAME NAME]]`. Nothing is changed by one with an error.
    pub(crate) fn hello(&mut self, request: &Request<'_>, out: &mut Vec<u8>) {
        let result = match request.len() {
            1 => Ok((self.protocol, None)),
            _ => parse_hello(request),
        };
        match result {
            Ok((protocol, name)) => {
                self.protocol = protocol;
                if let Some(name) = name {
                    self.set_name(name);
                }
                self.introduce(out);
            }
            Err(text) => reply::error(out, &text),
        }
    }

    /// Who answers, and how.
    fn introduce(&self, out: &mut Vec<u8>) {
        let texts = [("server", "waterwheel-kv"), ("version", env!("CARGO_PKG_VERSION"))];
        let number = if self.protocol == Protocol::Resp3 { 3 } else { 2 };
        reply::map(out, self.protocol, 7);
        for (key, value) in texts {
            reply::bulk(out, key.as_bytes());
            reply::bulk(out, value.as_bytes());
        }
        for (key, value) in [("proto", number), ("id", self.id as i64)] {
            reply::bulk(out, key.as_bytes());
            reply::integer(out, value);
        }
        for (key, value) in [("mode", "standalone"), ("role", "master")] {
            reply::bulk(out, key.as_bytes());
            reply::bulk(out, value.as_bytes());
        }
        reply::bulk(out, b"modules");
        reply::array(out, 0);
    }

    pub(crate) fn client(&mut self, request: &Request<'_>, out: &mut Vec<u8>) {
        let subcommand = lower_case(request.get(1));
        let value = request.get(request.len() - 1);
        match (subcommand.as_str(), request.len()) {
            ("id", 2) => reply::integer(out, self.id as i64),
            ("getname", 2) => match &self.name {
                Some(name) => reply::bulk(out, name),
                None => reply::null(out, self.protocol),
            },
            ("setname", 3) => match check_name("Client names", value) {
                Ok(()) => {
                    self.set_name(value);
                    reply::simple(out, "OK");
                }
                Err(text) => reply::error(out, &text),
            },
            // Nothing here asks for it, so that it is only checked.
            ("setinfo", 4) => match check_info(request.get(2), value) {
                Ok(()) => reply::simple(out, "OK"),
                Err(text) => reply::error(out, &text),
            },
            ("id" | "getname" | "setname" | "setinfo", _) => {
                wrong_number(&format!("client|{subcommand}"), out);
            }
            _ => {
                let text = format!("ERR unknown subcommand '{}'", quoted(request.get(1)));
                reply::error(out, &text);
            }
        }
    }

    /// Everything is as when the connection was new.
    pub(crate) fn reset(&mut self, out: &mut Vec<u8>) {
        *self = Self::new(self.id);
        reply::simple(out, "RESET");
    }

    /// An empty name is none.
    fn set_name(&mut self, name: &[u8]) {
        self.name = (!name.is_empty()).then(|| name.into());
    }
}

/// The version that is asked for, and the name that is given.
fn parse_hello<'r>(request: &Request<'r>) -> Result<(Protocol, Option<&'r [u8]>), String> {
    let protocol = match integer(request.get(1)) {
        Some(2) => Protocol::Resp2,
        Some(3) => Protocol::Resp3,
        Some(_) => return Err("NOPROTO unsupported protocol version".to_owned()),
        None => return Err("ERR Protocol version is not an integer or out of range".to_owned()),
    };
    let mut options = request.from(2);
    let mut name = None;
    while let Some(option) = options.next() {
        let syntax = || format!("ERR Syntax error in HELLO option '{}'", quoted(option));
        match lower_case(option).as_str() {
            "auth" => {
                let (user, _) = options.next().zip(options.next()).ok_or_else(syntax)?;
                // There are no passwords: as with Redis then, the default user may have any.
                if user != b"default" {
                    let text = "WRONGPASS invalid username-password pair or user is disabled.";
                    return Err(text.to_owned());
                }
            }
            "setname" => {
                let given = options.next().ok_or_else(syntax)?;
                check_name("Client names", given)?;
                name = Some(given);
            }
            _ => return Err(syntax()),
        }
    }
    Ok((protocol, name))
}

fn check_info(attribute: &[u8], value: &[u8]) -> Result<(), String> {
    match lower_case(attribute).as_str() {
        attribute @ ("lib-name" | "lib-ver") => check_name(attribute, value),
        _ => Err(format!("ERR Unrecognized option '{}'", quoted(attribute))),
    }
}

fn check_name(what: &str, name: &[u8]) -> Result<(), String> {
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("ERR {what} cannot be longer than {MAX_NAME_BYTES} bytes"));
    }
    match name.iter().all(u8::is_ascii_graphic) {
        true => Ok(()),
        false => Err(format!("ERR {what} cannot contain spaces, newlines or special characters.")),
    }
}
