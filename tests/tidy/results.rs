//! Whether `checks/results` refuses what it should: in repositories that are made for it, with the
//! script as it is here, one long check, and a row for that one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::root;

/// When each commit was made, at noon of UTC.
const TODAY: &str = "2026-03-31";

/// A repository with a large room and a small one, which a check covers.
struct Repository {
    folder: PathBuf,
}

/// What the script has said.
struct Judged {
    has_passed: bool,
    text: String,
}

impl Repository {
    fn new(name: &str) -> Self {
        let folder = scratch(name);
        let repository = Self { folder };
        repository.write("checks/results", &read("checks/results"));
        repository
            .write(".ci/checks", "# check | rooms\n\n.ci/run | -\nchecks/fuzz all | src/*/\n");
        repository.write("src/large/mod.rs", &lines(0, 1000));
        repository.write("src/small/mod.rs", &lines(0, 90));
        repository.git(&["init", "--quiet"]);
        repository.commit();
        repository
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[track_caller]
    fn git(&self, arguments: &[&str]) -> String {
        let output = command("git", &self.folder).args(arguments).output().expect("git runs");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{arguments:?}: {text}{:?}", output.stderr);
        text.trim().to_owned()
    }

    /// Commits all there is; the name of the commit, cut short as rows have it.
    fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "-"]);
        self.git(&["rev-parse", "--short", "HEAD"])
    }

    /// What becomes of a row: "RESULT COMMIT DATE".
    fn judge(&self, row: &str) -> Judged {
        let cells = row.replace(' ', " | ");
        self.write("checks/results.md", &format!("| `checks/fuzz all` | {cells} | 7 | ok |\n"));
        self.judge_rows()
    }

    fn judge_rows(&self) -> Judged {
        let output = command("bash", &self.folder).arg("checks/results").output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        Judged { has_passed: output.status.success(), text }
    }
}

impl Judged {
    /// It holds; its line, the blanks of which are one each, ends so.
    #[track_caller]
    fn holds(&self, end: &str) {
        assert!(self.has_passed, "{}", self.text);
        self.ends(end);
    }

    /// It is refused, and the command that brings a new one stands there.
    #[track_caller]
    fn is_refused(&self, end: &str) {
        assert!(!self.has_passed, "{}", self.text);
        assert!(self.text.ends_with("\n    .ci/full 'checks/fuzz all'\n"), "{}", self.text);
        self.ends(end);
    }

    #[track_caller]
    fn ends(&self, end: &str) {
        let line = self.text.lines().find(|line| line.starts_with("checks/fuzz all "));
        let line: Vec<&str> = line.expect(&self.text).split_whitespace().collect();
        assert!(line.join(" ").ends_with(end), "{}", self.text);
    }
}

/// An empty folder; in the repository of this crate, and no part of it.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("results").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A command that no configuration of the user and no hook that runs it changes.
fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    let date = format!("{TODAY}T12:00:00Z");
    command.envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")]);
    command.envs([("GIT_AUTHOR_NAME", "-"), ("GIT_AUTHOR_EMAIL", "-")]);
    command.envs([("GIT_COMMITTER_NAME", "-"), ("GIT_COMMITTER_EMAIL", "-")]);
    command.envs([("GIT_AUTHOR_DATE", &date), ("GIT_COMMITTER_DATE", &date)]);
    command.current_dir(folder);
    command
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// So many lines, the first of which are new ones.
fn lines(new: usize, all: usize) -> String {
    (0..all).map(|at| if at < new { format!("new {at}\n") } else { format!("{at}\n") }).collect()
}

#[test]
fn a_result_holds_until_a_room_is_rewritten() {
    let repository = Repository::new("rewritten");
    let row = format!("passed {} {TODAY}", repository.commit());
    repository.judge(&row).holds("0% of src/large good");
    // A line that is changed is one that went and one that came.
    repository.write("src/large/mod.rs", &lines(100, 1000));
    repository.commit();
    repository.judge(&row).holds("20% of src/large good");
    repository.write("src/large/mod.rs", &lines(101, 1000));
    repository.judge(&row).is_refused("20% of src/large rewritten");
    repository.commit();
    repository.judge(&row).is_refused("20% of src/large rewritten");
    // Of a small room half is little, and does not hide the other.
    repository.write("src/small/mod.rs", &lines(50, 90));
    repository.judge(&row).is_refused("20% of src/large rewritten");
    repository.write("src/large/mod.rs", &lines(0, 1000));
    repository.judge(&row).holds("111% of src/small good");
    repository.write("src/small/mod.rs", &lines(51, 90));
    repository.judge(&row).is_refused("113% of src/small rewritten");
}

