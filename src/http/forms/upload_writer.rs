//! What writes uploads beside the loop, and what it shares with the loop.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::base::memory::GiveBack;
use crate::base::panics;
use crate::offload::{NotAccepted, Offload};

/// Bytes that wait as one job, if they come in smaller pieces. Paused bodies go on job by job, so
/// it is much less than may wait.
const MAX_JOINED_BYTES: usize = 64 << 10;

/// What is called once, on the writer's thread.
pub(super) type Call = Box<dyn FnOnce() + Send>;

/// Whom a request has told of a failure; taken by the first.
pub(super) type OnError = Arc<Mutex<Option<Box<dyn FnOnce(&io::Error) + Send>>>>;

/// What is done, in the order in which it is asked.
pub(super) enum Job {
    /// Creates a file.
    Create { file: u64, path: PathBuf, on_error: OnError },
    /// Appends to it.
    Write { file: u64, bytes: Vec<u8> },
    /// Closes it: it is complete.
    Close { file: u64 },
    /// Removes a file, closed or not. Its bytes count no longer.
    Remove { file: Option<(u64, u64)>, path: PathBuf },
    /// Opens a file for reading.
    Open { path: PathBuf, then: Box<dyn FnOnce(io::Result<File>) + Send> },
    /// Says that all before is done.
    Say(Call),
}

/// What is used of a directory.
#[derive(Default)]
pub(super) struct Books {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Names of files that are not kept so far, each of which has an end of its own: one that were
    /// removed by its name too would be taken off twice.
    pub(super) unkept: HashSet<String>,
}

/// What waits to be written by one writer, and who waits for it.
#[derive(Default)]
pub(super) struct Backlog {
    bytes: usize,
    /// Bodies that are paused until few bytes wait.
    paused: Vec<Call>,
}

impl Backlog {
    /// So many bytes wait too. If they are more than `most` then, `resume` is called once few do;
    /// returns whether that is so.
    pub(super) fn add(&mut self, bytes: usize, most: usize, resume: impl FnOnce() -> Call) -> bool {
        self.bytes += bytes;
        let is_full = self.bytes > most;
        if is_full {
            self.paused.push(resume());
        }
        is_full
    }

    /// So many bytes wait no more; who goes on because of that.
    pub(super) fn take_off(&mut self, bytes: usize, low_mark: usize) -> Vec<Call> {
        self.bytes -= bytes;
        if self.bytes <= low_mark { std::mem::take(&mut self.paused) } else { Vec::new() }
    }
}

/// The books of the directories that the process has open: two that count alone would each fill
/// the directory up to the limit.
static OPEN: Mutex<Vec<(PathBuf, Weak<Mutex<Books>>)>> = Mutex::new(Vec::new());

impl Books {
    /// The uploads of a directory, in which the files count that are there.
    pub(super) fn of(directory: &Path) -> io::Result<Arc<Mutex<Self>>> {
        let path = directory.canonicalize()?;
        let mut open = lock(&OPEN);
        open.retain(|(_, books)| books.strong_count() > 0);
        let known = open.iter().find(|(known, _)| *known == path);
        if let Some(books) = known.and_then(|(_, books)| books.upgrade()) {
            return Ok(books);
        }
        let books = Arc::new(Mutex::new(Self::count(&path)?));
        open.push((path, Arc::downgrade(&books)));
        Ok(books)
    }

    fn count(directory: &Path) -> io::Result<Self> {
        let mut books = Self::default();
        for entry in fs::read_dir(directory)? {
            let found = match entry?.metadata() {
                Ok(found) => found,
                // It was removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if found.is_file() {
                books.files += 1;
                books.bytes += found.len();
            }
        }
        Ok(books)
    }
}

/// Locks what is shared. A panic elsewhere leaves nothing half done in it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that is being written.
struct Open {
    file: File,
    on_error: OnError,
}

/// What is asked for and not done yet, and what does it: one job of the offload at a time.
pub(super) struct Pipe {
    offload: Offload,
    waiting: Mutex<Waiting>,
    writer: Mutex<Writer>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Whether a job of the offload does them, or will.
    is_taken: bool,
}

impl Waiting {
    /// Puts a job behind all others. A piece of a file joins the one before it: a client chooses
    /// how small the pieces are, and each job costs many times its two bytes.
    fn push(&mut self, job: Job) {
        match (self.jobs.back_mut(), job) {
            (Some(Job::Write { file, bytes }), Job::Write { file: next, bytes: more })
                if *file == next && bytes.len() + more.len() <= MAX_JOINED_BYTES =>
            {
                bytes.extend_from_slice(&more);
            }
            (_, job) => self.jobs.push_back(job),
        }
    }
}

impl Pipe {
    pub(super) fn new(offload: &Offload, writer: Writer) -> Self {
        let waiting = Mutex::new(Waiting::default());
        Self { offload: offload.clone(), waiting, writer: Mutex::new(writer) }
    }

