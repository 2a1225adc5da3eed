//! Stands for `drain.rs` where no descriptor can ask to drain.

use std::io;
use std::time::Duration;

use crate::reactor::Reactor;

#[derive(Debug)]
pub(super) enum Bell {}

impl Bell {
    pub(super) fn deadline(&self) -> Duration {
        match *self {}
    }

    pub(super) fn has_rung(&self) -> bool {
        match *self {}
    }

    pub(super) fn watch(&self, _: &mut Reactor) -> io::Result<()> {
        match *self {}
    }
}
