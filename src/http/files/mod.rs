//! Files of a directory.

mod cache;
mod coding;
mod conditions;
mod form;
mod later;
mod open;
mod owned_request;
mod path;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use cache::Cache;
use coding::CODINGS;
use conditions::Conditions;
pub(super) use conditions::Verdict;
#[cfg(any(test, fuzzing))]
pub(super) use conditions::judge_range;
use form::{Description, Entry, Form};
use later::Inbox;
use open::{Found, Opened};

use super::fields;
use super::file::{send, send_whole};
use super::method::Method;
use super::request::Request;
use super::response::Response;
use super::router::{Route, Router};
use super::status::is_without_body;
use crate::offload::Offload;
use crate::sys::Shortage;

/// For how long a file is taken for what it was when it was last looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of a path that stand for themselves in a URI, as `Location` has it.
const PATH_SET: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What can be set.
#[derive(Clone, Debug)]
struct Settings {
    root: PathBuf,
    index: Option<String>,
    cache_control: Option<String>,
    precompressed: bool,
    hidden_files: bool,
    symlinks: bool,
    max_cache_bytes: usize,
    max_open_files: usize,
    /// Where files are opened that are not known yet.
    offload: Option<Offload>,
}

/// Serves the files of a directory, for GET and HEAD; see [`Router::files`].
///
/// | | |
/// |---|---|
/// | ranges | one range of bytes is answered 206, or 416; several are answered whole; `If-Range` |
/// | conditions | `If-Match`, `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since` |
/// | tags | strong ones, of length, time of change and inode; `Last-Modified` |
/// | type | by the ending; text is UTF-8; `X-Content-Type-Options: nosniff` |
/// | `x.br`, `x.zst`, `x.gz` beside `x` | the copy that the client prefers; `Vary` |
/// | a directory | its `index.html`; a redirect if the path has no slash at its end |
///
/// # What is not served
/// All of this is 404, whether it is there or not:
/// - Names that begin with a dot, unless [`hidden_files`](Self::hidden_files) is on.
/// - Links and what is reached through them, unless [`symlinks`](Self::symlinks) is on. No link
///   leads out of the directory even then.
/// - Pipes, sockets and devices. They are not even opened.
/// - Names that another system reads differently. These are names with `\`, `:`, a control
///   character or an escaped slash, names that end with a dot or a space, and names of devices on
///   Windows, such as `con.txt`.
///
/// On Unix the directories of a path are opened one by one, from the root on. So a directory that
/// is moved or linked meanwhile cannot lead outside.
///
/// # Memory and time
/// Files of up to 16 KiB are kept in memory and are sent together with the head. Larger files stay
/// open and are sent as [`Conn::send_file`](crate::Conn::send_file) does. Both caches are bounded,
/// and are compared with the disk at most once a second, so a change shows after a second. A
/// compressed copy is used only if it is not older than the file. If a file becomes shorter while
/// it is sent, the connection is reset: replace files by renaming.
///
/// A large file that was removed takes space on the disk for as long as it is kept open. Files that
/// are not in the kernel's cache are read from the disk on the loop's thread, unless there is an
/// [`offload`](Self::offload).
///
/// # Examples
/// ```no_run
/// use waterwheel::http::{Files, Router, Server};
/// use waterwheel::{ListenOptions, Reactor, http};
///
/// let routes = Router::new()
///     .get("/hello", |_, _, res| res.text("hello\n"))
///     .files("/static", Files::new("public").cache_control("max-age=3600"));
/// let mut reactor = Reactor::new()?;
/// let web = reactor.register(Server::new((), routes));
/// reactor.listen("127.0.0.1:8080", web, ListenOptions::default().limits(http::limits()))?;
/// reactor.run()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Files {
    settings: Settings,
    cache: Cache,
    /// What was found beside the loop, for the cache.
    inbox: Inbox,
    /// Whether it was logged that the root cannot be opened.
    is_reported: bool,
}

