//! Stands for `unix.rs` where there are no Unix sockets.

use crate::options::ConnectOptions;
use crate::options::unix::UnixAddr;
use crate::stream::Link;

impl Link<'_> {
    pub(super) fn try_unix(&mut self, addr: &UnixAddr, _: &ConnectOptions) {
        match *addr {}
    }
}
