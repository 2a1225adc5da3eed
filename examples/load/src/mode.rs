//! The ways of making load.

use std::fmt;
use std::time::Duration;

/// How load is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Closed,
    Open,
    Storm,
    Hold,
    Udp,
}

impl Mode {
    pub(crate) const ALL: [Self; 5] =
        [Self::Closed, Self::Open, Self::Storm, Self::Hold, Self::Udp];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Storm => "storm",
            Self::Hold => "hold",
            Self::Udp => "udp",
        }
    }

    /// When a server gives up on a silent connection, if load is made for so long. In an open loop
    /// at a low rate, a connection may have nothing to send for as long as a held one.
    pub(crate) fn server_idle_timeout(self, load: Duration) -> Duration {
        let minute = Duration::from_secs(60);
        match self {
            Self::Open | Self::Hold => minute + load,
            Self::Closed | Self::Storm | Self::Udp => minute,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
