//! The handle for other threads.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::id::ConnId;
use crate::engine::Stop;
use crate::engine::mailbox::Mailbox;
use crate::handler::context::task_for;
use crate::handler::event_loop::Message;
use crate::handler::{Context, HandlerKey};

/// A handle to a reactor for other threads: cloned, sent and kept anywhere.
///
/// Messages of one thread are handled in the order in which they were sent. `Ok` means that the
/// reactor had not stopped yet. If it stops before it reaches the message, the message is dropped.
/// The number of messages that wait has no bound: for a stream of messages take a channel, as
/// [`doors`](crate::tour::doors) says.
///
/// # Examples
/// ```
/// use std::thread;
/// use waterwheel::{Conn, Reactor};
///
/// let mut reactor = Reactor::new()?;
/// let service = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
/// let remote = reactor.remote();
/// let worker = thread::spawn(move || {
///     remote.with(service, |_handler, cx| cx.stop()).expect("the reactor runs");
///     remote
/// });
/// reactor.run()?;
/// let remote = worker.join().unwrap();
/// drop(reactor);
/// assert!(remote.stop().is_err()); // it is gone, and says so
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Remote {
    mailbox: Arc<Mailbox<Message>>,
}

/// The reactor has stopped: nothing was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor has stopped")
    }
}

impl Error for Stopped {}

impl Remote {
    pub(crate) fn new(mailbox: Arc<Mailbox<Message>>) -> Self {
        Self { mailbox }
    }

    fn post(&self, message: Message) -> Result<(), Stopped> {
        if self.mailbox.post(message) { Ok(()) } else { Err(Stopped) }
    }

    /// Posts a message, which is returned if the reactor is gone.
    pub(crate) fn offer(&self, message: Message) -> Result<(), Message> {
        self.mailbox.offer(message)
    }

    /// Writes to a connection. If it has ended, or refuses the bytes at its cap, they are
    /// dropped; `Stats::writes_refused` counts the latter.
    ///
    /// # Errors
    /// - [`Stopped`]: the reactor is gone.
    pub fn write(&self, id: ConnId, bytes: impl Into<Box<[u8]>>) -> Result<(), Stopped> {
        self.post(Message::Write(id, bytes.into()))
    }

    /// Closes a connection as `Conn::close` does, unless it has ended.
    ///
    /// # Errors
    /// - [`Stopped`]: the reactor is gone.
    pub fn close(&self, id: ConnId) -> Result<(), Stopped> {
        self.post(Message::Close(id))
    }

    /// Runs a closure with a handler on the reactor's thread.
    ///
    /// # Errors
    /// - [`Stopped`]: the reactor is gone.
    pub fn with<H: 'static>(
        &self,
        handler: HandlerKey<H>,
        task: impl FnOnce(&mut H, &mut Context<'_>) + Send + 'static,
    ) -> Result<(), Stopped> {
        self.post(Message::Run(handler.index(), Box::new(task_for(task))))
    }

    /// Stops the reactor at once: every connection ends with `CloseReason::Shutdown`.
    ///
    /// # Errors
    /// - [`Stopped`]: it has stopped already.
    pub fn stop(&self) -> Result<(), Stopped> {
        self.post(Message::Stop(Stop::Now))
    }

    /// Stops the reactor gracefully. Listeners close, `on_shutdown` is called for each connection,
    /// queued output is sent, and the loop waits for the peers to finish. What is left when
    /// `deadline` has passed is cut. All connections end with `CloseReason::Shutdown`. Until the
    /// deadline the loop also waits for peers that ignore our FIN, and for queued datagrams. Of
    /// several calls the earliest deadline holds.
    ///
    /// # Errors
    /// - [`Stopped`]: it has stopped already.
    pub fn drain(&self, deadline: Duration) -> Result<(), Stopped> {
        self.post(Message::Stop(Stop::Drain(deadline)))
    }
}
