//! Files that are opened and read beside the loop.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::cache::Cache;
use super::form::Entry;
use super::open::Found;
use super::{CHECK_INTERVAL, Settings, answer, is_shortage, redirect, shed};
use crate::http::request::{OwnedRequest, Request};
use crate::http::response::Response;
use crate::offload::Offload;

/// Entries that wait for the cache: the next request of a path that is not in it takes them over.
/// With more they are only answered with.
const MAX_WAITING: usize = 16;

/// What was found, for the cache of the loop.
#[derive(Clone, Debug, Default)]
pub(super) struct Inbox {
    found: Arc<Mutex<Vec<Waiting>>>,
}

#[derive(Debug)]
struct Waiting {
    path: String,
    entry: Box<Entry>,
    /// When the file was looked at, by the time of the loop.
    checked: Duration,
}

impl Inbox {
    fn add(&self, path: String, entry: Box<Entry>, checked: Duration) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() < MAX_WAITING {
            found.push(Waiting { path, entry, checked });
        }
    }

    pub(super) fn empty_into(&self, cache: &mut Cache, now: Duration) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        for Waiting { path, entry, checked } in found.drain(..) {
            // What may have changed since is looked at again, and what has no place is let go.
            if now.saturating_sub(checked) < CHECK_INTERVAL {
                let _ = cache.insert(&path, entry, checked);
            }
        }
    }
}

/// Whether the answer with a file depends on a field.
fn is_condition(name: &str) -> bool {
    const NAMES: [&str; 7] = [
        "range",
        "if-match",
        "if-range",
        "if-none-match",
        "accept-encoding",
        "if-modified-since",
        "if-unmodified-since",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// What a path stands for, ready to be answered with.
enum Ready {
    File(Box<Entry>),
    Folder,
}

impl Settings {
    fn prepare(&self, path: &str, time: SystemTime) -> io::Result<Ready> {
        match self.open(path)? {
            Found::Folder => Ok(Ready::Folder),
            Found::File { plain, coded, name } => {
                self.describe(plain, coded, &name, time).map(|entry| Ready::File(Box::new(entry)))
            }
        }
    }
}

/// Has a file opened, and answers then.
pub(super) fn look<A: 'static>(
    path: &str,
    settings: &Settings,
    offload: &Offload,
    inbox: &Inbox,
    time: SystemTime,
    req: &Request<'_>,
    res: &mut Response<'_, A>,
) {
    let (path, settings, inbox) = (path.to_owned(), settings.clone(), inbox.clone());
    let owned = OwnedRequest::of(req, is_condition);
    let work = move |(): &mut ()| {
        let ready = settings.prepare(&path, time);
        (path, ready)
    };
    let now = res.context().now(); // before the work: what is older is looked at again earlier
    res.offload(offload, (), work, move |_, found, res| {
        let answered = owned.lend(|req| match found {
            Ok((path, Ok(Ready::File(entry)))) => {
                answer(&entry, req, res);
                inbox.add(path, entry, now);
                true
            }
            Ok((_, Ok(Ready::Folder))) => redirect(req, res),
            Ok((_, Err(error))) if is_shortage(&error) => {
                shed(&error, res);
                true
            }
            Ok((path, Err(error))) => {
                log::debug!("no file to serve: {path}: {error}");
                false
            }
            Err(failed) => {
                log::error!("a file cannot be served: {failed}");
                res.status(500).text("the file cannot be read\n");
                true
            }
        });
        if answered != Some(true) {
            res.status(404).text("there is nothing here\n");
        }
    });
}
