//! What the server answers.

use support::say;
use waterwheel::http::{Body, Flow, Response, Route, Router, Server};

/// Which routes there are besides those that are always there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Every other path and method is answered with the body of the request.
    pub(crate) echo: bool,
    /// Each request is printed.
    pub(crate) log: bool,
}

/// The body of an upload may be so large.
const MAX_UPLOAD: u64 = 1 << 30;

/// The body of an echo may be so large: it is sent back when it is complete.
const MAX_ECHO: u64 = 16 << 20;

pub(crate) fn server(wanted: &Wanted) -> Server<()> {
    let bulk = vec![b'x'; 1 << 20];
    let mut routes = Router::new()
        .get("/", |_, _, res| res.html(INDEX))
        .get("/plaintext", |_, _, res| res.text("Hello, World!"))
        .get("/user/{id}", |_, req, res| user(req.param("id"), res))
        .route(
            "/len",
            Route::new().post(|_, _, res| res.receive(Length(0))).max_body_bytes(MAX_UPLOAD),
        )
        .get("/bulk", move |_, _, res| res.bytes("application/octet-stream", &bulk));
    if wanted.echo {
        let echo = Route::new().any(|(), _, res| {
            res.collect(MAX_ECHO, |_, body, res| res.bytes("application/octet-stream", body));
        });
        routes = routes.fallback(echo.max_body_bytes(MAX_ECHO));
    }
    let server = Server::new((), routes);
    // Their reader may have gone; the clients have not.
    if wanted.log { server.on_finish(|(), record| say(format_args!("{record}"))) } else { server }
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

/// A user whose number is in the path.
fn user(id: &str, res: &mut Response<'_, ()>) {
    let Ok(id) = id.parse::<u64>() else {
        res.status(404).text("a user has a number\n");
        return;
    };
    let mut json = [0; 64];
    let json = write_into(&mut json, format_args!("{{\"id\":{id},\"name\":\"user-{id}\"}}"));
    res.json_bytes(json);
}

/// A short text without an allocation.
fn write_into<'a>(room: &'a mut [u8], text: std::fmt::Arguments<'_>) -> &'a [u8] {
    let mut rest = &mut room[..];
    let _ = std::io::Write::write_fmt(&mut rest, text);
    let left = rest.len();
    &room[..room.len() - left]
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