impl Files {
    /// The files below a directory. It need not be there yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let settings = Settings {
            root: root.into(),
            index: Some("index.html".to_owned()),
            cache_control: None,
            precompressed: true,
            hidden_files: false,
            symlinks: false,
            max_cache_bytes: 16 << 20,
            max_open_files: 16,
            offload: None,
        };
        Self::with(settings)
    }

    fn with(settings: Settings) -> Self {
        let cache = Cache::new(settings.max_cache_bytes, settings.max_open_files);
        Self { settings, cache, inbox: Inbox::default(), is_reported: false }
    }

    /// The file that is sent for a directory; `None` for none. Default `index.html`.
    #[must_use]
    pub fn index(mut self, name: Option<&str>) -> Self {
        self.settings.index = name.map(str::to_owned);
        self
    }

    /// Sets `Cache-Control` of all answers with a file. Default: none.
    ///
    /// # Panics
    /// If the value has a control character.
    #[must_use]
    pub fn cache_control(mut self, value: &str) -> Self {
        if let Err(error) = fields::check("Cache-Control", value.as_bytes()) {
            panic!("{error}");
        }
        self.settings.cache_control = Some(value.to_owned());
        self
    }

    /// Whether compressed copies beside a file are sent to clients that take them. Default yes.
    #[must_use]
    pub fn precompressed(mut self, yes: bool) -> Self {
        self.settings.precompressed = yes;
        self
    }

    /// Whether names that begin with a dot are served, as `.well-known`. Default no.
    #[must_use]
    pub fn hidden_files(mut self, yes: bool) -> Self {
        self.settings.hidden_files = yes;
        self
    }

    /// Whether symbolic links are followed that lead to something below the directory. Default no.
    #[must_use]
    pub fn symlinks(mut self, yes: bool) -> Self {
        self.settings.symlinks = yes;
        self
    }

    /// The memory for small files, in bytes. Default 16 MiB; 0 keeps none.
    #[must_use]
    pub fn max_cache_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_cache_bytes = bytes;
        Self::with(self.settings)
    }

    /// How many large files are kept open. Default 16. They count to the open-file limit, of which
    /// a reactor leaves [`FILE_RESERVE`](crate::FILE_RESERVE) to the program.
    #[must_use]
    pub fn max_open_files(mut self, files: usize) -> Self {
        self.settings.max_open_files = files;
        Self::with(self.settings)
    }

    /// Opens and reads files that are not in memory on the threads of an offload, so that a slow
    /// disk, or a directory on the network, does not hold up the loop. What is in memory is served
    /// as fast as without an offload. The threads also compare it with the disk, once a second: one
    /// request waits for that, and the others are answered from memory meanwhile. If the offload is
    /// full, that request is answered from memory too. Default: none; all is done on the loop.
    ///
    /// [`try_serve`](Self::try_serve) cannot say then whether there is a file that is not in
    /// memory: it returns `true`, and the answer may be 404. If the offload is full the answer is
    /// 503. The bytes of a large file are still read from the disk as they are sent.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::Reactor;
    /// use waterwheel::http::{Files, Router, Server};
    /// use waterwheel::offload::{Offload, OffloadOptions};
    ///
    /// let mut reactor = Reactor::new()?;
    /// let offload = Offload::new(&mut reactor, OffloadOptions::default().name("files"))?;
    /// let routes = Router::new().files("/static", Files::new("public").offload(&offload));
    /// let web = reactor.register(Server::new((), routes));
    /// # let _ = web;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn offload(mut self, offload: &Offload) -> Self {
        self.settings.offload = Some(offload.clone());
        self
    }

    /// Answers with the file of a path, or with 404. The path is relative to the directory, with
    /// its escapes decoded: what stands for a `{*path}` of a route.
    ///
    /// If another status than 200 was set before, as 404 for a page that says so, the answer has
    /// it: the file is sent whole then, whatever range or condition the request has.
    ///
    /// # Examples
    /// ```
    /// use waterwheel::http::{Files, Router};
    /// let mut files = Files::new("public");
    /// let routes: Router<()> = Router::new().get("/user/{name}/{*path}", move |_, req, res| {
    ///     files.serve(&format!("{}/{}", req.param("name"), req.param("path")), req, res);
    /// });
    /// # let _ = routes;
    /// ```
    pub fn serve<A: 'static>(&mut self, path: &str, req: &Request<'_>, res: &mut Response<'_, A>) {
        if !self.try_serve(path, req, res) {
            res.status(404).text("there is nothing here\n");
        }
    }

    /// Answers with the file of a path, or returns `false` without an answer if there is none.
    ///
    /// # Examples
    /// A page that handles all other paths itself, in the browser:
    /// ```
    /// use waterwheel::http::{Files, Router};
    /// let mut files = Files::new("public");
    /// let routes: Router<()> = Router::new().get("/{*path}", move |_, req, res| {
    ///     if !files.try_serve(req.param("path"), req, res) {
    ///         files.serve("index.html", req, res);
    ///     }
    /// });
    /// # let _ = routes;
    /// ```
    pub fn try_serve<A: 'static>(
        &mut self,
        path: &str,
        req: &Request<'_>,
        res: &mut Response<'_, A>,
    ) -> bool {
        if !matches!(req.method(), Method::Get | Method::Head) {
            res.status(405).header("Allow", "GET, HEAD");
            res.text("the resource does not take this method\n");
            return true;
        }
        let cx = res.conn.context();
        let now = cx.now();
        match self.cache.find(path) {
            Some((place, fresh_until)) if now < fresh_until => {
                answer(self.cache.get(place), req, res);
                true
            }
            known => {
                let time = cx.system_time();
                self.look(path, known.map(|(place, _)| place), (now, time), req, res)
            }
        }
    }

    /// Compares what is known of a path with the disk, and answers.
    #[cold]
    fn look<A: 'static>(
        &mut self,
        path: &str,
        known: Option<usize>,
        (now, time): (Duration, SystemTime),
        req: &Request<'_>,
        res: &mut Response<'_, A>,
    ) -> bool {
        if let Some(offload) = &self.settings.offload {
            self.inbox.empty_into(&mut self.cache);
            let found = self.cache.find(path).map(|(place, _)| place);
            let known = found.and_then(|place| self.cache.ask(place, now));
            if let (Some(place), None) = (found, &known) {
                // Others have had it compared, or are about to.
                answer(self.cache.get(place), req, res);
                return true;
            }
            later::look(path, known, &self.settings, (offload, &self.inbox), time, req, res);
            return true;
        }
        let mut found = self.settings.open(path);
        if matches!(&found, Err(error) if is_shortage(error)) {
            self.cache.close_files();
            found = self.settings.open(path);
        }
        let entry = match found {
            Ok(Found::Folder) => return redirect(req, res),
            Ok(Found::File { plain, coded, name }) => {
                if let Some(place) = known {
                    if self.cache.get(place).is_of(&plain, &coded) {
                        self.cache.confirm(place, now);
                        answer(self.cache.get(place), req, res);
                        return true;
                    }
                }
                self.settings.describe(plain, coded, &name, time)
            }
            Err(error) => Err(error),
        };
        match entry.map(|entry| self.cache.insert(path, Arc::new(entry), now)) {
            Ok(Ok(place)) => answer(self.cache.get(place), req, res),
            Ok(Err(entry)) => answer(&entry, req, res),
            Err(error) => {
                self.cache.remove(path);
                return self.refuse(&error, res);
            }
        }
        true
    }

    /// The answer where no file can be opened; `false` leaves it to the caller.
    fn refuse<A: 'static>(&mut self, error: &io::Error, res: &mut Response<'_, A>) -> bool {
        if is_shortage(error) {
            shed(error, res);
            return true;
        }
        if !self.is_reported && !self.settings.root.is_dir() {
            self.is_reported = true;
            log::error!("{}: no directory to serve files of", self.settings.root.display());
        }
        log::debug!("no file to serve: {error}");
        false
    }
}

