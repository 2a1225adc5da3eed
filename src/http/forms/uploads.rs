//! Uploads to files, written beside the loop.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::upload_writer::{
    Backlog, Books, Call, Job, OnError, Pipe, Writer, create_directory, lock,
};
use crate::http::body::Flow;
use crate::http::refusal::Refusal;
use crate::offload::Offload;
use crate::options::setters;

/// Limits of [`Uploads`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadOptions {
    /// Max bytes of all files of the directory together. Default 1 GiB.
    pub max_bytes: u64,
    /// Max files in the directory. Default 1,000.
    pub max_files: u64,
    /// Max bytes of the fields of one form that are no files, together. Default 64 KiB.
    pub max_text_bytes: usize,
    /// Max bytes that wait to be written, of all uploads together. Above that, bodies are paused;
    /// each may still add the rest of its current read, at most 132 KiB. Default 4 MiB.
    pub max_queued_bytes: usize,
}

impl Default for UploadOptions {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            max_files: 1_000,
            max_text_bytes: 64 << 10,
            max_queued_bytes: 4 << 20,
        }
    }
}

impl UploadOptions {
    setters! {
        max_bytes: u64,
        max_files: u64,
        max_text_bytes: usize,
        max_queued_bytes: usize,
    }
}

/// A directory for uploaded files, which the threads of an [`Offload`] write. See
/// [`Response::receive_files`](crate::http::Response::receive_files).
///
/// No other program should write to the directory, and it must not be below a directory whose files
/// are served. Files get random names, can be read by this user only, and are removed unless
/// [kept](UploadedFile::keep). Files that a killed process has left stay in the directory, and
/// count when it is opened again.
///
/// Clones share the directory, its limits and its queue. If a process opens a directory more than
/// once, as each reactor of a fleet may, the files and bytes of all count together. The pieces of
/// all files of one `Uploads` are written one after the other, so they use one thread of the
/// offload at a time. If the offload is full, a request is answered with 503.
///
/// # Examples
/// ```no_run
/// use waterwheel::Reactor;
/// use waterwheel::http::{Route, Router, UploadOptions, Uploads};
/// use waterwheel::offload::{Offload, OffloadOptions};
///
/// let mut reactor = Reactor::new()?;
/// let offload = Offload::new(&mut reactor, OffloadOptions::default().name("files"))?;
/// let options = UploadOptions::default().max_bytes(10 << 30);
/// let uploads = Uploads::open("/var/lib/program/uploads", &offload, options)?;
/// let upload = Route::new().post(move |_, req, res| {
///     res.receive_files(req, &uploads, |_, received, res| {
///         let count = received.files.len();
///         received.files.into_iter().for_each(|file| drop(file.keep()));
///         res.text(&format!("{count} files\n"));
///     });
/// });
/// let routes: Router<()> = Router::new().route("/upload", upload.max_body_bytes(1 << 30));
/// # let _ = routes;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Uploads {
    inner: Arc<Inner>,
}

/// Bytes that may wait when paused bodies go on.
fn low_mark(options: &UploadOptions) -> usize {
    options.max_queued_bytes / 2
}

struct Inner {
    directory: PathBuf,
    options: UploadOptions,
    books: Arc<Mutex<Books>>,
    /// What waits for the threads of its own offload.
    backlog: Arc<Mutex<Backlog>>,
    next: AtomicU64,
    pipe: Arc<Pipe>,
}

impl Uploads {
    /// Opens a directory, whose files the threads of `offload` will write. A missing directory is
    /// created, for this user alone; its parent must exist. Files that are there already count.
    ///
    /// The call itself reads the directory on this thread: make it before the loop runs.
    ///
    /// # Errors
    /// - The system's, if the directory cannot be created or read; the text names the directory.
    pub fn open(
        directory: impl Into<PathBuf>,
        offload: &Offload,
        options: UploadOptions,
    ) -> io::Result<Self> {
        let directory = directory.into();
        let opened = create_directory(&directory).and_then(|()| Books::of(&directory));
        let books = opened.map_err(|error| unopened(&directory, &error))?;
        let backlog = Arc::default();
        let low_mark = low_mark(&options);
        let writer = Writer::new(Arc::clone(&books), Arc::clone(&backlog), low_mark);
        let pipe = Arc::new(Pipe::new(offload, writer));
        let next = AtomicU64::new(0);
        Ok(Self { inner: Arc::new(Inner { directory, options, books, backlog, next, pipe }) })
    }

    /// The number of files, and their bytes, that count against the limits now.
    #[must_use]
    pub fn used(&self) -> (u64, u64) {
        let books = lock(&self.inner.books);
        (books.files, books.bytes)
    }

    /// Removes a file that was kept, by its [name](UploadedFile::name), on a thread of the offload.
    /// Any other text removes nothing. So does the name of a file that is not kept so far, because
    /// that file is removed when its [`UploadedFile`] is dropped.
    pub fn remove(&self, name: &str) {
        if lock(&self.inner.books).unkept.contains(name) {
            return;
        }
        if let Some(path) = self.path_of(name) {
            let _ = self.ask(Job::Remove { file: None, path }); // never refused
        }
    }

