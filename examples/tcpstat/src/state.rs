//! The states of a connection, and what each means.

/// A state of TCP (RFC 9293, 3.3.2), with the kernel's number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Listen = 10,
    SynSent = 2,
    SynRecv = 3,
    Established = 1,
    FinWait1 = 4,
    FinWait2 = 5,
    Closing = 11,
    TimeWait = 6,
    CloseWait = 8,
    LastAck = 9,
}

impl State {
    /// All, in the order of a connection's life: the beginning, the close by who closes first, and
    /// by who closes last.
    pub(crate) const ALL: [Self; 10] = [
        Self::Listen,
        Self::SynSent,
        Self::SynRecv,
        Self::Established,
        Self::FinWait1,
        Self::FinWait2,
        Self::Closing,
        Self::TimeWait,
        Self::CloseWait,
        Self::LastAck,
    ];

    /// By the number in the kernel's tables.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&state| state as u8 == number)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Listen => "LISTEN",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN_WAIT_1",
            Self::FinWait2 => "FIN_WAIT_2",
            Self::Closing => "CLOSING",
            Self::TimeWait => "TIME_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
        }
    }

    /// What it means, who waits for whom, and what to do when it piles up.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Listen => "a server waits for clients",
            Self::SynSent => {
                "this end has asked and waits for the other's answer; many: the other is down, \
                 filtered, or its accept queue is full; bound the wait (ConnectOptions::timeout)"
            }
            Self::SynRecv => {
                "this end has answered and waits for the client's last ACK; many: a SYN flood or a \
                 broken way back; keep net.ipv4.tcp_syncookies at 1, raise the backlog and \
                 net.ipv4.tcp_max_syn_backlog"
            }
            Self::Established => {
                "up, nobody waits; many that are silent: set an idle timeout (Limits::all_idle)"
            }
            Self::FinWait1 => {
                "this end has closed and waits for the other to take the rest and the FIN; many: \
                 others that do not read or have vanished (Limits::close_timeout)"
            }
            Self::FinWait2 => {
                "this end has closed and waits for the other to close, which is in CLOSE_WAIT; \
                 many: a leak over there (Limits::close_timeout, net.ipv4.tcp_fin_timeout)"
            }
            Self::Closing => {
                "both ends closed at once, and this one waits for the ACK of its FIN; many: others \
                 that have vanished (net.ipv4.tcp_orphan_retries)"
            }
            Self::TimeWait => {
                "closed, by this end first, and kept for 60 s against late packets; many: no \
                 descriptor is held, but a client runs out of ports: keep connections, dial from \
                 more addresses, or let the other end close first"
            }
            Self::CloseWait => {
                "the other has closed and waits for this program to close; many: a leak here, it \
                 does not close what has ended (on_eof), and each holds a descriptor"
            }
            Self::LastAck => {
                "both have closed, and this end waits for the last ACK; many: others that have \
                 vanished or do not read (net.ipv4.tcp_orphan_retries)"
            }
        }
    }
}

/// Every state with its line.
pub(crate) fn explain_all() -> String {
    State::ALL.map(|state| format!("{:<12} {}\n", state.name(), state.meaning())).concat()
}
