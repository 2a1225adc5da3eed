//! Which jobs run one after the other, and the ids of jobs.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::base::id::ConnId;

/// Jobs of the same order run one after the other, in the order in which they were accepted, and
/// so do their completions. Jobs of different orders run beside each other.
///
/// | made from | order |
/// |---|---|
/// | `()` | none: a job of its own |
/// | a [`ConnId`] | the jobs of a connection |
/// | a `u64` | the jobs of this number |
/// | [`Order::of`] | the jobs of any value, such as a name |
///
/// # Examples
/// ```
/// use waterwheel::offload::Order;
/// assert_eq!(Order::of("ann"), Order::of("ann"));
/// assert_ne!(Order::from(1), Order::from(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Order(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Any,
    Connection(ConnId),
    Number(u64),
    Hash(u64),
}

impl Order {
    /// The order of a value, by its hash: two values may share one, and then wait for each other.
    #[must_use]
    pub fn of(value: &(impl Hash + ?Sized)) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self(Kind::Hash(hasher.finish()))
    }

    pub(super) fn is_any(self) -> bool {
        self.0 == Kind::Any
    }
}

impl From<()> for Order {
    fn from((): ()) -> Self {
        Self(Kind::Any)
    }
}

impl From<ConnId> for Order {
    fn from(id: ConnId) -> Self {
        Self(Kind::Connection(id))
    }
}

impl From<u64> for Order {
    fn from(number: u64) -> Self {
        Self(Kind::Number(number))
    }
}

/// The id of a job, to [cancel](super::Offload::cancel) it by. Once the job has begun the id finds
/// nothing, and never another job, also not of another offload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobId {
    pub(super) number: u64,
    pub(super) order: Order,
}
