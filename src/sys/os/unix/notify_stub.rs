//! Stands for `notify.rs` in a build without the feature `systemd`, and on Windows: there is no
//! service manager to tell.

/// The way to the service manager.
#[derive(Debug)]
pub(crate) enum Notifier {}

impl Notifier {
    pub(crate) fn tell_stopping(&mut self) {
        match *self {}
    }
}
