//! What can be set for an offload, as data.

use std::io;
use std::time::Duration;

use crate::options::setters;

/// Max threads of one offload.
const MAX_THREADS: usize = 1_024;

/// Options of an [`Offload`](super::Offload).
///
/// # Examples
/// ```
/// use waterwheel::offload::OffloadOptions;
/// let options = OffloadOptions::default().threads(2).name("database").max_queued(256);
/// # let _ = options;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffloadOptions {
    /// The number of threads, and so the max number of jobs that run at once. Default 4; 1 to
    /// 1,024.
    pub threads: usize,
    /// The prefix of the names of the threads: `NAME 0`, `NAME 1` and so on. Linux shows the first
    /// 15 bytes of a thread's name. Default `offload`.
    pub name: String,
    /// Max jobs that wait and have not begun; more are refused. Default 1,024; at least 1.
    pub max_queued: usize,
    /// How long the drop of the reactor waits for jobs that were accepted. After that time, jobs
    /// that have not begun are dropped, and jobs that run go on without anything waiting for them.
    /// Default 5 s.
    pub drain_timeout: Duration,
}

impl Default for OffloadOptions {
    fn default() -> Self {
        Self {
            threads: 4,
            name: "offload".to_owned(),
            max_queued: 1_024,
            drain_timeout: Duration::from_secs(5),
        }
    }
}

impl OffloadOptions {
    setters! {
        threads: usize,
        max_queued: usize,
        drain_timeout: Duration,
    }

    /// Sets [`name`](Self#structfield.name).
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    pub(super) fn check(&self) -> io::Result<()> {
        let invalid = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        if !(1..=MAX_THREADS).contains(&self.threads) {
            let threads = self.threads;
            return invalid(format!(
                "threads of an offload: {threads}, must be 1 to {MAX_THREADS}"
            ));
        }
        if self.max_queued == 0 {
            return invalid("max_queued of an offload: 0, must be at least 1".to_owned());
        }
        if self.name.contains('\0') {
            return invalid("the name of an offload must not contain a zero byte".to_owned());
        }
        Ok(())
    }
}
