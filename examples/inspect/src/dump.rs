//! The last seconds of a loop as a file: at a signal, and after a slow callback.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use waterwheel::inspect::{Recorder, Recording};
use waterwheel::observer::ObserverKey;
use waterwheel::{HandlerKey, Reactor};

/// A dump at a signal goes back so far.
const WINDOW: Duration = Duration::from_secs(10);

/// Writes a recording on a thread of its own, because a file would hold the loop.
pub(crate) fn write(folder: &Path, why: &str, recording: Recording) {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("{why}-{number}.json"));
    thread::spawn(move || match write_file(&path, &recording) {
        Ok(()) => log::info!("{} has the last seconds", path.display()),
        Err(error) => log::error!("cannot write the dump {}: {error}", path.display()),
    });
}

/// The file has its name when it is whole.
fn write_file(path: &Path, recording: &Recording) -> io::Result<()> {
    let unfinished = path.with_extension("part");
    let mut to = BufWriter::new(File::create(&unfinished)?);
    recording.write_trace(&mut to)?;
    to.flush()?;
    std::fs::rename(unfinished, path)
}

/// Dumps at SIGUSR1.
#[cfg(unix)]
pub(crate) fn at_signals<H: 'static>(
    reactor: &mut Reactor,
    recorder: ObserverKey<Recorder>,
    handler: HandlerKey<H>,
    folder: PathBuf,
) -> io::Result<()> {
    let remote = reactor.remote();
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGUSR1])?;
    thread::spawn(move || {
        for _ in &mut signals {
            let folder = folder.clone();
            let posted = remote.with(handler, move |_, cx| {
                let recording = cx.observer(recorder).map(|it| it.recording(WINDOW));
                if let Some(recording) = recording {
                    write(&folder, "signal", recording);
                }
            });
            if posted.is_err() {
                return; // the reactor has stopped
            }
        }
    });
    Ok(())
}

/// There is no such signal on other systems.
#[cfg(not(unix))]
pub(crate) fn at_signals<H: 'static>(
    _: &mut Reactor,
    _: ObserverKey<Recorder>,
    _: HandlerKey<H>,
    _: PathBuf,
) -> io::Result<()> {
    Ok(())
}