impl Settings {
    /// Reads what is small, and makes the fields.
    fn describe(
        &self,
        plain: Opened,
        coded: [Option<Opened>; CODINGS.len()],
        name: &str,
        now: SystemTime,
    ) -> io::Result<Entry> {
        let has_coded = coded.iter().any(Option::is_some);
        let media_type = media_type(name);
        let cache_control = self.cache_control.as_deref();
        let about = Description { media_type: &media_type, cache_control, varies: has_coded, now };
        let mut forms = [const { None }; CODINGS.len()];
        for ((coding, copy), form) in CODINGS.iter().zip(coded).zip(&mut forms) {
            if let Some(Opened { file, stamp }) = copy {
                *form = Some(Box::new(Form::new(file, stamp, Some(coding), about)?));
            }
        }
        let plain = Form::new(plain.file, plain.stamp, None, about)?;
        Ok(Entry { plain, coded: forms, has_coded })
    }
}

/// Whether descriptors have run out, of the process or of the system.
fn is_shortage(error: &io::Error) -> bool {
    Shortage::of(error) == Shortage::Descriptors
}

fn shed<A: 'static>(error: &io::Error, res: &mut Response<'_, A>) {
    log::warn!("a file cannot be served: {error}");
    res.status(503).header("Retry-After", "1").text("too many files are open\n");
}

impl Entry {
    /// Whether files are what they were when it was made of them.
    fn is_of(&self, plain: &Opened, coded: &[Option<Opened>; CODINGS.len()]) -> bool {
        let known = self.coded.iter().map(|form| form.as_ref().map(|form| form.stamp));
        let found = coded.iter().map(|copy| copy.as_ref().map(|copy| copy.stamp));
        self.plain.stamp == plain.stamp && known.eq(found)
    }
}

/// The type of a file by the ending of its name, with the charset of text.
fn media_type(name: &str) -> String {
    let guess = mime_guess::from_path(name).first_raw().unwrap_or("application/octet-stream");
    let is_text = guess.starts_with("text/") || guess == "application/javascript";
    if is_text { format!("{guess}; charset=utf-8") } else { guess.to_owned() }
}

