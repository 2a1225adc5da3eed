//! The guide shows the code as it is: each block that names a file stands in it, line by line.

use std::fs;
use std::path::Path;

/// The first line of a block that shows code of the library, before the name of its file.
const BLOCK: &str = "```rust,ignore\n// ";

/// Names of files, each with the code that is shown of it.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let found = text.split(BLOCK).skip(1).map(|rest| {
        let (path, rest) = rest.split_once('\n').expect("a block has lines");
        let (code, _) = rest.split_once("\n```").expect("a block has an end");
        (path, code)
    });
    found.collect()
}

/// Whether the lines of a block follow each other in a file, however far they are indented there.
fn is_in(code: &str, file: &str) -> bool {
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.trim_start().to_owned()).collect()
    };
    let (code, file) = (lines(code), lines(file));
    file.windows(code.len()).any(|window| window == code)
}

#[test]
fn the_code_of_the_guide_is_that_of_the_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut shown = 0;
    for entry in fs::read_dir(root.join("src/guide")).unwrap() {
        let chapter = entry.unwrap().path();
        if chapter.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        for (path, code) in blocks(&fs::read_to_string(&chapter).unwrap()) {
            let file = fs::read_to_string(root.join(path)).unwrap();
            assert!(is_in(code, &file), "{}: not what {path} has:\n{code}", chapter.display());
            shown += 1;
        }
    }
    assert!(shown >= 8, "the guide shows code: {shown}");
}

#[test]
fn code_that_was_changed_is_found() {
    let file = "    fn one() {\n        two();\n    }\n";
    assert!(is_in("fn one() {\n    two();\n}", file));
    assert!(!is_in("fn one() {\n    three();\n}", file));
    let text = "text\n```rust,ignore\n// src/a.rs\nfn one() {}\n```\nmore";
    assert_eq!(blocks(text), [("src/a.rs", "fn one() {}")]);
}
