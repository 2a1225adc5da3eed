//! Redirections that are followed.

use std::io;
use std::rc::Rc;

use super::Client;
use super::answer::Answer;
use super::call::{Body, Call, remove_upgrade};
use super::error::ClientError;
use super::location::{self, Origin};
use crate::handler::Context;
use crate::http::fields::Fields;
use crate::http::method::Method;

/// What is called with the answer, or why there is none.
type Then = Box<dyn FnOnce(Result<Answer<'_>, ClientError>, &mut Context<'_>)>;

/// Follows redirections, between the origins that the program names and nowhere else: an answer
/// cannot lead the program to a server of the answer's choice.
///
/// | | |
/// |---|---|
/// | 301, 302 | POST becomes GET without the body; other methods are kept |
/// | 303 | all but HEAD become GET without the body |
/// | 307, 308 | method and body are kept; a body that was streamed is gone, which is an error |
/// | another origin | `Authorization`, `Cookie`, `Proxy-Authorization` are left out from then on |
/// | https to http | an error |
/// | more than the limit, or an origin that was not named | an error |
///
/// # Examples
/// ```no_run
/// use waterwheel::Reactor;
/// use waterwheel::http::{Call, Client, ClientOptions, Redirects};
///
/// let mut reactor = Reactor::new()?;
/// let client = Client::register(&mut reactor, "example.org:80", ClientOptions::default())?;
/// let follow = Redirects::from("http://example.org", client)?.max(3);
/// follow.send(&mut reactor.context(), Call::get("/old"), |answer, _| {
///     println!("{:?}", answer.map(|answer| answer.status()));
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Redirects {
    /// The first one is where a call begins.
    origins: Vec<(Origin, Client)>,
    max: u8,
}

impl Redirects {
    /// Calls begin at this origin, such as `https://example.org` or `http://10.0.0.1:8080`, by
    /// this client. At most 5 redirections are followed.
    ///
    /// # Errors
    /// - `InvalidInput`: the text is no origin.
    pub fn from(origin: &str, client: Client) -> io::Result<Self> {
        Self { origins: Vec::new(), max: 5 }.to(origin, client)
    }

    /// Adds an origin to which a redirection may lead.
    ///
    /// # Errors
    /// - `InvalidInput`: the text is no origin.
    pub fn to(mut self, origin: &str, client: Client) -> io::Result<Self> {
        let Some(parsed) = Origin::parse(origin) else {
            let text = format!("{origin:?} is no origin, such as https://example.org");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        self.origins.push((parsed, client));
        Ok(self)
    }

    /// How many redirections of a call are followed. Default 5.
    #[must_use]
    pub fn max(mut self, max: u8) -> Self {
        self.max = max;
        self
    }

    /// Sends a request, follows where it is redirected to, and collects the body of the last
    /// answer. The closure is called once. A redirection without `Location` is an answer.
    pub fn send(
        &self,
        cx: &mut Context<'_>,
        call: Call,
        then: impl FnOnce(Result<Answer<'_>, ClientError>, &mut Context<'_>) + 'static,
    ) {
        let hop = Hop { redirects: Rc::new(self.clone()), at: 0, left: self.max };
        hop.send(cx, call, Box::new(then));
    }
}

/// A request of a call.
struct Hop {
    redirects: Rc<Redirects>,
    /// The origin that is asked.
    at: usize,
    /// Redirections that may follow.
    left: u8,
}

impl Hop {
    fn send(self, cx: &mut Context<'_>, call: Call, then: Then) {
        let client = self.redirects.origins[self.at].1;
        let again = call.again();
        client.send(cx, call, move |answer, cx| {
            let location = match &answer {
                Ok(answer) if matches!(answer.status(), 301..=303 | 307 | 308) => {
                    answer.header("location").map(|location| (answer.status(), location))
                }
                _ => None,
            };
            let Some((status, location)) = location else { return then(answer, cx) };
            match self.follow(again, status, location) {
                Ok((hop, call)) => hop.send(cx, call, then),
                Err(why) => then(Err(ClientError::Redirect(why)), cx),
            }
        });
    }

    /// The request that follows.
    fn follow(
        self,
        mut call: Again,
        status: u16,
        location: &str,
    ) -> Result<(Self, Call), &'static str> {
        let left = self.left.checked_sub(1).ok_or("there were more of them than the limit")?;
        let origins = &self.redirects.origins;
        let from = &origins[self.at].0;
        let to = location::resolve(from, &call.target, location);
        let (origin, target) = to.ok_or("its Location is malformed")?;
        if from.is_secure && !origin.is_secure {
            return Err("it leads from https to http");
        }
        let at = origins.iter().position(|(known, _)| *known == origin);
        let at = at.ok_or("it leads to an origin that the program has not named")?;
        if origin != *from {
            let secrets = ["authorization", "cookie", "proxy-authorization"];
            call.fields.remove(|name| secrets.iter().any(|own| own.eq_ignore_ascii_case(name)));
        }
        let becomes_get = match status {
            301 | 302 => call.method == Method::Post,
            303 => call.method != Method::Head,
            _ => false,
        };
        if becomes_get {
            call.method = Method::Get;
            call.body = Ok(None);
            call.fields
                .remove(|name| name.get(..8).is_some_and(|s| s.eq_ignore_ascii_case("content-")));
        }
        let body = call.body?;
        let mut next = Call::new(call.method, target);
        next.fields = call.fields;
        next.expects_continue = call.expects_continue;
        next.is_decoded = call.is_decoded;
        if let Some(body) = body {
            next = next.body(body);
        }
        Ok((Self { at, left, ..self }, next))
    }
}

/// What of a call is needed to send another in its place.
struct Again {
    method: Method,
    target: String,
    fields: Fields,
    /// `None` if there was none; or why it cannot be sent again.
    body: Result<Option<Vec<u8>>, &'static str>,
    expects_continue: bool,
    is_decoded: bool,
}

impl Call {
    fn again(&self) -> Again {
        let mut fields = self.fields.clone();
        let body = match &self.body {
            Body::Known(bytes) => Ok(self.has_body.then(|| bytes.clone())),
            Body::Streamed(..) => Err("the body of the request was streamed, and is gone"),
            Body::Upgrade(..) => {
                remove_upgrade(&mut fields);
                Err("the request has asked for another protocol")
            }
        };
        Again {
            method: self.method,
            target: self.target.clone(),
            fields,
            body,
            expects_continue: self.expects_continue,
            is_decoded: self.is_decoded,
        }
    }
}
