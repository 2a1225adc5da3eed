//! From a route of the HTTP server to a WebSocket.

use crate::base::close::{Deadline, Idle, IdleKind};
use crate::base::id::Timer;
use crate::handler::{Conn, Context};
use crate::http::{Method, Request, Response, Upgraded, Version};
use crate::stream::Closed;
use crate::ws::{Endpoint, Handler, Session};

impl Endpoint {
    /// Answers a request for a WebSocket with 101, and the connection goes on as a WebSocket with
    /// this state. If the request is malformed, the answer is 400 or 426. Returns whether the
    /// WebSocket was accepted. With the feature `http`.
    ///
    /// Fields that were set before, such as `Set-Cookie`, are part of the answer.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::http::{Router, Server};
    /// use waterwheel::ws::{self, Endpoint, Message, Options, is_same_origin};
    ///
    /// struct App;
    ///
    /// impl ws::Handler for App {
    ///     type State = String; // the name of the visitor
    ///
    ///     fn on_message(
    ///         &mut self,
    ///         name: &mut String,
    ///         socket: &mut ws::Socket<'_>,
    ///         message: Message<'_>,
    ///     ) {
    ///         socket.send_text(&format!("{name} said {} bytes", message.bytes().len()));
    ///     }
    /// }
    ///
    /// let endpoint = Endpoint::new(Options::default());
    /// let routes = Router::new().get("/chat/{name}", move |_: &mut App, req, res| {
    ///     if is_same_origin(req) {
    ///         endpoint.upgrade(req, res, req.param("name").to_owned());
    ///     } else {
    ///         res.status(403).text("not from here\n");
    ///     }
    /// });
    /// let server = Server::new(App, routes);
    /// # let _ = server;
    /// ```
    pub fn upgrade<A: Handler>(
        &self,
        req: &Request<'_>,
        res: &mut Response<'_, A>,
        state: A::State,
    ) -> bool {
        if req.version() != Version::Http11 || req.has_body() {
            res.close_after().status(400);
            res.text("a WebSocket is asked for in HTTP/1.1, without a body\n");
            return false;
        }
        let fields: Vec<_> = req.headers().collect();
        let method = if req.method() == Method::Get { "GET" } else { "" };
        match self.check(method, &fields) {
            Err(refused) => {
                if refused.status == 426 {
                    res.header("Sec-WebSocket-Version", "13");
                } else {
                    res.close_after(); // what else it has got wrong cannot be known
                }
                res.status(refused.status).text(&format!("{}\n", refused.text));
                false
            }
            Ok(accepted) => {
                // Upgrade and Connection are the server's to say.
                for (name, value) in accepted.fields().skip(2) {
                    res.header(name, value);
                }
                res.upgrade("websocket", accepted.session(state));
                true
            }
        }
    }
}

/// Whether a request comes from a page of the same host, or from a program that is no browser and
/// sends no `Origin`. With the feature `http`.
///
/// A browser sends the cookies of its user along with a WebSocket that any page opens, and says
/// which page by `Origin`.
#[must_use]
pub fn is_same_origin(req: &Request<'_>) -> bool {
    let Some(origin) = req.header_bytes("origin") else { return true };
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.zip(req.host()).is_some_and(|(page, host)| page.eq_ignore_ascii_case(host))
}

impl<A: Handler> Upgraded<A> for Session<A::State> {
    fn on_open(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        Session::on_open(self, app, conn);
    }

    fn on_data(&mut self, app: &mut A, conn: &mut Conn<'_>, input: &[u8]) -> usize {
        Session::on_data(self, app, conn, input)
    }

    fn on_drain(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        Session::on_drain(self, app, conn);
    }

    fn on_eof(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        Session::on_eof(self, app, conn);
    }

    fn on_idle(&mut self, app: &mut A, conn: &mut Conn<'_>, kind: IdleKind) -> Idle {
        Session::on_idle(self, app, conn, kind)
    }

    fn on_deadline(&mut self, app: &mut A, conn: &mut Conn<'_>) -> Deadline {
        Session::on_deadline(self, app, conn)
    }

    fn on_timer(&mut self, app: &mut A, conn: &mut Conn<'_>, timer: Timer) {
        Session::on_timer(self, app, conn, timer);
    }

    fn on_shutdown(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        Session::on_shutdown(self, app, conn);
    }

    fn on_close(self: Box<Self>, app: &mut A, closed: &Closed, cx: &mut Context<'_>) {
        Session::on_close(*self, app, closed, cx);
    }
}