    /// Has a job done behind all others. If the offload is full the job is not taken, unless it
    /// ends something: else what is over would keep its file, and its place, until another upload
    /// is taken, and there may be no place for one.
    pub(super) fn ask(self: &Arc<Self>, job: Job) -> Result<(), NotAccepted> {
        let ends = matches!(job, Job::Close { .. } | Job::Remove { .. });
        let errand; // its end may do what waits, and so comes behind that of the lock
        let mut waiting = lock(&self.waiting);
        waiting.push(job);
        if waiting.is_taken {
            return Ok(());
        }
        errand = Arc::new(Errand { pipe: Arc::clone(self), is_over: AtomicBool::new(false) });
        let sent = Arc::clone(&errand);
        let run = move |(): &mut ()| sent.run();
        let asked = match ends {
            true => self.offload.run_past_cap((), run), // at most one for each pipe
            false => self.offload.run_alone((), run),
        };
        match asked {
            Ok(_) => {
                waiting.is_taken = true;
                Ok(())
            }
            Err(NotAccepted::Stopped) => {
                // No loop waits any more.
                waiting.is_taken = true;
                drop(waiting);
                errand.run();
                Ok(())
            }
            Err(error) => {
                errand.is_over.store(true, Ordering::Relaxed);
                let refused = waiting.jobs.pop_back();
                drop(waiting);
                drop(refused);
                Err(error)
            }
        }
    }

    /// Does what there is to do. A panic is of what a job drops, which is the program's: the jobs
    /// behind it are done all the same.
    fn run(&self) {
        let mut writer = lock(&self.writer);
        loop {
            let mut waiting = lock(&self.waiting);
            let Some(job) = waiting.jobs.pop_front() else {
                waiting.is_taken = false;
                waiting.jobs.give_back();
                return;
            };
            drop(waiting);
            if let Err(payload) = panics::catch(|| writer.run(job)) {
                log::error!("a job of uploads panicked: {}", panics::into_text(payload));
            }
        }
    }

    /// No thread will come, and the reactor is gone: files are removed, and nothing else is done,
    /// because the end of the reactor has taken its time already.
    fn clear_away(&self) {
        let mut waiting = lock(&self.waiting);
        let (ends, rest): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut waiting.jobs)
            .into_iter()
            .partition(|job| matches!(job, Job::Remove { .. }));
        waiting.jobs = ends;
        drop(waiting);
        // What is dropped with a form that is complete asks for the removal of its files.
        rest.into_iter().for_each(panics::drop_quietly);
        self.run();
    }
}

/// A job of the offload that does what waits. An offload that ends may drop it before it begins:
/// the jobs would wait for ever, and the files would be left.
struct Errand {
    pipe: Arc<Pipe>,
    /// Whether it has begun, or was refused.
    is_over: AtomicBool,
}

impl Errand {
    fn run(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.pipe.run();
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        if !*self.is_over.get_mut() {
            self.pipe.clear_away();
        }
    }
}

/// What the files are written with.
pub(super) struct Writer {
    books: Arc<Mutex<Books>>,
    backlog: Arc<Mutex<Backlog>>,
    /// Bodies go on when no more than so many bytes wait.
    low_mark: usize,
    open: HashMap<u64, Open>,
}

impl Writer {
    pub(super) fn new(
        books: Arc<Mutex<Books>>,
        backlog: Arc<Mutex<Backlog>>,
        low_mark: usize,
    ) -> Self {
        Self { books, backlog, low_mark, open: HashMap::new() }
    }

    fn run(&mut self, job: Job) {
        match job {
            Job::Create { file, path, on_error } => self.create(file, &path, on_error),
            Job::Write { file, bytes } => self.write(file, &bytes),
            Job::Close { file } => drop(self.open.remove(&file)),
            Job::Remove { file, path } => self.remove(file, &path),
            Job::Open { path, then } => then(File::open(path)),
            Job::Say(call) => call(),
        }
    }

    fn create(&mut self, file: u64, path: &Path, on_error: OnError) {
        match create_new(path) {
            Ok(created) => {
                self.open.insert(file, Open { file: created, on_error });
            }
            Err(error) => tell(&on_error, &error),
        }
    }

    fn write(&mut self, file: u64, bytes: &[u8]) {
        // One that has failed is not there any more.
        if let Some(open) = self.open.get_mut(&file) {
            if let Err(error) = open.file.write_all(bytes) {
                tell(&open.on_error, &error);
                self.open.remove(&file);
            }
        }
        let paused = lock(&self.backlog).take_off(bytes.len(), self.low_mark);
        paused.into_iter().for_each(|resume| resume());
    }

    fn remove(&mut self, file: Option<(u64, u64)>, path: &Path) {
        let bytes = if let Some((file, reserved)) = file {
            self.open.remove(&file);
            reserved
        } else if let Ok(found) = fs::metadata(path) {
            found.len()
        } else {
            return; // it is not there, and does not count
        };
        match fs::remove_file(path) {
            Ok(()) => {}
            // It was never created.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_some() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return, // nor does it now
            Err(error) => {
                log::warn!("{}: {error}; it is left, and counts", path.display());
                return;
            }
        }
        let mut books = lock(&self.books);
        books.files = books.files.saturating_sub(1);
        books.bytes = books.bytes.saturating_sub(bytes);
    }
}

