//! What of a request goes on, and to which server.

use waterwheel::Written;
use waterwheel::http::{Body, Call, Flow, Method, ReplyId, Request, Response, Server, Upload};
use waterwheel::{Context, HandlerKey};

use crate::Proxy;
use crate::relay::Relay;

/// Fields of one connection, which is not the one on the other side (RFC 9110, 7.6.1); those that
/// each side sets itself; and what only this proxy knows.
const NOT_PASSED: [&str; 17] = [
    "connection",
    "content-length",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Whether a field passes: it is of the message, and `Connection` does not list it. An underscore
/// is as good as a dash, because it is the same to servers that read fields as variables.
pub(crate) fn passes(name: &str, is_listed: impl Fn(&str) -> bool) -> bool {
    let plain = name.replace('_', "-");
    !NOT_PASSED.iter().any(|own| own.eq_ignore_ascii_case(&plain)) && !is_listed(name)
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

/// Asks a server behind what a client asks.
pub(crate) fn forward(proxy: &mut Proxy, req: &Request<'_>, res: &mut Response<'_, Proxy>) {
    let Some(at) = proxy.choose() else {
        return res.status(502).text("no server behind is up\n");
    };
    let mut call = Call::new(req.method(), path_of(req.method(), req.target()));
    for (name, value) in req.headers() {
        if passes(name, |name| req.lists("connection", name)) {
            call = call.header(name, value);
        }
    }
    call = call
        .header("X-Forwarded-For", res.peer_addr().ip().to_string())
        .header("X-Forwarded-Host", req.host().unwrap_or_default())
        .header("Via", "1.1 waterwheel");
    let (id, web) = (res.later(), res.server());
    let protocol = req.header("upgrade").filter(|name| req.wants_upgrade(name));
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
