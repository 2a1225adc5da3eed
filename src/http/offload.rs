//! Answers that need blocking work first.

use super::response::Response;
use crate::offload::{Failed, Offload, Order};

impl<A: 'static> Response<'_, A> {
    /// Has `work` run on a thread of an offload, and then `then` called, which gives the answer:
    /// for a database, a password hash, a file. If the client has gone meanwhile, `then` is not
    /// called. If the offload is full, the answer is 503.
    ///
    /// # Examples
    /// ```
    /// use std::fs;
    /// use waterwheel::Reactor;
    /// use waterwheel::http::{Router, Server};
    /// use waterwheel::offload::{Offload, OffloadOptions};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let offload = Offload::new(&mut reactor, OffloadOptions::default())?;
    /// let routes = Router::new().get("/motd", move |_: &mut (), _, res| {
    ///     res.offload(&offload, (), |()| fs::read_to_string("/etc/motd"), |_, text, res| {
    ///         match text {
    ///             Ok(Ok(text)) => res.text(&text),
    ///             Ok(Err(_)) => res.status(404).text("no message today\n"),
    ///             Err(_) => res.status(500).text("that went wrong\n"),
    ///         }
    ///     });
    /// });
    /// let web = reactor.register(Server::new((), routes));
    /// # let _ = web;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn offload<W: 'static, T: Send + 'static>(
        &mut self,
        offload: &Offload<W>,
        order: impl Into<Order>,
        work: impl FnOnce(&mut W) -> T + Send + 'static,
        then: impl FnOnce(&mut A, Result<T, Failed>, &mut Response<'_, A>) + Send + 'static,
    ) {
        let (id, key) = (self.later(), self.server());
        let accepted = offload.run(order, key, work, move |server, cx, result| {
            server.answer(cx, id, |app, res| then(app, result, res));
        });
        if let Err(error) = accepted {
            log::warn!("{id}: {error}");
            self.status(503).header("Retry-After", "1").text("the server is busy; try again\n");
        }
    }
}
