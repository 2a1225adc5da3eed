//! The limit of open files.

use std::io;

use super::linux;

/// How many descriptors this process may have open; `None` where there is no such limit.
pub(crate) fn open_file_limit() -> Option<u64> {
    file_limits().current
}

/// The soft and the hard limit. Linux is asked through /proc where that is mounted: a sandbox may
/// forbid the system call, whose failure rustix takes for impossible and reads as any number.
fn file_limits() -> rustix::process::Rlimit {
    parse_file_limits(&linux::limits())
        .unwrap_or_else(|| rustix::process::getrlimit(rustix::process::Resource::Nofile))
}

/// The line of /proc/self/limits, such as `Max open files  1024  20000  files`.
fn parse_file_limits(text: &str) -> Option<rustix::process::Rlimit> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut numbers = line.split_whitespace().map(|word| match word {
        "unlimited" => Some(None),
        word => word.parse().ok().map(Some),
    });
    let (current, maximum) = (numbers.next()??, numbers.next()??);
    Some(rustix::process::Rlimit { current, maximum })
}

/// Raises the soft limit of open files to the hard one and returns what it reached.
///
/// Each connection is an open file, so the limit bounds the connections of the process. Call it
/// before the reactor is made, since its cap of connections follows the limit. `None` means that
/// there is no limit.
///
/// # Examples
/// ```
/// match waterwheel::raise_open_file_limit()? {
///     Some(files) => println!("at most {files} open files"),
///     None => println!("no limit on open files"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// - The system's, if it forbids what its hard limit allows; the limit is then as before.
///
/// # Platform notes
/// macOS allows no more than `OPEN_MAX` whatever its hard limit says, and answers with an error.
/// On Windows there is no such limit.
pub fn raise_open_file_limit() -> io::Result<Option<u64>> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = file_limits();
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
            .map_err(io::Error::from)?;
    }
    Ok(limit.maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_their_line() {
        let text = "Limit  Soft Limit  Hard Limit  Units\n\
            Max open files            1024                 unlimited            files\n";
        let limits = parse_file_limits(text).unwrap();
        assert_eq!((limits.current, limits.maximum), (Some(1_024), None));
        for text in ["", "Max open files", "Max open files  1024", "Max open files x y files"] {
            assert!(parse_file_limits(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn both_ways_of_asking_agree() {
        let asked = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let read = file_limits();
        assert_eq!((read.current, read.maximum), (asked.current, asked.maximum));
    }
}