    /// The file of a name, if it is such a name: never a path out of the directory.
    pub(super) fn path_of(&self, name: &str) -> Option<PathBuf> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_name = name.len() == 32 && name.bytes().all(is_digit);
        is_name.then(|| self.inner.directory.join(name))
    }

    pub(super) fn options(&self) -> &UploadOptions {
        &self.inner.options
    }

    pub(super) fn ask(&self, job: Job) -> Result<(), Refusal> {
        self.inner.ask(job)
    }

    /// Begins a file.
    pub(super) fn create(&self, on_error: &OnError) -> Result<Claim, Refusal> {
        let mut random = [0; 16];
        if getrandom::fill(&mut random).is_err() {
            return Err(Refusal::new(500, "the server has no random name for the file"));
        }
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        {
            let mut books = lock(&self.inner.books);
            if books.files >= self.inner.options.max_files {
                return Err(Refusal::new(507, "the server has no room for another file"));
            }
            books.files += 1;
            books.unkept.insert(name.clone());
        }
        let path = self.inner.directory.join(&name);
        let file = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let job = Job::Create { file, path: path.clone(), on_error: Arc::clone(on_error) };
        if let Err(refusal) = self.ask(job) {
            let mut books = lock(&self.inner.books);
            books.files = books.files.saturating_sub(1);
            books.unkept.remove(&name);
            return Err(refusal);
        }
        Ok(Claim { inner: Arc::clone(&self.inner), file, name, path, bytes: 0, is_kept: false })
    }
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads").field("directory", &self.inner.directory).finish_non_exhaustive()
    }
}

impl Inner {
    fn ask(&self, job: Job) -> Result<(), Refusal> {
        self.pipe.ask(job).map_err(|_| Refusal::new(503, "the server is busy; try again"))
    }
}

/// Why a directory cannot be opened for uploads.
fn unopened(directory: &Path, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; the directory above it must be there",
        io::ErrorKind::AlreadyExists => "; it is no directory",
        _ => "",
    };
    let directory = directory.display();
    io::Error::new(error.kind(), format!("cannot open {directory} for uploads: {error}{hint}"))
}

/// A file of its own, removed on drop unless it is kept.
pub(super) struct Claim {
    inner: Arc<Inner>,
    file: u64,
    name: String,
    path: PathBuf,
    bytes: u64,
    is_kept: bool,
}

impl Claim {
    /// Has bytes appended; whether more are wanted now. If not, `resume` is called once they are.
    pub(super) fn write(
        &mut self,
        data: &[u8],
        resume: impl FnOnce() -> Call,
    ) -> Result<Flow, Refusal> {
        let options = &self.inner.options;
        let count = data.len() as u64;
        {
            let mut books = lock(&self.inner.books);
            let bytes = books.bytes.saturating_add(count);
            if self.bytes.saturating_add(count) > options.max_bytes {
                return Err(Refusal::new(413, "the file is larger than all that the server keeps"));
            }
            if bytes > options.max_bytes {
                return Err(Refusal::new(507, "the server has no room for the file"));
            }
            books.bytes = bytes;
        }
        let most = options.max_queued_bytes;
        let is_full = lock(&self.inner.backlog).add(data.len(), most, resume);
        self.bytes += count;
        let asked = self.inner.ask(Job::Write { file: self.file, bytes: data.to_vec() });
        if asked.is_err() {
            let paused = lock(&self.inner.backlog).take_off(data.len(), low_mark(options));
            paused.into_iter().for_each(|resume| resume());
        }
        asked.map(|()| if is_full { Flow::Pause } else { Flow::More })
    }

    /// The file is complete.
    pub(super) fn close(&self) {
        let _ = self.inner.ask(Job::Close { file: self.file }); // never refused
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.inner.books).unkept.remove(&self.name);
        if !self.is_kept {
            let path = std::mem::take(&mut self.path);
            // Never refused.
            let _ = self.inner.ask(Job::Remove { file: Some((self.file, self.bytes)), path });
        }
    }
}

/// A file that was uploaded. It is removed on drop, unless it is [kept](Self::keep).
pub struct UploadedFile {
    pub(super) claim: Claim,
    pub(super) field: String,
    pub(super) file_name: String,
    pub(super) content_type: Option<String>,
}

impl UploadedFile {
    /// The name of the field of the form.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The name that the client says the file has. A stranger has chosen it: never use it as a
    /// path. See [`Part::file_name`](crate::http::Part::file_name).
    #[must_use]
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// The media type that the client says the file is of.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// The length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.claim.bytes
    }

    /// The name in the directory: 32 hexadecimal digits that cannot be guessed.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.claim.name
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.claim.path
    }

    /// Keeps the file, and returns its name in the directory. The file counts against the limits
    /// until it is [removed](Uploads::remove).
    #[must_use = "the file is found by its name only"]
    pub fn keep(mut self) -> String {
        self.claim.is_kept = true;
        self.claim.name.clone()
    }
}

impl fmt::Debug for UploadedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("UploadedFile");
        text.field("field", &self.field).field("file_name", &self.file_name);
        text.field("path", &self.claim.path).field("length", &self.claim.bytes);
        text.finish_non_exhaustive()
    }
}
