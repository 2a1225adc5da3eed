//! What of a request goes on, and to which server.

use std::net::IpAddr;

use waterwheel::Written;
use waterwheel::http::{
    Body, Call, Flow, Method, ReplyId, Request, Response, Server, Upload, Version,
};
use waterwheel::{Context, HandlerKey};

use crate::Proxy;
use crate::relay::Relay;

/// Fields of one connection, which is not the one on the other side (RFC 9110, 7.6.1); those that
/// each side sets itself; and what only this proxy knows. By their lengths, which few others have.
fn not_passed(length: usize) -> &'static [&'static str] {
    match length {
        2 => &["te"],
        4 => &["date", "host"],
        6 => &["expect"],
        7 => &["trailer", "upgrade"],
        9 => &["forwarded", "x-real-ip"],
        10 => &["connection", "keep-alive"],
        14 => &["content-length", "http2-settings"],
        16 => &["proxy-connection"],
        17 => &["transfer-encoding"],
        _ => &[],
    }
}

/// What proxies say of clients begins so. The port, the prefix, the scheme and whatever else a
/// server behind believes of it are as good a lie as the address.
const OF_PROXIES: &str = "x-forwarded-";

/// What the fields `Connection` list, of a request or an answer.
pub(crate) struct Listed<'a>(Vec<&'a [u8]>);

impl<'a> Listed<'a> {
    pub(crate) fn of(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut others = Vec::new();
        for (_, list) in headers.filter(|(name, _)| name.eq_ignore_ascii_case("connection")) {
            let members = list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            // What nearly all say, and what passes in no case, takes no room.
            others.extend(members.filter(|&member| member != b"keep-alive"));
        }
        Self(others)
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|one| one.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Whether a field passes: it is of the message, and no `Connection` lists it.
    pub(crate) fn passes(&self, name: &str) -> bool {
        let is_of_proxies = name.len() > OF_PROXIES.len() && begins(name, OF_PROXIES);
        let mut own = not_passed(name.len()).iter();
        !self.has(name) && !is_of_proxies && !own.any(|own| begins(name, own))
    }
}

/// Whether a name that is no shorter begins with one of ours. An underscore is as good as a dash,
/// because it is the same to servers that read fields as variables.
fn begins(name: &str, own: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    own.bytes().zip(name.bytes()).all(|(own, byte)| own == fold(byte))
}

/// The path and the query of a target, which may be a whole URI. Without either, OPTIONS is about
/// the whole server (RFC 9112, 3.2.4).
fn path_of(method: Method, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned(); // an address within it is not its own
    }
    let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
    match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('?') => format!("/{}", &rest[at..]),
        Some(at) => rest[at..].to_owned(),
        None if method == Method::Options => "*".to_owned(),
        None => "/".to_owned(),
    }
}

/// Adds the address of a client. A short one is made without a formatter, which would cost as much
/// as all other fields together.
fn with_address(call: Call, address: IpAddr) -> Call {
    const NAME: &str = "X-Forwarded-For";
    // Where both versions are listened on, one of 4 comes within one of 6.
    let address = address.to_canonical();
    let IpAddr::V4(short) = address else { return call.header(NAME, address.to_string()) };
    let (mut text, mut length) = ([b'.'; 16], 0);
    for octet in short.octets() {
        for unit in [100, 10, 1] {
            if octet >= unit || unit == 1 {
                text[length] = b'0' + octet / unit % 10;
                length += 1;
            }
        }
        length += 1; // a dot
    }
    call.header(NAME, &text[..length - 1])
}

const MAX_FORWARDS: &str = "Max-Forwards";

/// How many proxies pass an OPTIONS on, if it says so (RFC 9110, 7.6.2). TRACE has no route here,
/// and for other methods the field means nothing.
fn max_forwards(req: &Request<'_>) -> Option<u64> {
    let number = req.header(MAX_FORWARDS).filter(|_| req.method() == Method::Options)?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse().unwrap_or(u64::MAX)) // or more than that
}

