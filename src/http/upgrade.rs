//! What a connection becomes that leaves HTTP.

use crate::base::close::{Deadline, Idle, IdleKind};
use crate::base::id::Timer;
use crate::handler::{Conn, Context};
use crate::stream::Closed;

/// A connection that goes on with another protocol, after
/// [`Response::upgrade`](super::Response::upgrade). The methods are those of
/// [`Handler`](crate::Handler), with the server's state in the place of the handler.
///
/// The clocks of HTTP end with the upgrade; the limits of the listener go on.
///
/// # Examples
/// A protocol that sends everything back:
/// ```
/// use waterwheel::Conn;
/// use waterwheel::http::Upgraded;
/// struct Echo;
/// impl<A> Upgraded<A> for Echo {
///     fn on_data(&mut self, _: &mut A, conn: &mut Conn<'_>, input: &[u8]) -> usize {
///         conn.write(input);
///         input.len()
///     }
/// }
/// ```
pub trait Upgraded<A>: 'static {
    /// The 101 has been written. Default: nothing.
    fn on_open(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        let _ = (app, conn);
    }

    /// Bytes came in; returns how many of them are done with. The rest comes again as that of
    /// [`Handler::on_data`](crate::Handler::on_data), also of what came in before the upgrade.
    fn on_data(&mut self, app: &mut A, conn: &mut Conn<'_>, input: &[u8]) -> usize;

    /// Output fell to the low mark. Default: nothing.
    fn on_drain(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        let _ = (app, conn);
    }

    /// The peer has finished sending. Default: close.
    fn on_eof(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        let _ = app;
        conn.close();
    }

    /// An idle limit has passed. Default: close.
    fn on_idle(&mut self, app: &mut A, conn: &mut Conn<'_>, kind: IdleKind) -> Idle {
        let _ = (app, conn, kind);
        Idle::Close
    }

    /// The deadline that was set has passed. Default: reset.
    fn on_deadline(&mut self, app: &mut A, conn: &mut Conn<'_>) -> Deadline {
        let _ = (app, conn);
        Deadline::Reset
    }

    /// A timer of the connection fired. Default: nothing.
    fn on_timer(&mut self, app: &mut A, conn: &mut Conn<'_>, timer: Timer) {
        let _ = (app, conn, timer);
    }

    /// The reactor drains before it stops. Default: close.
    fn on_shutdown(&mut self, app: &mut A, conn: &mut Conn<'_>) {
        let _ = app;
        conn.close();
    }

    /// The connection has ended. Default: nothing.
    fn on_close(self: Box<Self>, app: &mut A, closed: &Closed, cx: &mut Context<'_>) {
        let _ = (app, closed, cx);
    }
}
