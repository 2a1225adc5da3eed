//! Event streams (Server-Sent Events): what an `EventSource` of a browser reads.

use std::time::Duration;

use super::exchange::{Output, Rest};
use super::method::Method;
use super::response::Response;
use crate::stream::Written;

/// An event of a stream; see [`Response::events`].
///
/// # Examples
/// ```
/// use waterwheel::http::Event;
/// let event = Event::new("42\n43").name("counts").id("7");
/// assert_eq!(event.to_string(), "event: counts\nid: 7\ndata: 42\ndata: 43\n\n");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event<'a> {
    data: &'a str,
    name: Option<&'a str>,
    id: Option<&'a str>,
    retry: Option<Duration>,
}

impl<'a> Event<'a> {
    /// An event with this data, of any number of lines.
    #[must_use]
    pub fn new(data: &'a str) -> Self {
        Self { data, ..Self::default() }
    }

    /// Sets the name that listeners of the page wait for. Default `message`. Only the first line of
    /// the text is used.
    #[must_use]
    pub fn name(mut self, name: &'a str) -> Self {
        self.name = Some(line(name));
        self
    }

    /// Sets the id, which the browser sends as `Last-Event-ID` when it connects again. Only the
    /// first line of the text is used. An id with a NUL is not sent.
    #[must_use]
    pub fn id(mut self, id: &'a str) -> Self {
        self.id = Some(line(id)).filter(|id| !id.contains('\0'));
        self
    }

    /// Sets how long the browser waits before it connects again.
    #[must_use]
    pub fn retry(mut self, wait: Duration) -> Self {
        self.retry = Some(wait);
        self
    }
}

/// The first line of a text.
fn line(text: &str) -> &str {
    text.split(['\r', '\n']).next().unwrap_or_default()
}

/// As it is sent.
impl std::fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(name) = self.name {
            writeln!(f, "event: {name}")?;
        }
        if let Some(id) = self.id {
            writeln!(f, "id: {id}")?;
        }
        if let Some(retry) = self.retry {
            writeln!(f, "retry: {}", retry.as_millis())?;
        }
        // A line ends with CR LF, LF or CR; each is one end.
        let mut rest = self.data;
        loop {
            let end = rest.find(['\r', '\n']);
            writeln!(f, "data: {}", &rest[..end.unwrap_or(rest.len())])?;
            let Some(end) = end else { break };
            let length = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
            rest = &rest[end + length..];
        }
        f.write_str("\n")
    }
}

impl<A: 'static> Response<'_, A> {
    /// Answers with a stream of events, which goes on until it is [ended](Self::end) or the client
    /// goes. Then [`Server::on_gone`](super::Server::on_gone) is called. Later events are sent
    /// through [`Server::answer`](super::Server::answer) with the id of the exchange.
    ///
    /// With an interval a comment is sent each time it has passed, so that proxies on the way do
    /// not take the connection for dead. `None`: no comments. A client that sends FIN counts as
    /// gone, because browsers never end one direction only. The answer to HEAD is the head alone.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use waterwheel::http::{Event, ReplyId, Router};
    ///
    /// type Pages = Vec<ReplyId>;
    ///
    /// let routes = Router::new().get("/events", |pages: &mut Pages, req, res| {
    ///     let last = req.header("last-event-id").unwrap_or("none");
    ///     pages.push(res.events(Some(Duration::from_secs(15))));
    ///     res.send_event(&Event::new(&format!("you have seen {last}")));
    /// });
    /// # let _ = routes;
    /// ```
    pub fn events(&mut self, heartbeat: Option<Duration>) -> super::ReplyId {
        if !self.is_unanswered() {
            self.refuse_second();
            return self.id();
        }
        self.header("Content-Type", "text/event-stream").header("Cache-Control", "no-cache");
        self.exchange.is_events = true;
        let id = self.stream(None);
        match self.exchange.output {
            Output::Stream(Rest::Nothing) => self.end(), // the head is all that was asked for
            Output::Stream(_) if heartbeat.is_some() => {
                self.exchange.heartbeat = heartbeat;
                self.conn.set_deadline(crate::handler::DeadlineKind::User, heartbeat);
            }
            Output::Stream(_) => {}
            // A 500, because something was set that cannot be sent.
            Output::Unanswered | Output::Done => self.exchange.is_events = false,
        }
        id
    }

    /// Sends an event of a stream that was begun by [`events`](Self::events). In the answer to HEAD
    /// the stream is over already, and the result is `Closed`.
    pub fn send_event(&mut self, event: &Event<'_>) -> Written {
        if self.exchange.is_events && self.exchange.method == Method::Head {
            return Written::Closed;
        }
        self.write(event.to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_end_is_one_end() {
        let event = Event::new("a\r\nb\rc\n\nd\n").retry(Duration::from_secs(2));
        let lines = "retry: 2000\ndata: a\ndata: b\ndata: c\ndata: \ndata: d\ndata: \n\n";
        assert_eq!(event.to_string(), lines);
        assert_eq!(Event::new("").to_string(), "data: \n\n");
    }

    #[test]
    fn no_value_begins_a_line_of_its_own() {
        let event = Event::new("x").name("a\ndata: forged").id("1\r\nretry: 0");
        assert_eq!(event.to_string(), "event: a\nid: 1\ndata: x\n\n");
        assert_eq!(Event::new("x").id("a\0b").to_string(), "data: x\n\n");
    }
}
