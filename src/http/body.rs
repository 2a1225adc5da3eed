//! The body of a request, as it comes in.

use super::response::Response;

/// Whether more of a body is wanted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// Go on.
    More,
    /// Stop reading: TCP holds the sender back. [`Response::resume`] goes on.
    Pause,
}

/// Takes the body of a request in pieces, as they come in; see [`Response::receive`].
///
/// # Examples
/// ```
/// use waterwheel::http::{Body, Flow, Response};
///
/// struct Count { bytes: u64 }
///
/// impl<A: 'static> Body<A> for Count {
///     fn on_chunk(&mut self, _: &mut A, chunk: &[u8], _: &mut Response<'_, A>) -> Flow {
///         self.bytes += chunk.len() as u64;
///         Flow::More
///     }
///
///     fn on_end(&mut self, _: &mut A, res: &mut Response<'_, A>) {
///         res.text(&self.bytes.to_string());
///     }
/// }
/// ```
pub trait Body<A>: 'static {
    /// A piece of the body, never empty. An answer that is given here ends the receiving: neither
    /// this nor another method is called again.
    fn on_chunk(&mut self, app: &mut A, chunk: &[u8], res: &mut Response<'_, A>) -> Flow;

    /// The fields behind a chunked body, if there are any, before [`on_end`](Self::on_end): names
    /// and values. They are not merged with those of the head; such as frame a message or say who
    /// sent it are left out. Default: nothing.
    fn on_trailer(&mut self, app: &mut A, name: &str, value: &[u8]) {
        let _ = (app, name, value);
    }

    /// The body is complete. Gives the answer, or asks to give it later.
    fn on_end(&mut self, app: &mut A, res: &mut Response<'_, A>);

    /// The connection ended before the body was complete, or the body was malformed, too large or
    /// too slow. Nothing follows. A panic here does not keep [`Server::on_gone`] and
    /// [`Server::on_finish`] from being called. Default: nothing.
    ///
    /// [`Server::on_gone`]: super::Server::on_gone
    /// [`Server::on_finish`]: super::Server::on_finish
    fn on_gone(&mut self, app: &mut A) {
        let _ = app;
    }
}
