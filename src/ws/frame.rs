//! A message that is framed once, for many.

use std::fmt;
use std::sync::OnceLock;

use crate::ws::handler::{Kind, Message};
use crate::ws::header::{Built, FIN, Opcode, RSV1};
use crate::ws::shared::Shared;

/// A message framed once, to be sent to many: with [`Room::publish`](crate::ws::Room::publish) or
/// [`Socket::send_frame`](crate::ws::Socket::send_frame).
///
/// For connections that compress and keep no context it is compressed once, when the first of them
/// is sent to. A `Frame` in an `Arc` can go through channels to the other reactors of a fleet.
///
/// # Examples
/// ```
/// use waterwheel::Context;
/// use waterwheel::ws::{Frame, Room, Slow};
/// fn tell(room: &mut Room, cx: &mut Context<'_>, price: u64) {
///     let frame = Frame::text(&format!("{{\"price\":{price}}}"));
///     room.publish(cx, &frame, Slow::Skip);
/// }
/// ```
pub struct Frame {
    kind: Kind,
    /// The frame as it is sent without compression.
    plain: Box<[u8]>,
    /// Bytes of its head.
    head: u8,
    /// The compressed frame by the size of the window, from 9 bits on; `None` where it would be no
    /// smaller.
    deflated: [OnceLock<Option<Box<[u8]>>>; 7],
}

impl Frame {
    /// Frames a text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::new(Message::Text(text))
    }

    /// Frames bytes.
    #[must_use]
    pub fn binary(bytes: &[u8]) -> Self {
        Self::new(Message::Binary(bytes))
    }

    /// Frames a message.
    #[must_use]
    pub fn new(message: Message<'_>) -> Self {
        let kind = message.kind();
        let (head, plain) = framed(FIN | opcode(kind), message.bytes());
        Self { kind, plain, head, deflated: Default::default() }
    }

    /// What the message is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The bytes of the message itself.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.plain[usize::from(self.head)..]
    }

    /// The bytes on the wire, for a connection that compresses with such a window.
    pub(super) fn bytes(&self, bits: Option<u8>, shared: &Shared) -> &[u8] {
        let Some(bits) = bits else { return &self.plain };
        let own = shared.options.deflate.as_ref();
        let wanted = own.filter(|own| self.payload().len() >= own.min_bytes);
        let Some(own) = wanted else { return &self.plain };
        let deflated = self.deflated[usize::from(bits - 9)].get_or_init(|| {
            shared.with_codecs(|codecs| {
                let body = codecs.deflate(self.payload(), &[], own.how(bits))?;
                Some(framed(FIN | RSV1 | opcode(self.kind), body).1)
            })
        });
        deflated.as_deref().unwrap_or(&self.plain)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Frame");
        text.field("kind", &self.kind).field("bytes", &self.payload().len()).finish()
    }
}

/// A frame, and the bytes of its head.
fn framed(first: u8, payload: &[u8]) -> (u8, Box<[u8]>) {
    let head = Built::new(first, payload.len(), None);
    let head = head.as_slice();
    (head.len() as u8, [head, payload].concat().into())
}

fn opcode(kind: Kind) -> u8 {
    match kind {
        Kind::Text => Opcode::Text as u8,
        Kind::Binary => Opcode::Binary as u8,
    }
}
