//! The page of `--html`.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use crate::LOAD;
use crate::process::{End, Process};

/// A folder of a test; it goes with its value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("waterwheel-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(page: &str, more: &[&str]) -> End {
    let args = ["closed", "--duration", "0.1", "--warmup", "0", "--html", page];
    Process::start(LOAD, &[&args[..], more].concat()).end()
}

#[test]
fn the_last_page_stays_until_there_is_a_new_one() {
    let folder = Folder::new("page");
    let path = folder.0.join("page.html");
    let text = path.to_str().unwrap();
    // A port that is taken, so that no other test gets it, and refuses who connects.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let gone = held.local_addr().unwrap().to_string();
    assert_eq!(run(text, &["--connect", &gone]).code, Some(1));
    assert_eq!(folder.names(), [""; 0]);
    fs::write(&path, "the last one").unwrap();
    assert_eq!(run(text, &["--connect", &gone]).code, Some(1));
    assert_eq!(fs::read_to_string(&path).unwrap(), "the last one");
    assert_eq!(run(text, &[]).code, Some(0));
    assert!(fs::read_to_string(&path).unwrap().contains("<html"));
    assert_eq!(folder.names(), ["page.html"]);
}

#[test]
fn a_page_goes_where_a_link_leads_and_to_what_is_no_file() {
    let folder = Folder::new("page-link");
    let (path, link) = (folder.0.join("page.html"), folder.0.join("link"));
    fs::write(&path, "").unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(run(link.to_str().unwrap(), &[]).code, Some(0));
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert!(fs::read_to_string(&path).unwrap().contains("<html"));
    assert_eq!(run("/dev/null", &[]).code, Some(0));
    let end = run(folder.0.join("no/page.html").to_str().unwrap(), &[]);
    assert_eq!(end.code, Some(2), "{end:?}");
    assert!(end.errors.contains("no/page.html"), "{end:?}");
}

/// A shell that lets files have no byte more: the signal that comes with that would end the run.
const FILE_LIMIT: [&str; 3] = ["sh", "-c", "ulimit -f 0; exec \"$0\" \"$@\""];

#[test]
fn a_page_that_may_not_grow_ends_in_one_line_and_the_last_one_stays() {
    let folder = Folder::new("page-limit");
    let path = folder.0.join("page.html");
    let text = path.to_str().unwrap();
    fs::write(&path, "the last one").unwrap();
    let args = ["closed", "--duration", "0.1", "--warmup", "0", "--html", text];
    let end = Process::start_by(&FILE_LIMIT, LOAD, &args).end();
    assert_eq!(end.code, Some(1), "{end:?}");
    let line = format!("load: cannot write {text}: File too large");
    let last = end.errors.lines().last().unwrap_or_default();
    assert!(last.starts_with(&line), "{end:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "the last one");
    assert_eq!(folder.names(), ["page.html"]);
}
