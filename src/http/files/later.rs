//! Files that are opened and read beside the loop.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::cache::Cache;
use super::form::Entry;
use super::open::Found;
use super::owned_request::OwnedRequest;
use super::{CHECK_INTERVAL, Settings, answer, is_shortage, redirect, shed};
use crate::http::request::Request;
use crate::http::response::Response;
use crate::offload::{Failed, Offload};

/// What was found that waits for the cache: the next request that is not answered from it takes it
/// over. With more it is only answered with, and a known file is compared again.
const MAX_WAITING: usize = 16;

/// What was found, for the cache of the loop.
#[derive(Clone, Debug, Default)]
pub(super) struct Inbox {
    found: Arc<Mutex<Vec<Waiting>>>,
}

#[derive(Debug)]
struct Waiting {
    path: String,
    news: News,
    /// When the file was looked at, by the time of the loop.
    checked: Duration,
}

/// What is known of a path from now on.
#[derive(Debug)]
enum News {
    File(Arc<Entry>),
    /// The file is what it was.
    Same,
    /// There is no such file any more.
    Gone,
}

impl Inbox {
    fn add(&self, path: String, news: News, checked: Duration) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() < MAX_WAITING {
            found.push(Waiting { path, news, checked });
        }
    }

    pub(super) fn empty_into(&self, cache: &mut Cache) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        for Waiting { path, news, checked } in found.drain(..) {
            let known = cache.find(&path);
            if known.is_some_and(|(_, fresh_until)| fresh_until > checked + CHECK_INTERVAL) {
                continue; // a slower thread has found what was there before
            }
            match (news, known) {
                // What has no place is let go.
                (News::File(entry), _) => drop(cache.insert(&path, entry, checked)),
                (News::Same, Some((place, _))) => cache.confirm(place, checked),
                (News::Same, None) => {}
                (News::Gone, _) => cache.remove(&path),
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
    File(Arc<Entry>),
    /// What is known already.
    Same(Arc<Entry>),
    Folder,
}

impl Settings {
    /// Opens what a path stands for, and reads it unless that is known.
    fn prepare(
        &self,
        path: &str,
        known: Option<Arc<Entry>>,
        time: SystemTime,
    ) -> io::Result<Ready> {
        match (self.open(path)?, known) {
            (Found::Folder, _) => Ok(Ready::Folder),
            (Found::File { plain, coded, .. }, Some(known)) if known.is_of(&plain, &coded) => {
                Ok(Ready::Same(known))
            }
            (Found::File { plain, coded, name }, _) => {
                self.describe(plain, coded, &name, time).map(|entry| Ready::File(Arc::new(entry)))
            }
        }
    }
}

/// Has a file opened, or one that is known compared with the disk, and answers then.
pub(super) fn look<A: 'static>(
    path: &str,
    known: Option<Arc<Entry>>,
    settings: &Settings,
    (offload, inbox): (&Offload, &Inbox),
    time: SystemTime,
    req: &Request<'_>,
    res: &mut Response<'_, A>,
) {
    let (path, settings, inbox) = (path.to_owned(), settings.clone(), inbox.clone());
    let (owned, kept) = (OwnedRequest::of(req, is_condition), known.clone());
    let is_known = known.is_some();
    let work = move |(): &mut ()| {
        let ready = settings.prepare(&path, known, time);
        (path, ready)
    };
    let now = res.context().now(); // before the work: what is older is looked at again earlier
    let (id, server) = (res.later(), res.server());
    let tell = move |path, news: News| {
        if is_known || !matches!(news, News::Gone) {
            inbox.add(path, news, now);
        }
    };
    let accepted = offload.run((), server, work, move |server, cx, found| {
        server.answer(cx, id, |_, res| {
            if owned.lend(|req| answer_found(found, tell, req, res)) != Some(true) {
                res.status(404).text("there is nothing here\n");
            }
        });
    });
    match (accepted, kept) {
        (Ok(_), _) => {}
        (Err(error), Some(known)) => {
            log::debug!("{id}: a file is served as it was: {error}");
            answer(&known, req, res);
        }
        (Err(error), None) => {
            log::warn!("{id}: {error}");
            res.status(503).header("Retry-After", "1").text("the server is busy; try again\n");
        }
    }
}

/// Answers with what was found, and has the cache told; `false` without an answer if it is nothing.
fn answer_found<A: 'static>(
    found: Result<(String, io::Result<Ready>), Failed>,
    tell: impl Fn(String, News),
    req: &Request<'_>,
    res: &mut Response<'_, A>,
) -> bool {
    match found {
        Ok((path, Ok(Ready::File(entry)))) => {
            answer(&entry, req, res);
            tell(path, News::File(entry));
        }
        Ok((path, Ok(Ready::Same(entry)))) => {
            answer(&entry, req, res);
            tell(path, News::Same);
        }
        Ok((path, Ok(Ready::Folder))) => {
            tell(path, News::Gone);
            return redirect(req, res);
        }
        Ok((_, Err(error))) if is_shortage(&error) => shed(&error, res),
        Ok((path, Err(error))) => {
            log::debug!("no file to serve: {path}: {error}");
            tell(path, News::Gone);
            return false;
        }
        Err(failed) => {
            log::error!("a file cannot be served: {failed}");
            res.status(500).text("the file cannot be read\n");
        }
    }
    true
}