/// How a request came here (RFC 9110, 7.6.3).
const fn via(version: Version) -> &'static str {
    match version {
        Version::Http10 => "1.0 waterwheel",
        _ => "1.1 waterwheel",
    }
}

/// Asks a server behind what a client asks.
pub(crate) fn forward(proxy: &mut Proxy, req: &Request<'_>, res: &mut Response<'_, Proxy>) {
    let hops = max_forwards(req);
    if hops == Some(0) {
        res.status(204).header("Allow", "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH").empty();
        return;
    }
    let Some(at) = proxy.choose() else {
        return res.status(502).text("no server behind is up\n");
    };
    let listed = Listed::of(req.headers());
    let call = Call::new(req.method(), path_of(req.method(), req.target())).fields(req.fields(
        |name, _| {
            listed.passes(name) && (hops.is_none() || !name.eq_ignore_ascii_case(MAX_FORWARDS))
        },
    ));
    let call = match hops {
        Some(hops) => call.header(MAX_FORWARDS, (hops - 1).to_string()),
        None => call,
    };
    let mut call = with_address(call, res.peer_addr().ip())
        .header("X-Forwarded-Host", req.host().unwrap_or_default())
        .header("Via", via(req.version()));
    let (id, web) = (res.later(), res.server());
    let protocol = if listed.has("upgrade") { req.header("upgrade") } else { None };
    let protocol = protocol.filter(|name| req.wants_upgrade(name));
    // What is asked in a tunnel of HTTP/2 would pass all that is checked and changed here.
    let protocol = protocol.filter(|name| !name.eq_ignore_ascii_case("h2c"));
    let mut relay = Relay::new(id, web, at, req.method() == Method::Head);
    if req.has_body() {
        if req.header("expect").is_some() {
            call = call.expect_continue();
        }
        call = call.stream_body(req.content_length(), source(id, web));
    } else if let Some(protocol) = protocol {
        call = call.upgrade(protocol, relay.tunnel_source(protocol));
    }
    proxy.servers[at].client.stream(&mut res.context(), call, relay);
}

/// Where the body of a request comes from: it is asked for when the server behind wants it, and
/// goes on when there is room.
fn source(
    id: ReplyId,
    web: HandlerKey<Server<Proxy>>,
) -> impl FnMut(&Upload, &mut Context<'_>) + 'static {
    let mut is_begun = false;
    move |upload, cx| {
        let is_first = !std::mem::replace(&mut is_begun, true);
        let upload = upload.clone();
        cx.post(web, move |web, cx| {
            let goes_on = web.answer(cx, id, |_, res| {
                if is_first && res.is_unanswered() {
                    let pump = Pump { upload: upload.clone(), web: res.server() };
                    res.allow_encoded_body().receive(pump);
                    return res.is_unanswered(); // or the body is too large
                }
                res.resume();
                true
            });
            if goes_on != Some(true) {
                upload.abort(cx); // or the client has gone
            }
        });
    }
}

/// Passes the body of a request on.
struct Pump {
    upload: Upload,
    web: HandlerKey<Server<Proxy>>,
}

impl Body<Proxy> for Pump {
    fn on_chunk(&mut self, _: &mut Proxy, chunk: &[u8], res: &mut Response<'_, Proxy>) -> Flow {
        match self.upload.write(&mut res.context(), chunk) {
            Written::Below | Written::Closed => Flow::More, // its answer is there, or an error
            Written::Above => Flow::Pause,
            Written::Full => {
                self.upload.abort(&mut res.context());
                Flow::More
            }
        }
    }

    fn on_end(&mut self, _: &mut Proxy, res: &mut Response<'_, Proxy>) {
        self.upload.end(&mut res.context());
    }

    fn on_gone(&mut self, proxy: &mut Proxy) {
        // The server behind must not wait for the rest.
        let Some(conn) = self.upload.conn() else { return };
        let task = move |_: &mut Server<Proxy>, cx: &mut Context<'_>| {
            if let Some(mut conn) = cx.conn(conn) {
                conn.abort();
            }
        };
        let _ = proxy.remote.with(self.web, task); // of a loop that has stopped nothing is left
    }
}