/// Tells of the first failure of a request.
fn tell(on_error: &OnError, error: &io::Error) {
    let call = lock(on_error).take();
    if let Some(call) = call {
        call(error);
    }
}

/// Creates a file that only this user can read.
fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Creates a directory that only this user can enter, unless it is there.
pub(super) fn create_directory(path: &Path) -> io::Result<()> {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has a mode to set"))]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::Reactor;

    #[test]
    fn who_is_paused_goes_on_once_few_bytes_wait() {
        let mut backlog = Backlog::default();
        let resume = || -> Call { Box::new(|| ()) };
        assert!(!backlog.add(10, 10, resume), "as many as may wait");
        assert!(backlog.add(1, 10, resume));
        assert!(backlog.take_off(5, 5).is_empty(), "six wait");
        // A write that was refused is taken off as one that is done.
        assert_eq!(backlog.take_off(1, 5).len(), 1);
        assert!(backlog.take_off(5, 5).is_empty(), "nobody goes on twice");
    }

    /// The bytes that wait are bounded, and with them must be what they cost.
    #[test]
    fn small_writes_to_a_file_wait_together_and_the_room_for_jobs_goes_back() {
        const WRITES: usize = 100_000;
        let directory = std::env::temp_dir().join(format!("ww-small-{}", std::process::id()));
        create_directory(&directory).unwrap();
        let mut reactor = Reactor::new().unwrap();
        let offload = Offload::new(&mut reactor, Default::default()).unwrap();
        let backlog: Arc<Mutex<Backlog>> = Arc::default();
        let writer = Writer::new(Arc::default(), Arc::clone(&backlog), 0);
        let pipe = Arc::new(Pipe::new(&offload, writer));
        let (open, gate) = std::sync::mpsc::channel::<()>();
        pipe.ask(Job::Say(Box::new(move || gate.recv().unwrap()))).unwrap();
        for file in 0..2 {
            let path = directory.join(file.to_string());
            pipe.ask(Job::Create { file, path, on_error: Arc::default() }).unwrap();
        }
        let write = |file: u64, number: usize| {
            lock(&backlog).add(2, usize::MAX, || Box::new(|| ()));
            let bytes = (number as u16).to_le_bytes().to_vec();
            pipe.ask(Job::Write { file, bytes }).unwrap();
        };
        (0..WRITES).for_each(|number| write(0, number));
        let (jobs, limit) = (lock(&pipe.waiting).jobs.len(), 3 + 2 * WRITES / MAX_JOINED_BYTES + 1);
        // Those of two files in turn cannot.
        (0..WRITES).for_each(|number| write(number as u64 % 2, number));
        let room = lock(&pipe.waiting).jobs.capacity();
        let (done, all) = std::sync::mpsc::channel::<()>();
        pipe.ask(Job::Say(Box::new(move || done.send(()).unwrap()))).unwrap();
        open.send(()).unwrap();
        all.recv().unwrap();
        drop(lock(&pipe.writer)); // the queue is worked off
        let room_after = lock(&pipe.waiting).jobs.capacity();
        let [first, second] = ["0", "1"].map(|name| fs::read(directory.join(name)).unwrap());
        *lock(&pipe.writer) = Writer::new(Arc::default(), Arc::default(), 0); // closes the files
        fs::remove_dir_all(&directory).unwrap();
        assert!(jobs <= limit, "{jobs} jobs");
        assert!(room >= WRITES && room_after < WRITES / 10, "room for {room_after} jobs");
        let bytes = |number: usize| (number as u16).to_le_bytes();
        let evens = (0..WRITES).step_by(2);
        assert!(first == (0..WRITES).chain(evens).flat_map(bytes).collect::<Vec<_>>());
        assert!(second == (1..WRITES).step_by(2).flat_map(bytes).collect::<Vec<_>>());
    }

    /// Removals stand behind it, and nothing may come that has them done.
    #[test]
    fn what_stands_behind_a_job_that_panics_is_done() {
        let directory = std::env::temp_dir().join(format!("ww-pipe-{}", std::process::id()));
        create_directory(&directory).unwrap();
        let path = directory.join("file");
        fs::write(&path, "").unwrap();
        let mut reactor = Reactor::new().unwrap();
        let offload = Offload::new(&mut reactor, Default::default()).unwrap();
        let pipe = Arc::new(Pipe::new(&offload, Writer::new(Arc::default(), Arc::default(), 0)));
        let (open, gate) = std::sync::mpsc::channel::<()>();
        pipe.ask(Job::Say(Box::new(move || gate.recv().unwrap()))).unwrap();
        pipe.ask(Job::Say(Box::new(|| panic!("on purpose")))).unwrap();
        pipe.ask(Job::Remove { file: None, path: path.clone() }).unwrap();
        open.send(()).unwrap();
        drop(reactor);
        let is_left = path.exists();
        fs::remove_dir_all(&directory).unwrap();
        assert!(!is_left);
    }
}
