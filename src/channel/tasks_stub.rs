//! Stands for `tasks.rs` without the feature `async-sender`: no task ever waits.

/// Tasks that wait for room in a channel: none.
#[derive(Debug, Default)]
pub(super) struct Tasks {}

impl Tasks {
    pub(super) fn take_all(&mut self) -> WokenTasks {
        WokenTasks
    }
}

/// Tasks that are to be woken: none.
#[derive(Debug)]
pub(super) struct WokenTasks;

impl WokenTasks {
    pub(super) fn wake(self) {}
}
