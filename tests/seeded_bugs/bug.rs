//! A bug: the edits that put it into the library, and why they may not fit.

use std::fmt::Write as _;

/// A deliberate bug.
#[derive(Debug)]
pub(crate) struct Bug {
    /// The name of the file, without its extension, and of the switch.
    pub(crate) name: String,
    edits: Vec<Edit>,
}

/// What changes at one place of a file.
#[derive(Debug, Default)]
struct Edit {
    path: String,
    lines: Vec<(Mark, String)>,
}

/// How a line of an edit begins.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mark {
    /// A space: the line stays.
    Kept,
    /// `-`: the line goes.
    Old,
    /// `+`: the line comes.
    New,
}

/// Lines that others take the place of.
struct Change<'a> {
    bug: &'a str,
    /// The first of them, counted from 0.
    first: usize,
    /// How many: 0 if lines are only put in.
    removed: usize,
    added: Vec<&'a str>,
}

impl Bug {
    /// Reads a `.bug` file.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut edits: Vec<Edit> = Vec::new();
        let mut lines = text.lines();
        let says_what = lines.next().is_some_and(|line| line.ends_with('.'));
        if !says_what {
            return Err(format!(
                "{name}.bug: the first line says what the bug is, and ends in `.`"
            ));
        }
        for (number, line) in (2..).zip(lines) {
            if let Some(path) = line.strip_prefix("path: ") {
                edits.push(Edit { path: path.trim().to_owned(), lines: Vec::new() });
                continue;
            }
            let mark = match line.chars().next() {
                None | Some(' ') => Mark::Kept,
                Some('-') => Mark::Old,
                Some('+') => Mark::New,
                Some(_) => {
                    return Err(format!(
                        "{name}.bug:{number}: a line begins with ` `, `-`, `+` or `path: `"
                    ));
                }
            };
            let Some(edit) = edits.last_mut() else {
                return Err(format!("{name}.bug:{number}: a `path: ` is wanted first"));
            };
            edit.lines.push((mark, line.get(1..).unwrap_or_default().to_owned()));
        }
        let bug = Self { name: name.to_owned(), edits };
        bug.check().map(|()| bug)
    }

    fn check(&self) -> Result<(), String> {
        let Self { name, edits } = self;
        let own = format!("crate::seeded::is(\"{name}\")");
        let new: Vec<&str> = edits.iter().flat_map(|edit| edit.with(&[Mark::New])).collect();
        let new = new.join("\n");
        if new.matches(&own).count() == 0
            || new.matches("seeded::is(").count() != new.matches(&own).count()
        {
            return Err(format!("{name}.bug: the new lines must ask {own}, and no other switch"));
        }
        if edits.iter().any(|edit| edit.with(&[Mark::Kept, Mark::Old]).next().is_none()) {
            return Err(format!("{name}.bug: an edit has no old line to say where it belongs"));
        }
        Ok(())
    }

    /// The files that the bug changes.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.edits.iter().map(|edit| edit.path.as_str())
    }
}

impl Edit {
    fn with(&self, marks: &'static [Mark]) -> impl Iterator<Item = &str> {
        self.lines.iter().filter(|(mark, _)| marks.contains(mark)).map(|(_, line)| line.as_str())
    }

    /// The changes that this edit makes to a file of these lines.
    fn locate<'a>(&'a self, bug: &'a str, file: &[&str]) -> Result<Vec<Change<'a>>, String> {
        let old: Vec<&str> = self.with(&[Mark::Kept, Mark::Old]).collect();
        let matching = |at: usize| {
            file[at..].iter().zip(&old).take_while(|(found, wanted)| found == wanted).count()
        };
        let places: Vec<usize> = (0..file.len()).filter(|&at| matching(at) == old.len()).collect();
        let whose = format!("{bug}.bug: {}", self.path);
        match places[..] {
            [place] => Ok(self.changes(bug, place)),
            [] if file.is_empty() => Err(format!("{whose}: there is no such file")),
            [] => {
                let best = (0..file.len()).rev().max_by_key(|&at| matching(at)).unwrap_or(0);
                let mut text = format!("{whose}: ");
                let wanted = old[matching(best)];
                let _ = match matching(best) {
                    0 => write!(text, "this line is not there any more:\n  {wanted}"),
                    count => write!(
                        text,
                        "line {} is not the next line of the bug any more, which is:\n  {wanted}",
                        best + count + 1,
                    ),
                };
                Err(text)
            }
            _ => {
                let numbers: Vec<String> = places.iter().map(|at| (at + 1).to_string()).collect();
                let at = numbers.join(" and ");
                Err(format!("{whose}: the old lines stand at lines {at}; add a line around them"))
            }
        }
    }

