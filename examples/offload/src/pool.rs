//! The threads that work: each has its own connection to the database, and a way to the loop.

use std::sync::{Arc, Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use waterwheel::{ConnId, Sender};

use crate::database::{Database, Query};

/// What has come of a query.
pub(crate) struct Answer {
    /// Who has asked, and may be gone.
    pub(crate) id: ConnId,
    pub(crate) text: String,
}

pub(crate) struct Pool {
    threads: ThreadPool,
    /// The connection of each thread, by its index: no lock is ever waited for.
    databases: Arc<Vec<Mutex<Database>>>,
    answers: Sender<Answer>,
}

impl Pool {
    /// As many threads as there are connections to the database.
    pub(crate) fn new(
        databases: Vec<Database>,
        answers: Sender<Answer>,
    ) -> Result<Self, ThreadPoolBuildError> {
        let threads = ThreadPoolBuilder::new()
            .num_threads(databases.len())
            .thread_name(|index| format!("worker {index}"))
            // What panicked is answered all the same, see `Reply`.
            .panic_handler(|_| log::error!("a query panicked"))
            .build()?;
        let databases = Arc::new(databases.into_iter().map(Mutex::new).collect());
        Ok(Self { threads, databases, answers })
    }

    /// Runs a query when a thread is free. Exactly one answer follows, if the reactor lives.
    pub(crate) fn run(&self, id: ConnId, query: Query) {
        let databases = Arc::clone(&self.databases);
        let answers = self.answers.clone();
        let reply = Reply { id, text: None, answers };
        self.threads.spawn(move || {
            let index = rayon::current_thread_index().expect("it runs in the pool");
            let database = databases[index].lock().unwrap_or_else(PoisonError::into_inner);
            reply.send(database.run(&query));
        });
    }
}

/// Sends the answer when it goes, whatever has become of the query: a client must not wait for
/// ever.
struct Reply {
    id: ConnId,
    text: Option<String>,
    answers: Sender<Answer>,
}

impl Reply {
    fn send(mut self, text: String) {
        self.text = Some(text);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let text = self.text.take().unwrap_or_else(|| "error: the query failed".to_owned());
        // This thread may wait for the loop. One that has stopped has no use for answers.
        let _ = self.answers.send(Answer { id: self.id, text });
    }
}
