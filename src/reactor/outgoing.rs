//! Outgoing connections: their states go to the handlers, who are told of attempts that failed.

use crate::base::close::CloseReason;
use crate::engine::observer::What;
use crate::reactor::callback::Who;
use crate::reactor::dispatch::Dispatcher;
use crate::stream::ConnectFailure;

impl Dispatcher {
    /// States of outgoing connections go to their handlers, which are not running now.
    pub(super) fn place_states(&mut self) {
        while let Some((id, state)) = self.lp.streams.pop_state() {
            let Some(connection) = self.lp.streams.slot_mut(id) else { continue };
            let handler = connection.config.service;
            self.callbacks.put_behind_streams(&mut self.lp.handlers, handler);
            let entry = self.callbacks.handlers.get_mut(handler as usize);
            match entry.and_then(|entry| entry.handler.place(state)) {
                Some(place) => {
                    connection.state = place;
                    self.lp.engine.observers.tell(|observer| observer.on_connecting(id));
                }
                None => {
                    log::error!("{id}: connected with the key of another reactor");
                    if let Some(mut link) = self.lp.link(id) {
                        link.mark_closed(CloseReason::Local);
                    }
                }
            }
        }
    }

    /// Tells of connects that have failed and are tried again, unless that has ended meanwhile.
    pub(super) fn report_retries(&mut self) -> usize {
        let retries = self.lp.engine.end_of_turn.retries();
        for _ in 0..retries {
            self.place_states();
            let Some(id) = self.lp.engine.end_of_turn.pop_retry() else { break };
            let Some(link) = self.lp.link(id) else { continue };
            let connector = link.connection.connector_mut();
            let retry = connector.and_then(|connector| connector.retries.pop_front());
            if let Some(retry) = retry {
                let what = || What::ConnectRetry { id, tries: retry.tries };
                self.callbacks.enter_connection(&mut self.lp, id, what, |handler, state, lp| {
                    handler.connect_retry(state, lp, &retry);
                });
            }
        }
        retries
    }

    pub(super) fn report_failure(&mut self, failure: ConnectFailure) {
        self.lp.engine.stats.connect_failures += 1;
        let ConnectFailure { service, state, error } = failure;
        self.callbacks.put_behind_streams(&mut self.lp.handlers, service);
        let entry = self.callbacks.handlers.get_mut(service as usize);
        let Some(state) = entry.and_then(|entry| entry.handler.place(state)) else { return };
        let (who, what) = (Who::Closed, || What::ConnectFailed { id: None });
        self.callbacks.enter(&mut self.lp, who, service, what, |entry, lp| {
            entry.handler.connect_failed(state, error, lp);
        });
    }
}