    /// The changes, if the first old line is at `place`.
    fn changes<'a>(&'a self, bug: &'a str, place: usize) -> Vec<Change<'a>> {
        let mut changes: Vec<Change<'a>> = Vec::new();
        let (mut at, mut is_within) = (place, false);
        for (mark, line) in &self.lines {
            if *mark == Mark::Kept {
                (at, is_within) = (at + 1, false);
                continue;
            }
            if !is_within {
                changes.push(Change { bug, first: at, removed: 0, added: Vec::new() });
                is_within = true;
            }
            let change = changes.last_mut().expect("one was pushed for the first such line");
            if *mark == Mark::Old {
                (at, change.removed) = (at + 1, change.removed + 1);
            } else {
                change.added.push(line);
            }
        }
        changes
    }
}

/// The text of the file `path` with all edits of it made.
pub(crate) fn apply(bugs: &[Bug], path: &str, text: &str) -> Result<String, String> {
    let file: Vec<&str> = text.lines().collect();
    let (mut changes, mut complaints) = (Vec::new(), Vec::new());
    for bug in bugs {
        for edit in bug.edits.iter().filter(|edit| edit.path == path) {
            match edit.locate(&bug.name, &file) {
                Ok(some) => changes.extend(some),
                Err(complaint) => complaints.push(complaint),
            }
        }
    }
    changes.sort_by_key(|change| change.first);
    for pair in changes.windows(2) {
        // Two that put lines in at one place would stand in an order that nothing tells.
        if pair[1].first < pair[0].first + pair[0].removed.max(1) {
            let (one, other, line) = (pair[0].bug, pair[1].bug, pair[1].first + 1);
            complaints.push(format!("{one}.bug and {other}.bug both change {path}:{line}"));
        }
    }
    if !complaints.is_empty() {
        return Err(complaints.join("\n\n"));
    }
    let (mut lines, mut at) = (Vec::<&str>::new(), 0);
    for change in &changes {
        lines.extend(&file[at..change.first]);
        lines.extend(&change.added);
        at = change.first + change.removed;
    }
    lines.extend(&file[at..]);
    Ok(lines.join("\n") + "\n")
}

const FILE: &str = "fn f() {\n    a();\n    b();\n    a();\n    c();\n}\n";

/// What comes out of `FILE` with these bugs, named `one`, `two` and so on, in it.
fn result(edits: &[&str]) -> Result<String, String> {
    let names = ["one", "two"];
    let text = |(name, lines): (&str, &&str)| {
        let lines = lines.replace('?', &format!("if crate::seeded::is(\"{name}\")"));
        Bug::parse(name, &format!("A bug.\npath: src/f.rs\n{lines}"))
    };
    let bugs: Result<Vec<_>, _> = names.into_iter().zip(edits).map(text).collect();
    apply(&bugs?, "src/f.rs", FILE)
}

#[test]
fn an_edit_replaces_its_old_lines_and_keeps_the_others() {
    let one = "     b();\n-    a();\n+    ? { x() } else { a() }\n     c();\n";
    let two = " fn f() {\n+    ? { x() }\n";
    let expected = "fn f() {\n    if crate::seeded::is(\"two\") { x() }\n    a();\n    b();\n    \
                    if crate::seeded::is(\"one\") { x() } else { a() }\n    c();\n}\n";
    assert_eq!(result(&[one, two]).as_deref(), Ok(expected));
}

#[test]
fn a_bug_that_does_not_fit_is_told_of_with_its_name_and_path() {
    let cases: [(&[&str], &str); 8] = [
        (&["-    d();\n+?"], "one.bug: src/f.rs: this line is not there any more:\n      d();"),
        (
            &["     b();\n-    c();\n+?"],
            "one.bug: src/f.rs: line 4 is not the next line of the bug",
        ),
        (&["-    a();\n+?"], "one.bug: src/f.rs: the old lines stand at lines 2 and 4"),
        (&["-    b();\n+?", "     b();\n-    a();\n+?"], ""),
        (&["-    b();\n+?", "-    b();\n+?"], "one.bug and two.bug both change src/f.rs:3"),
        (&["     b();\n+?", "     b();\n+?"], "one.bug and two.bug both change src/f.rs:4"),
        (&["+?"], "one.bug: an edit has no old line"),
        (&["-    b();\n+x"], "one.bug: the new lines must ask crate::seeded::is(\"one\")"),
    ];
    for (edits, expected) in cases {
        let complaint = result(edits).err().unwrap_or_default();
        assert!(complaint.starts_with(expected), "{complaint}");
        assert_eq!(complaint.is_empty(), expected.is_empty(), "{complaint}");
    }
}

#[test]
fn a_file_that_is_no_bug_is_told_of() {
    let cases = [
        ("", "one.bug: the first line says"),
        ("A bug.\n-old\n", "one.bug:2: a `path: ` is wanted first"),
        ("A bug.\npath: src/f.rs\nold\n", "one.bug:3: a line begins with"),
    ];
    for (text, expected) in cases {
        let complaint = Bug::parse("one", text).unwrap_err();
        assert!(complaint.starts_with(expected), "{complaint}");
    }
    let bug = Bug::parse("one", "A bug.\npath: src/g.rs\n-x\n+crate::seeded::is(\"one\")\n");
    let complaint = apply(&[bug.unwrap()], "src/g.rs", "").unwrap_err();
    assert_eq!(complaint, "one.bug: src/g.rs: there is no such file");
}
