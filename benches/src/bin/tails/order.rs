//! What a message asks of a server: its first byte says it.

use std::time::Duration;

/// Bytes of every message, and of every answer.
pub(crate) const MESSAGE_BYTES: usize = 64;

/// Bytes of the file that is sent.
pub(crate) const FILE_BYTES: u64 = 256 << 20;

#[derive(Clone, Copy)]
pub(crate) enum Order {
    /// The bytes come back. So they do for every other order too, unless it says otherwise.
    Echo,
    /// The connection becomes a member.
    Join,
    /// All members get the message.
    Publish,
    /// Timers are set that are due at one time. Another message follows when all that were set have
    /// fired.
    Timers { count: u32, wait: Duration },
    /// The file comes back, and nothing else.
    File,
}

impl Order {
    /// What input asks for. A message that orders something comes alone.
    pub(crate) fn of(input: &[u8]) -> Self {
        let number = |at: usize| {
            let bytes = input.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_le_bytes)
        };
        match input.first() {
            Some(1) => Self::Join,
            Some(2) => Self::Publish,
            Some(3) => {
                let wait = Duration::from_millis(number(8).into());
                Self::Timers { count: number(4), wait }
            }
            Some(4) => Self::File,
            _ => Self::Echo,
        }
    }

    pub(crate) fn message(self) -> [u8; MESSAGE_BYTES] {
        let mut message = [0; MESSAGE_BYTES];
        message[0] = match self {
            Self::Echo => 0,
            Self::Join => 1,
            Self::Publish => 2,
            Self::Timers { .. } => 3,
            Self::File => 4,
        };
        if let Self::Timers { count, wait } = self {
            message[4..8].copy_from_slice(&count.to_le_bytes());
            message[8..12].copy_from_slice(&(wait.as_millis() as u32).to_le_bytes());
        }
        message
    }
}