#[test]
fn a_file_that_moves_in_its_room_is_not_new() {
    let repository = Repository::new("moved");
    let row = format!("passed {} {TODAY}", repository.commit());
    repository.git(&["mv", "src/large/mod.rs", "src/large/moved.rs"]);
    repository.judge(&row).holds("0% of src/large good");
    repository.write("src/large/moved.rs", &lines(150, 1000));
    repository.judge(&row).is_refused("30% of src/large rewritten");
}

#[test]
fn what_was_not_passed_or_not_committed_is_refused() {
    let repository = Repository::new("failed");
    let commit = repository.commit();
    repository.judge(&format!("failed {commit} {TODAY}")).is_refused(" failed");
    repository.judge(&format!("passed {commit}+ {TODAY}")).is_refused(" not committed");
    repository.judge(&format!("passed HEAD {TODAY}")).is_refused(" no commit");
    repository.write("checks/results.md", "| `checks/fuzz` | passed |\n");
    repository.judge_rows().is_refused(" no row");
    fs::remove_file(repository.folder.join("checks/results.md")).unwrap();
    let judged = repository.judge_rows();
    assert!(!judged.has_passed && judged.text.contains("there is no checks/results.md"));
}

#[test]
fn of_some_checks_it_is_only_told_that_they_do_not_hold() {
    let repository = Repository::new("told");
    let list = "checks/fuzz all | src/large\nchecks/hours | src/large | told\n";
    repository.write(".ci/checks", list);
    let commit = repository.commit();
    let judged = repository.judge(&format!("passed {commit} {TODAY}"));
    assert!(judged.has_passed, "{}", judged.text);
    assert!(judged.text.contains("    .ci/full 'checks/hours'"), "{}", judged.text);
    let judged = repository.judge(&format!("failed {commit} {TODAY}"));
    assert!(!judged.has_passed, "{}", judged.text);
}

#[test]
fn a_check_of_nothing_is_refused() {
    let repository = Repository::new("nothing");
    let row = format!("passed {} {TODAY}", repository.commit());
    repository.write(".ci/checks", "checks/fuzz all | src/large src/gone\n");
    repository.judge(&row).is_refused("100% of src/gone no such room");
    repository.write(".ci/checks", "checks/fuzz all |\n");
    repository.judge(&row).is_refused(" no rooms");
    repository.write(".ci/checks", "# checks/fuzz all | src/*/\n");
    let judged = repository.judge(&row);
    assert!(!judged.has_passed && judged.text.contains(".ci/checks names no check"));
}

#[test]
fn a_commit_that_is_not_here_is_judged_by_its_date() {
    let repository = Repository::new("rebased");
    let lost = "passed 0123abcd";
    repository.judge(&format!("{lost} 2026-03-01")).holds("30 days (not in this history) good");
    let judged = repository.judge(&format!("{lost} 2026-02-28"));
    judged.is_refused("31 days (not in this history) over 30 days old");
    repository.judge(&format!("{lost} today")).is_refused(" no date");

    let old = repository.git(&["rev-parse", "--short", "HEAD"]);
    repository.write("src/large/mod.rs", &lines(1000, 1000));
    repository.commit();
    repository.judge(&format!("passed {old} {TODAY}")).is_refused("200% of src/large rewritten");
    let url = format!("file://{}", repository.folder.display());
    let folder = scratch("shallow");
    repository.git(&["clone", "--quiet", "--depth=1", &url, folder.to_str().unwrap()]);
    let clone = Repository { folder };
    let judged = clone.judge(&format!("passed {old} {TODAY}"));
    judged.holds("0 days (a clone without history) good");
}

#[test]
fn without_a_repository_of_its_own_it_fails() {
    let repository = Repository { folder: scratch("unpacked") };
    repository.write("checks/results", &read("checks/results"));
    repository.write(".ci/checks", "checks/fuzz all | src\n");
    repository.write("src/mod.rs", &lines(0, 1000));
    let judged = repository.judge(&format!("passed 0123abcd {TODAY}"));
    assert!(
        !judged.has_passed && judged.text.contains("is no repository of git"),
        "{}",
        judged.text
    );
}

#[test]
fn the_checks_and_the_rooms_in_the_list_are_there() {
    let mut wrong = Vec::new();
    let text = read(".ci/checks");
    let rows: Vec<_> = text.lines().filter_map(|line| line.split_once('|')).collect();
    for (command, rooms) in rows.into_iter().filter(|(command, _)| !command.starts_with('#')) {
        let scripts = command.split_whitespace().filter(|word| word.contains('/')).take(1);
        let rooms = rooms.trim_end_matches("| told");
        let rooms = rooms.split_whitespace().map(|room| room.trim_end_matches("/*/"));
        wrong.extend(scripts.chain(rooms.filter(|room| *room != "-")));
    }
    assert!(wrong.len() > 30, "{wrong:?}");
    wrong.retain(|path| !root().join(path).exists());
    assert!(wrong.is_empty(), ".ci/checks names what is not there: {wrong:?}");
}
