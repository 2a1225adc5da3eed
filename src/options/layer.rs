//! What may stand between a socket and its handler.
//!
//! ```text
//!  socket ──bytes──> layer ──plaintext──> handler
//!  socket <──bytes── layer <──plaintext── handler
//!                      └ and what the layer itself has to say
//! ```
//! A layer does no I/O and knows no connection: it is given bytes, and gives bytes. Several stand
//! in a row; each works through its handshake, and then removes itself or stays. Only the last may
//! stay.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use crate::base::buffer::Scratch;
use crate::base::stats::Stats;

/// Makes the layers of a listener's connections, or of outgoing ones.
pub(crate) trait LayerFactory: fmt::Debug + Send + Sync {
    /// A layer for a connection with `peer`, or why there is none for it.
    fn layer(&self, peer: SocketAddr) -> Result<Box<dyn Layer>, Cow<'static, str>>;

    /// Longest time for its handshake on a listener; a connect has a deadline of its own.
    fn timeout(&self) -> Duration;

    /// What the listener wants, for the log line of a refused connection.
    fn demand(&self) -> &'static str;

    /// The counter of the connections that fail in its handshake.
    fn failures<'a>(&self, stats: &'a mut Stats) -> &'a mut u64;

    /// A handshake has failed, which `failures` counts.
    fn note_failure(&self, _: &HandshakeFailure<'_>) {}

    /// Whether only the layer knows for whom the peer speaks: until then the caps of each source
    /// say nothing.
    fn names_source(&self) -> bool {
        false
    }

    /// Whether a step of its handshake takes so long that few of them fit in a turn.
    fn is_costly(&self) -> bool {
        false
    }
}

/// Why the handshake of an accepted connection has failed.
#[derive(Debug)]
pub(crate) enum HandshakeFailure<'a> {
    /// There is no layer for it.
    NoLayer(&'a str),
    /// Its layer has failed.
    Layer(&'a io::Error),
    /// The handshake was not done in time.
    Late,
    /// Its peer has ended it.
    Ended,
    /// The handshake had to give its place up.
    CrowdedOut,
}

impl fmt::Display for HandshakeFailure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLayer(text) => f.write_str(text),
            Self::Layer(error) => error.fmt(f),
            Self::Late => f.write_str("its handshake was not done in time"),
            Self::Ended => f.write_str("it ended within its handshake"),
            Self::CrowdedOut => {
                f.write_str("others want its place, and its source has most of them")
            }
        }
    }
}

/// A stage between the socket of one connection and its handler.
pub(crate) trait Layer: fmt::Debug {
    /// The connection is up: what this side says first goes to `reply`.
    fn begin(&mut self, reply: &mut Scratch);

    /// Works on what the peer has sent and no layer has consumed, in place if it likes. What it
    /// leaves comes again, with more behind it; it must consume at the latest what
    /// [`MAX_UNCONSUMED_BYTES`] hold. Plaintext goes to `plain`, and is no longer than what was
    /// consumed; what the peer must be told goes to `reply`, also if the layer fails.
    fn decode(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        reply: &mut Scratch,
    ) -> io::Result<Decoded>;

    /// Turns plaintext, at most [`MAX_PLAIN_BYTES`], into bytes for the socket. Called once the
    /// handshake is done. `undecoded` is what `decode` has left, for a layer that keeps places in
    /// it and no bytes.
    fn encode(
        &mut self,
        plain: &[u8],
        undecoded: &mut [u8],
        output: &mut Scratch,
    ) -> io::Result<()>;

    /// Says that no more plaintext follows. Called once at the most.
    fn encode_end(&mut self, undecoded: &mut [u8], output: &mut Scratch);

    /// The layer itself, for those who know its type.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only TLS is asked for more"))]
    fn as_any(&self) -> &dyn Any;
}

/// What a layer has made of its input.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Bytes that need not be seen again.
    pub(crate) consumed: usize,
    /// Where the layer stands now.
    pub(crate) stage: LayerStage,
}

/// How far a layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LayerStage {
    /// Its handshake wants more bytes.
    Handshake,
    /// It is done and removes itself. It may have found out for whom the peer speaks: who that is,
    /// and where to. In a box, because what is told of each read is moved about.
    #[cfg_attr(not(feature = "proxy-protocol"), expect(dead_code, reason = "only a header does"))]
    Finished(Option<Box<(SocketAddr, SocketAddr)>>),
    /// Its handshake is done, and it stays.
    Open,
    /// The peer says that no more plaintext follows.
    Ended,
}

/// Bytes that a layer may leave unconsumed: the largest message of a handshake that TLS libraries
/// take, which has 64 KiB, does not fit, and chains of certificates in use have a tenth of it. A
/// read behind as much still has room for a whole record.
pub(crate) const MAX_UNCONSUMED_BYTES: usize = 44 << 10;

/// Plaintext that is encoded at once: a piece, and a rest that goes with it.
pub(crate) const MAX_PLAIN_BYTES: usize = PIECE_BYTES + REST_BYTES;

/// Plaintext that is encoded for one write while more follows: four full records of TLS.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// So much goes with the piece before it, and costs no write of its own: behind a MiB with a head
/// that is all.
pub(crate) const REST_BYTES: usize = 1 << 10;

/// A factory among options, which are compared and shown.
#[derive(Clone)]
pub(crate) struct LayerOption(pub(crate) Arc<dyn LayerFactory>);

impl PartialEq for LayerOption {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for LayerOption {}

/// A factory only makes layers: a panic leaves nothing half done in it.
impl UnwindSafe for LayerOption {}

impl RefUnwindSafe for LayerOption {}

impl fmt::Debug for LayerOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
