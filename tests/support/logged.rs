//! What the library logs in the thread of a test.

use std::cell::RefCell;
use std::sync::Once;

use log::{Level, LevelFilter, Log, Metadata, Record};

thread_local! {
    /// `None` until the test of this thread asks for what is logged.
    static LINES: RefCell<Option<Vec<(Level, String)>>> = const { RefCell::new(None) };
}

/// The one logger of the process. Each thread has its own lines, so that no test sees those of
/// another one.
struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.push((record.level(), record.args().to_string()));
            }
        });
    }

    fn flush(&self) {}
}

/// From now on keeps what this thread logs.
pub(crate) fn keep_log() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&Logger).expect("the only logger of this process");
        log::set_max_level(LevelFilter::Trace);
    });
    LINES.set(Some(Vec::new()));
}

/// What this thread has logged at this level since [`keep_log`].
#[track_caller]
pub(crate) fn logged(level: Level) -> Vec<String> {
    LINES.with_borrow(|lines| {
        let lines = lines.as_ref().expect("the log is kept").iter();
        lines.filter(|line| line.0 == level).map(|line| line.1.clone()).collect()
    })
}
