//! What the server answers.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use support::say;
use waterwheel::http::{Body, Files, Flow, Response, Route, Router, Server};
use waterwheel::{HandlerKey, Reactor};

use crate::accounts::Accounts;
use crate::uploads;

/// Which routes there are besides those that are always there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Every other path and method is answered with the body of the request.
    pub(crate) echo: bool,
    /// The directory whose files are below `/s/`.
    pub(crate) files: Option<PathBuf>,
    /// The directory that uploads are written to.
    pub(crate) uploads: Option<PathBuf>,
    /// Users and their notes.
    pub(crate) accounts: Option<Accounts>,
    /// Each request is printed.
    pub(crate) log: bool,
}

/// The body of an upload may be so large.
const MAX_UPLOAD: u64 = 1 << 30;

/// The body of an echo may be so large: it is sent back when it is complete.
const MAX_ECHO: u64 = 16 << 20;

/// How often expired sessions are removed.
const EXPIRY: Duration = Duration::from_secs(60);

/// Makes a server and registers it.
pub(crate) fn register(
    reactor: &mut Reactor,
    wanted: &Wanted,
) -> io::Result<HandlerKey<Server<()>>> {
    let mut routes = routes(wanted);
    if let Some(directory) = &wanted.uploads {
        routes = uploads::mount(reactor, directory, routes)?;
    }
    let Some(accounts) = &wanted.accounts else {
        return Ok(reactor.register(server(wanted, routes)));
    };
    let (routes, expire) = accounts.mount(reactor, routes)?;
    let server = server(wanted, routes).on_timer(move |(), _, cx| expire(cx));
    let web = reactor.register(server);
    reactor.set_periodic_timer(web, EXPIRY, 0);
    Ok(web)
}

fn server(wanted: &Wanted, routes: Router<()>) -> Server<()> {
    let server = Server::new((), routes);
    // Their reader may have gone; the clients have not.
    if wanted.log { server.on_finish(|(), record| say(format_args!("{record}"))) } else { server }
}

fn routes(wanted: &Wanted) -> Router<()> {
    let bulk = vec![b'x'; 1 << 20];
    let routes = Router::new()
        .route("/", open(wanted).get(|_, _, res| res.html(INDEX)))
        .route("/metrics", open(wanted).get(|_, _, res| res.metrics()))
        .route("/plaintext", open(wanted).get(|_, _, res| res.text("Hello, World!")))
        .route("/user/{id}", open(wanted).get(|_, req, res| user(req.param("id"), res)))
        .route("/len", open(wanted).post(|_, _, res| res.receive(Length(0))))
        .route(
            "/bulk",
            open(wanted).get(move |_, _, res| {
                res.bytes("application/octet-stream", &bulk);
            }),
        );
    let routes = match &wanted.files {
        Some(root) => routes.files("/s", Files::new(root)),
        None => routes,
    };
    if wanted.echo { routes.fallback(open(wanted)) } else { routes }
}

/// A route whose other methods are answered with the body of the request, if that is wanted.
fn open(wanted: &Wanted) -> Route<()> {
    let route = Route::new().max_body_bytes(MAX_UPLOAD);
    if !wanted.echo {
        return route;
    }
    route.any(|(), _, res| {
        res.collect(MAX_ECHO, |_, body, res| res.bytes("application/octet-stream", body));
    })
}

const INDEX: &str = "\
<!doctype html><title>waterwheel</title>
<h1>It turns.</h1>
<ul>
<li><a href=/plaintext>a text</a>
<li><a href=/user/42>a user</a>
<li><a href=/bulk>a MiB of x</a>
</ul>
";

/// A user whose number is in the path. The digits are copied, because formatting them costs more
/// than the rest of the answer.
fn user(id: &str, res: &mut Response<'_, ()>) {
    let is_number = !id.is_empty() && id.len() < 20 && id.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || (id.starts_with('0') && id != "0") {
        res.status(404).text("a user has a number\n");
        return;
    }
    let mut json = [0; 64];
    let mut end = 0;
    for part in ["{\"id\":", id, ",\"name\":\"user-", id, "\"}"] {
        json[end..end + part.len()].copy_from_slice(part.as_bytes());
        end += part.len();
    }
    res.json_bytes(&json[..end]);
}

/// Counts a body as it comes in.
struct Length(u64);

impl Body<()> for Length {
    fn on_chunk(&mut self, (): &mut (), chunk: &[u8], _: &mut Response<'_, ()>) -> Flow {
        self.0 += chunk.len() as u64;
        Flow::More
    }

    fn on_end(&mut self, (): &mut (), res: &mut Response<'_, ()>) {
        res.text(&self.0.to_string());
    }
}