/// Answers with a form of a file.
#[inline]
fn answer<A: 'static>(entry: &Entry, req: &Request<'_>, res: &mut Response<'_, A>) {
    if !res.is_unanswered() {
        return res.refuse_second();
    }
    if res.exchange.is_failed {
        return super::respond::fail(res);
    }
    let conditions = Conditions::of(req);
    let mut form = &entry.plain;
    if entry.has_coded && conditions.has_codings {
        let named = req.headers().filter(|(name, _)| name.eq_ignore_ascii_case("accept-encoding"));
        let chosen = coding::choose(named.map(|(_, v)| v), |at| entry.coded[at].is_some());
        form = chosen.and_then(|at| entry.coded[at].as_deref()).unwrap_or(form);
    }
    if res.exchange.status != 200 {
        return answer_as_page(form, res);
    }
    let verdict = conditions.judge(req, || form.facts(res.conn.context().system_time()));
    match verdict {
        Verdict::Whole => send_whole(res, form.fields(), form.source(0..form.stamp.length)),
        verdict => answer_otherwise(verdict, form, res),
    }
}

/// Answers with a file as the page of a status that was set. What a client has of another answer
/// is no part of it, and no condition is about it.
#[cold]
fn answer_as_page<A: 'static>(form: &Form, res: &mut Response<'_, A>) {
    if is_without_body(res.exchange.status) {
        return res.empty();
    }
    send(res, &[b"", b"", b""], form.fields(), form.source(0..form.stamp.length));
}

/// Answers with a part of a file, or without it.
#[cold]
fn answer_otherwise<A: 'static>(verdict: Verdict, form: &Form, res: &mut Response<'_, A>) {
    let length = form.stamp.length;
    match verdict {
        Verdict::Whole => {}
        Verdict::Part(range) => answer_part(range, form, res),
        Verdict::NotModified => {
            res.exchange.status = 304;
            send(res, &[form.validators(), b"", b""], b"\r\n", form.source(0..0));
        }
        Verdict::Failed => {
            res.status(412).text("the file is not what the condition says\n");
        }
        Verdict::Unsatisfiable => {
            res.status(416).header("Content-Range", format!("bytes */{length}"));
            res.text("the range is not in the file\n");
        }
    }
}

fn answer_part<A: 'static>(range: Range<u64>, form: &Form, res: &mut Response<'_, A>) {
    let (first, last, all) = (range.start, range.end - 1, form.stamp.length);
    let length = range.end - range.start;
    let tail = format!("Content-Length: {length}\r\n\r\n");
    let content_range = format!("Content-Range: bytes {first}-{last}/{all}\r\n");
    let own = [form.description(), content_range.as_bytes(), b""];
    res.exchange.status = 206;
    send(res, &own, tail.as_bytes(), form.source(range));
}

/// Leads from a directory to the same with a slash, so that links in its page are below it.
fn redirect<A: 'static>(req: &Request<'_>, res: &mut Response<'_, A>) -> bool {
    let path = req.path();
    // Two slashes would lead to another host.
    if !path.starts_with('/') || path.starts_with("//") || path.ends_with('/') {
        return false;
    }
    let path = utf8_percent_encode(path, PATH_SET);
    let location = match req.query() {
        Some(query) => format!("{path}/?{query}"),
        None => format!("{path}/"),
    };
    res.status(301).redirect(&location);
    true
}

impl<A: 'static> Router<A> {
    /// Serves the files of a directory below a path, for GET and HEAD.
    ///
    /// `path` has no `{*name}` at its end: that is added here.
    ///
    /// # Panics
    /// As [`route`](Self::route), and if the path has a `{*name}`.
    ///
    /// # Examples
    /// See [`Files`].
    #[must_use]
    pub fn files(self, path: &str, files: Files) -> Self {
        assert!(!path.contains("{*"), "give the path of files without its last part: {path:?}");
        let below = path.trim_end_matches('/');
        let root = Route::new().get(serve_root(Files::with(files.settings.clone())));
        let all = Route::new().get(serve_below(files));
        let router =
            self.route(&format!("{below}/"), root).route(&format!("{below}/{{*path}}"), all);
        if below.is_empty() {
            return router;
        }
        router.get(below, |_, req, res| {
            redirect(req, res);
        })
    }
}

/// The handler of the directory itself.
fn serve_root<A: 'static>(
    mut files: Files,
) -> impl FnMut(&mut A, &Request<'_>, &mut Response<'_, A>) + 'static {
    move |_, req, res| files.serve("", req, res)
}

/// The handler of what is in the directory.
fn serve_below<A: 'static>(
    mut files: Files,
) -> impl FnMut(&mut A, &Request<'_>, &mut Response<'_, A>) + 'static {
    move |_, req, res| files.serve(req.param("path"), req, res)
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("settings", &self.settings).finish_non_exhaustive()
    }
}
