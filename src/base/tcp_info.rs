//! What the kernel knows of a connection.

use std::fmt;
use std::time::Duration;

/// A state of a TCP connection (RFC 9293, 3.3.2). What each means stands at [`tcp`](crate::tcp).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TcpState {
    /// SYN is sent; the answer is waited for.
    SynSent,
    /// SYN is answered; the client's ACK is waited for.
    SynReceived,
    /// Up.
    Established,
    /// FIN, or what was written before it, is not acknowledged.
    FinWait1,
    /// FIN is acknowledged; the peer's is waited for.
    FinWait2,
    /// Both ends sent FIN at once, and ours is not acknowledged.
    Closing,
    /// Both directions have ended, ours first.
    TimeWait,
    /// The peer has sent FIN; ours is still to come.
    CloseWait,
    /// Both have sent FIN, the peer first, and ours is not acknowledged.
    LastAck,
    /// None: the connection has ended, or was reset.
    Closed,
}

#[cfg(any(target_os = "linux", test))]
impl TcpState {
    /// By the kernel's number (`include/net/tcp_states.h`).
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Closed,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            11 => Self::Closing,
            _ => return None,
        })
    }
}

impl fmt::Display for TcpState {
    /// As RFC 9293 writes it, with `_` for its hyphens and blanks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECEIVED",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN_WAIT_1",
            Self::FinWait2 => "FIN_WAIT_2",
            Self::Closing => "CLOSING",
            Self::TimeWait => "TIME_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Closed => "CLOSED",
        })
    }
}

/// What the kernel knows of a connection at a moment: `TCP_INFO` of tcp(7). From
/// [`Conn::tcp_info`](crate::Conn::tcp_info).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpInfo {
    /// Its state.
    pub state: TcpState,
    /// The smoothed round-trip time. Zero before the first was measured.
    pub round_trip_time: Duration,
    /// How much it varies: the smoothed mean deviation.
    pub round_trip_variance: Duration,
    /// How long the kernel waits for an acknowledgement before it sends a segment again.
    pub retransmission_timeout: Duration,
    /// How often in a row that has passed by now for the oldest segment; 0 if all goes well.
    pub timeouts_in_a_row: u8,
    /// Segments that were sent again, since the connection began.
    pub retransmitted_segments: u32,
    /// Segments that are under way: sent and not acknowledged.
    pub unacknowledged_segments: u32,
    /// Of these, those that the kernel takes for lost.
    pub lost_segments: u32,
    /// Most segments that may be under way: the congestion window.
    pub congestion_window_segments: u32,
    /// Bytes of a segment that is sent, at the most.
    pub max_segment_bytes: u32,
}

impl TcpInfo {
    /// From a `tcp_info` of linux/tcp.h, which only ever grows at its end; `None` if it is too
    /// short.
    #[cfg(any(target_os = "linux", test))]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let micros = |at: usize| Some(Duration::from_micros(number(at)?.into()));
        Some(Self {
            state: TcpState::from_number(*bytes.first()?)?,
            round_trip_time: micros(68)?,
            round_trip_variance: micros(72)?,
            retransmission_timeout: micros(8)?,
            timeouts_in_a_row: *bytes.get(2)?,
            retransmitted_segments: number(100)?,
            unacknowledged_segments: number(24)?,
            lost_segments: number(32)?,
            congestion_window_segments: number(80)?,
            max_segment_bytes: number(16)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_info_is_read_where_its_fields_are() {
        let mut bytes = Vec::from([11, 0xff, 2, 0xff, 0xff, 0xff, 0xff, 0xff]);
        for at in (8..104).step_by(4) {
            bytes.extend((at as u32).to_ne_bytes());
        }
        let info = TcpInfo::from_bytes(&bytes).unwrap();
        assert_eq!((info.state, info.timeouts_in_a_row), (TcpState::Closing, 2));
        assert_eq!(info.retransmission_timeout, Duration::from_micros(8));
        assert_eq!(info.round_trip_time, Duration::from_micros(68));
        assert_eq!(info.round_trip_variance, Duration::from_micros(72));
        assert_eq!((info.max_segment_bytes, info.unacknowledged_segments), (16, 24));
        assert_eq!((info.lost_segments, info.congestion_window_segments), (32, 80));
        assert_eq!(info.retransmitted_segments, 100);
        // A newer kernel says more, an older one less.
        bytes.extend([0xff; 100]);
        assert_eq!(TcpInfo::from_bytes(&bytes), Some(info));
        assert_eq!(TcpInfo::from_bytes(&bytes[..103]), None);
        bytes[0] = 12;
        assert_eq!(TcpInfo::from_bytes(&bytes), None);
    }
}
