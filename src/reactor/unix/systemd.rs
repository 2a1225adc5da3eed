//! What a service manager is told: ready, alive, stopping.

use std::io;

use crate::engine::Due;
use crate::reactor::Reactor;
use crate::reactor::dispatch::Dispatcher;

impl Reactor {
    /// Tells systemd that this service is ready (`READY=1`). Call this when the listeners are
    /// bound, before [`run`](Self::run). Returns whether there is a service manager to tell:
    /// `false` if the variable `NOTIFY_SOCKET` is not set, and then nothing is done.
    ///
    /// From then on the reactor also sends `STOPPING=1` when it begins to stop or to drain. If the
    /// service has a watchdog (`WatchdogSec=`), a timer of the loop sends `WATCHDOG=1` twice in
    /// each period. So systemd restarts a service whose loop hangs, in a callback for example.
    ///
    /// One reactor of a process calls this. In a [`Fleet`](crate::fleet::Fleet) its watchdog sees
    /// that reactor alone.
    ///
    /// # Examples
    /// ```no_run
    /// # use waterwheel::{Conn, ListenOptions, Reactor};
    /// let mut reactor = Reactor::new()?;
    /// # let echo = reactor.register(|_: &mut Conn<'_>, input: &[u8]| input.len());
    /// reactor.listen("127.0.0.1:7000", echo, ListenOptions::default())?;
    /// reactor.notify_systemd()?;
    /// reactor.run()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    /// The unit of the service:
    /// ```text
    /// [Service]
    /// Type=notify
    /// WatchdogSec=10
    /// Restart=on-failure
    /// ExecStart=/usr/local/bin/echo
    /// ```
    ///
    /// # Errors
    /// - `InvalidInput`: `NOTIFY_SOCKET` is no path from the root and no abstract name.
    /// - The system's, if it has no descriptor left or nothing reads that socket.
    ///
    /// # Platform notes
    /// Unix only, with the feature `systemd`. The protocol is `sd_notify(3)`; abstract names are of
    /// Linux. In a simulated world there is no service manager.
    pub fn notify_systemd(&mut self) -> io::Result<bool> {
        let engine = &mut self.dispatcher.lp.engine;
        if self.dispatcher.notifier.is_none() {
            let notifier = engine.io.poller().notifier()?;
            if let Some(pause) = notifier.as_ref().and_then(|it| it.watchdog_pause()) {
                engine.timers.sample_clock();
                engine.timers.set(pause, Due::Watchdog);
            }
            self.dispatcher.notifier = notifier;
        }
        let Some(notifier) = &self.dispatcher.notifier else { return Ok(false) };
        notifier.tell_ready()?;
        Ok(true)
    }
}

impl Dispatcher {
    /// Half of the watchdog's time is over, and the loop turns.
    pub(in crate::reactor) fn on_watchdog(&mut self) {
        let Some(notifier) = &self.notifier else { return };
        notifier.tell_alive();
        if let Some(pause) = notifier.watchdog_pause() {
            self.lp.engine.timers.set(pause, Due::Watchdog);
        }
    }
}
