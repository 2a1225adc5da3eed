//! Why a call has no answer.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::base::close::CloseReason;
use crate::http::InvalidField;
use crate::pool::AcquireError;

/// What a call was waiting for when its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallPhase {
    /// The server to take the request.
    Request,
    /// The head of the answer.
    Head,
    /// The next part of the body.
    Body,
}

/// Why a call has no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The call cannot be sent: a field or the target is malformed. Nothing was sent.
    Invalid(InvalidField),
    /// There is no connection. Nothing was sent.
    Connect(AcquireError),
    /// The connection ended before the answer was complete. Whether the request has had an effect
    /// is not known.
    Lost(CloseReason),
    /// The answer was cut off: its connection ended before the end of the body.
    Cut,
    /// The answer is malformed, or two readers could understand it differently.
    Malformed(&'static str),
    /// The answer is larger than what is collected, in bytes.
    TooLarge(usize),
    /// The answer is a redirection that is not followed, by [`Redirects`](super::Redirects).
    Redirect(&'static str),
    /// The time limit of a phase has passed: which phase, and how long the limit is.
    TimedOut(CallPhase, Duration),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => write!(f, "the request cannot be sent: {error}"),
            Self::Connect(error) => write!(f, "no connection for the request: {error}"),
            Self::Lost(reason) => write!(f, "the connection ended before the answer: {reason}"),
            Self::Cut => f.write_str("the answer was cut: its connection ended too early"),
            Self::Malformed(why) => write!(f, "the answer is malformed: {why}"),
            Self::Redirect(why) => write!(f, "the redirection is not followed: {why}"),
            Self::TooLarge(max) => {
                write!(f, "the answer has more than {max} bytes (max_body_bytes, max_head_bytes)")
            }
            Self::TimedOut(CallPhase::Request, time) => {
                write!(f, "the server has taken nothing of the request for {time:?}")
            }
            Self::TimedOut(CallPhase::Head, time) => {
                write!(f, "no answer has come within {time:?} (answer_timeout)")
            }
            Self::TimedOut(CallPhase::Body, time) => {
                write!(f, "the answer has not gone on for {time:?} (body_timeout)")
            }
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Invalid(error) => Some(error),
            Self::Connect(error) => Some(error),
            _ => None,
        }
    }
}
