//! Timers of handlers: the callback, and how it is found.

use std::any::Any;
use std::time::Duration;

use crate::base::id::{Timer, TimerId};
use crate::engine::Owner;
use crate::handler::event_loop::Loop;
use crate::handler::{Context, HandlerKey};

/// What a handler of any kind implements to have timers of its own:
/// [`set_timer`](Context::set_timer) and [`set_periodic_timer`](Context::set_periodic_timer) take
/// its key.
///
/// A timer of one connection or of one socket needs no `TimerHandler`: it calls `on_timer` of the
/// handler that serves the connection or socket, and is dropped together with that.
///
/// # Examples
/// A server that ends after an hour:
/// ```
/// use std::time::Duration;
/// use waterwheel::{Conn, Context, Handler, Peer, Reactor, Timer, TimerHandler};
///
/// struct Server;
///
/// impl Handler for Server {
///     type State = ();
/// #   fn on_accept(&mut self, _: &Peer) -> Option<()> { Some(()) }
/// #   fn on_data(&mut self, _: &mut (), _: &mut Conn<'_>, i: &[u8]) -> usize { i.len() }
///     // ...
/// }
///
/// impl TimerHandler for Server {
///     fn on_handler_timer(&mut self, _: Timer, cx: &mut Context<'_>) {
///         cx.drain(Duration::from_secs(5));
///     }
/// }
///
/// let mut reactor = Reactor::new()?;
/// let server = reactor.register(Server);
/// reactor.set_timer(server, Duration::from_secs(3_600), 0);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait TimerHandler: 'static {
    /// A timer of the handler fired (`Context::set_timer`).
    fn on_handler_timer(&mut self, timer: Timer, cx: &mut Context<'_>);
}

/// Calls `on_handler_timer` of a handler whose type it knows.
pub(crate) type TimerFace = fn(&mut dyn Any, Timer, &mut Context<'_>);

fn tell_timer<H: TimerHandler>(handler: &mut dyn Any, timer: Timer, cx: &mut Context<'_>) {
    if let Some(handler) = handler.downcast_mut::<H>() {
        handler.on_handler_timer(timer, cx);
    }
}

impl Loop {
    /// Sets a timer of a handler. If the key is of another reactor, the id is of a timer that never
    /// fires.
    pub(super) fn set_handler_timer<H: TimerHandler>(
        &mut self,
        key: HandlerKey<H>,
        wait: Duration,
        periodic: bool,
        token: u64,
    ) -> TimerId {
        let Some(known) = self.known_mut(key) else {
            log::error!("a timer was set with the key of another reactor: it never fires");
            return TimerId::NONE;
        };
        known.timer = Some(tell_timer::<H>);
        self.engine.set_user_timer(Owner::Handler(key.index()), wait, periodic, token)
    }
}
