//! The list of files to read first, in the documentation of the crate, says how long they are.

use super::{Source, report, root};

/// How far a file may be from what is said of it, in lines: so that not every change is one of the
/// list too.
const TOLERANCE: usize = 20;

/// Paths under `src/` and lines of code, of the rows of a table such as
/// `//! | 1 | `reactor/turn.rs` | 440 | one turn |`.
fn rows(text: &str) -> Vec<(String, usize)> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("//! |")?.split('|').map(str::trim);
        cells.next()?.parse::<u32>().ok()?;
        let path = cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        Some((path, cells.next()?.parse().ok()?))
    };
    text.lines().filter_map(row).collect()
}

/// Complaints about rows, and the sum of what was counted.
fn check(rows: &[(String, usize)], count: impl Fn(&str) -> usize) -> (Vec<String>, usize) {
    let (mut complaints, mut sum) = (Vec::new(), 0);
    for (path, said) in rows {
        let counted = count(path);
        sum += counted;
        if said.abs_diff(counted) > TOLERANCE {
            let nearest = (counted + 5) / 10 * 10;
            complaints.push(format!("src/lib.rs: {path} has {nearest} lines of code, not {said}"));
        }
    }
    (complaints, sum)
}

#[test]
fn the_files_to_read_first_are_as_long_as_is_said() {
    let text = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rows = rows(&text);
    assert_eq!(rows.len(), 12, "README.md and CONTRIBUTING.md say twelve files");
    let (mut complaints, sum) = check(&rows, |path| {
        let path = format!("src/{path}");
        Source::new(&path, &std::fs::read_to_string(root().join(&path)).unwrap()).code_lines()
    });
    let hundreds = (sum + 50) / 100 * 100;
    let said = format!("some {},{:03} lines", hundreds / 1_000, hundreds % 1_000);
    if !text.replace("\n//! ", " ").contains(&said) {
        complaints.push(format!("src/lib.rs: the files to read first have {said} of code"));
    }
    report(complaints);
}

#[test]
fn a_file_that_has_grown_is_found() {
    let text = "//! | | file | lines of code | what |\n//! |---|---|---|---|\n\
                //! | 1 | `a.rs` | 100 | one |\n//! | 2 | `b.rs` | 100 | two |\n";
    let rows = rows(text);
    assert_eq!(rows, [("a.rs".to_owned(), 100), ("b.rs".to_owned(), 100)]);
    let (complaints, sum) = check(&rows, |path| if path == "a.rs" { 120 } else { 121 });
    assert_eq!(complaints, ["src/lib.rs: b.rs has 120 lines of code, not 100"]);
    assert_eq!(sum, 241);
}
