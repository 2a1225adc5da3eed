//! The shape of the code: the order of the rooms, what belongs in one room only, how long things
//! may be. Below the rules and the checks stand tests which prove that each check catches what it
//! should. Two more that read files: what the documents promise (`docs::`), and whether each
//! deliberate bug still fits the sources (`seeded_bugs::`).
//!
//! Not in the package of the crate, which lacks the programs that the documents name.

use std::fs;
use std::path::Path;

#[path = "docs/mod.rs"]
mod docs;
#[path = "tidy/exported.rs"]
mod exported;
#[path = "tidy/growth.rs"]
mod growth;
#[path = "tidy/guide.rs"]
mod guide;
#[path = "tidy/reading.rs"]
mod reading;
#[path = "tidy/results.rs"]
mod results;
#[path = "seeded_bugs/mod.rs"]
mod seeded_bugs;
#[path = "tidy/source.rs"]
mod source;

use source::{Kind, Source, is_word_char, tokens};

/// The rooms of the library, in order and by storey: a room is the directory `src/NAME/`, and its
/// files name only rooms above it in this list. A new room is a line here.
const STOREYS: &[(&str, &[&str])] = &[
    ("ground", &["base", "options", "sys"]),
    ("loop", &["engine", "stream", "datagram", "handler", "reactor"]),
    ("on top", &["channel", "pool", "fleet", "offload", "tls", "http", "ws", "inspect"]),
    ("proofs", &["guide", "sim", "tests"]),
];

/// All rooms, in order.
fn rooms() -> Vec<&'static str> {
    STOREYS.iter().flat_map(|(_, rooms)| rooms.iter().copied()).collect()
}

/// What only the room `sys` may name: crates that reach the operating system, and sockets.
const OUTSIDE_WORDS: &[&str] =
    &["mio", "socket2", "rustix", "nix", "TcpStream", "TcpListener", "UdpSocket", "UnixListener"];

/// A listener that was bound elsewhere is adopted by a room that may name it.
const OUTSIDE_EXCEPTIONS: &[(&str, &str)] = &[
    ("stream", "TcpListener"),
    ("stream", "UnixListener"),
    ("reactor", "TcpListener"),
    ("reactor", "UnixListener"),
    ("fleet", "TcpListener"),
];

/// A simulated world stands for the kernel, which everybody holds a handle on.
const SHARED_WORLDS: &[&str] = &["src/sim/", "src/sys/sim/"];

/// Words that mark unfinished work, in code and in comments.
const UNFINISHED_WORDS: &[&str] = &["TODO", "FIXME", "XXX"];

/// Macros that mark unfinished work.
const UNFINISHED_MACROS: &[&str] = &["todo", "unimplemented", "dbg"];

/// Macros that panic when standard output or standard error cannot be written to.
const PANICKING_MACROS: &[&str] = &["print", "println", "eprint", "eprintln"];

const MAX_FUNCTION_LINES: usize = 70;
const MAX_LINE_COLUMNS: usize = 100;
const MAX_FILE_CODE_LINES: usize = 500;
const MAX_EXAMPLE_LINES: usize = 170;

// The rules, each over all files that it binds.

#[test]
fn a_file_names_only_rooms_above_it() {
    expect_tidy(&["src"], check_order);
}

#[test]
fn only_sys_names_the_outside_world() {
    expect_tidy(&["src"], check_outside);
}

#[test]
fn functions_lines_and_files_are_short() {
    expect_tidy(&["src", "examples", "tests", "benches", "fuzz/targets"], check_lengths);
}

#[test]
fn nothing_is_left_unfinished() {
    expect_tidy(&["src", "examples", "tests", "benches", "fuzz/targets"], check_unfinished);
}

#[test]
fn the_library_is_safe_and_shares_nothing() {
    expect_tidy(&["src"], check_safe);
}

#[test]
fn an_example_opens_with_what_it_shows() {
    expect_tidy(&["examples"], check_opening);
}

#[test]
fn an_example_prints_without_a_panic() {
    expect_tidy(&["examples"], check_printing);
}

#[test]
fn an_example_of_one_file_is_short_and_whole() {
    expect_tidy(&["examples"], check_single_file);
}

#[test]
fn lib_rs_lists_the_rooms_in_order() {
    let path = root().join("src/lib.rs");
    let text = fs::read_to_string(&path).unwrap();
    report(check_face(&Source::new("src/lib.rs", &text)));
}

#[test]
fn every_room_is_there_and_nothing_else() {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        found.push(name);
    }
    report(check_inventory(&found));
}

#[test]
fn a_module_with_files_of_its_own_is_a_folder_with_a_mod_rs() {
    let mut sources = Vec::new();
    read_sources("src", &mut sources);
    let paths: Vec<_> = sources.into_iter().map(|source| source.path).collect();
    report(check_convention(&paths));
}

// The checks. Each returns its complaints, a line each.

/// A room names itself and the rooms above it, and goes to each by its name: what `lib.rs` exports
/// would be a way round the order.
fn check_order(source: &Source) -> Vec<String> {
    let Some(room) = source.room() else {
        return Vec::new();
    };
    let rooms = rooms();
    let allowed = rooms.iter().position(|name| *name == room).map_or(&[][..], |at| &rooms[..=at]);
    let mut complaints = Vec::new();
    for token in source.names_at_root() {
        let name = token.text.as_str();
        if rooms.contains(&name) && !allowed.contains(&name) {
            let rule = format!("the room `{room}` names `{name}`, which is not above it");
            complaints.push(source.complaint(token.line, &rule));
        } else if !rooms.contains(&name) {
            let rule = format!("`{name}` is no room: name the room that it lives in");
            complaints.push(source.complaint(token.line, &rule));
        }
    }
    complaints
}

fn check_outside(source: &Source) -> Vec<String> {
    let room = source.room().unwrap_or_default();
    if room == "sys" {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (at, token) in source.tokens.iter().enumerate() {
        let word = token.text.as_str();
        let excepted = OUTSIDE_EXCEPTIONS.contains(&(room, word));
        if OUTSIDE_WORDS.contains(&word) && !excepted || source.is(at, &["Instant", "::", "now"]) {
            let rule = format!("`{word}` is named under sys/ only");
            complaints.push(source.complaint(token.line, &rule));
        }
    }
    complaints
}

fn check_lengths(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (first, last) in source.functions() {
        let lines = last - first + 1;
        if lines > MAX_FUNCTION_LINES {
            let rule = format!("a function of {lines} lines, over {MAX_FUNCTION_LINES}");
            complaints.push(source.complaint(first, &rule));
        }
    }
    for (line, text) in (1..).zip(source.text.lines()) {
        let columns = text.chars().count();
        if columns > MAX_LINE_COLUMNS {
            let rule = format!("a line of {columns} columns, over {MAX_LINE_COLUMNS}");
            complaints.push(source.complaint(line, &rule));
        }
    }
    let lines = source.code_lines();
    if lines > MAX_FILE_CODE_LINES {
        let rule = format!("a file of {lines} lines of code, over {MAX_FILE_CODE_LINES}");
        complaints.push(source.complaint(1, &rule));
    }
    complaints
}

fn check_unfinished(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for token in tokens(&source.keep(&[Kind::Code, Kind::Comment])) {
        if UNFINISHED_WORDS.contains(&token.text.as_str()) {
            let rule = format!("{}: finish it, or leave it out", token.text);
            complaints.push(source.complaint(token.line, &rule));
        }
    }
    for (at, token) in source.tokens.iter().enumerate() {
        if UNFINISHED_MACROS.iter().any(|name| source.is(at, &[name, "!"])) {
            let rule = format!("{}!: finish it, or leave it out", token.text);
            complaints.push(source.complaint(token.line, &rule));
        }
    }
    complaints
}

fn check_safe(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let may_share = SHARED_WORLDS.iter().any(|folder| source.path.starts_with(folder));
    for (at, token) in source.tokens.iter().enumerate() {
        if token.text == "unsafe" {
            complaints.push(source.complaint(token.line, "`unsafe` has no place here"));
        }
        let opens = source.is(at, &["Rc", "<"]);
        let path = source.tokens[at..].iter().skip(2);
        let mut inner = path.map(|token| token.text.as_str()).take_while(|text| is_path(text));
        if opens && !may_share && inner.any(|text| text == "RefCell") {
            complaints.push(source.complaint(token.line, "no `Rc<RefCell<_>>` in the library"));
        }
    }
    complaints
}

fn check_opening(source: &Source) -> Vec<String> {
    if source.text.starts_with("//!") {
        return Vec::new();
    }
    vec![source.complaint(1, "an example opens with `//!`: what it shows, and how to try it")]
}

/// The reader of a program may have gone, and the disk may be full. Tests may use the macros.
fn check_printing(source: &Source) -> Vec<String> {
    if source.path.contains("/tests/") {
        return Vec::new();
    }
    let is_call = |at: &usize| {
        source.text_at(at + 1) == "!" && PANICKING_MACROS.contains(&source.text_at(*at))
    };
    let complain = |at: usize| {
        let token = &source.tokens[at];
        let rule = format!("`{}!` panics without a reader: use `writeln!`", token.text);
        source.complaint(token.line, &rule)
    };
    (0..source.tokens.len()).filter(is_call).map(complain).collect()
}

/// An example that stands in no folder can be pasted into another project.
fn check_single_file(source: &Source) -> Vec<String> {
    if source.path.matches('/').count() > 1 {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    if source.text.lines().count() > MAX_EXAMPLE_LINES {
        let rule = format!("over {MAX_EXAMPLE_LINES} lines: make it a package");
        complaints.push(source.complaint(1, &rule));
    }
    let has_main =
        source.tokens.windows(2).any(|pair| pair[0].text == "fn" && pair[1].text == "main");
    if !has_main {
        complaints.push(source.complaint(1, "there is no `main` in it"));
    }
    for (at, token) in source.tokens.iter().enumerate() {
        if token.text == "mod" && source.text_at(at + 2) == ";" {
            complaints.push(source.complaint(token.line, "a second file: make it a package"));
        }
    }
    complaints
}

/// The face of the library: `mod` lines in order, a layout that names each room, no unsafe code.
fn check_face(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let is_mod = |at: &usize| source.tokens[*at].text == "mod" && source.text_at(at + 2) == ";";
    let mods = (0..source.tokens.len()).filter(is_mod).map(|at| source.text_at(at + 1));
    let mods: Vec<&str> = mods.collect();
    let rooms = rooms();
    if mods != rooms {
        let rule = format!("the `mod` lines are {mods:?}, not the rooms in order, {rooms:?}");
        complaints.push(source.complaint(1, &rule));
    }
    if !source.keep(&[Kind::Code]).contains("#![forbid(unsafe_code)]") {
        complaints.push(source.complaint(1, "`#![forbid(unsafe_code)]` is missing"));
    }
    let layout = layout(&source.text);
    for (storey, _) in STOREYS {
        if !layout.iter().any(|line| has_word(&line.to_lowercase(), storey)) {
            let rule = format!("the crate docs' \"# Layout\" does not name the storey `{storey}`");
            complaints.push(source.complaint(1, &rule));
        }
    }
    for room in rooms {
        let spellings = [format!("`{room}`"), format!("{room}.rs"), format!("{room}/")];
        let named = |line: &String| spellings.iter().any(|spelling| has_word(line, spelling));
        if !layout.iter().any(named) {
            let rule = format!("the crate docs' \"# Layout\" does not name the room `{room}`");
            complaints.push(source.complaint(1, &rule));
        }
    }
    complaints
}

fn check_inventory(found: &[String]) -> Vec<String> {
    let rooms = rooms();
    let missing = rooms.iter().filter(|room| !found.iter().any(|name| name == *room));
    let missing = missing.map(|room| format!("src: there is no {room}/"));
    let is_known = |name: &str| name == "lib.rs" || rooms.contains(&name);
    let unknown = found.iter().filter(|name| !is_known(name));
    let unknown = unknown.map(|name| format!("src/{name}: not in the list of rooms"));
    missing.chain(unknown).collect()
}

/// One convention for modules: never `x.rs` beside `x/`.
fn check_convention(paths: &[String]) -> Vec<String> {
    let folder = |path: &String| path.trim_end_matches(".rs").to_owned() + "/";
    let is_split = |path: &&String| paths.iter().any(|other| other.starts_with(&folder(path)));
    let split = paths.iter().filter(is_split);
    let told =
        split.map(|path| format!("{path}: has files in a folder of its name; move it there"));
    told.collect()
}

/// The lines of the crate docs between the heading "# Layout" and the next heading.
fn layout(text: &str) -> Vec<String> {
    let docs = text.lines().filter_map(|line| line.strip_prefix("//!"));
    let section = docs.skip_while(|line| line.trim() != "# Layout").skip(1);
    section.take_while(|line| !line.starts_with(" # ")).map(str::to_owned).collect()
}

/// Whether `line` holds `word`, and not as the end of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(is_word_char))
}

fn is_path(text: &str) -> bool {
    text == "::" || text.starts_with(is_word_char)
}

// The tree.

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a check over all Rust files in these directories.
#[track_caller]
fn expect_tidy(directories: &[&str], check: impl Fn(&Source) -> Vec<String>) {
    let mut sources = Vec::new();
    for directory in directories {
        read_sources(directory, &mut sources);
    }
    report(sources.iter().flat_map(check).collect());
}

#[track_caller]
fn report(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "the tree is not tidy:\n{}", complaints.join("\n"));
}

/// A directory that a package does not have, as a published one has no `benches`, is tidy.
fn read_sources(directory: &str, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(root().join(directory)) else {
        return;
    };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let path = format!("{directory}/{}", name.to_str().unwrap());
        if root().join(&path).is_dir() {
            read_sources(&path, sources);
        } else if path.ends_with(".rs") {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            sources.push(Source::new(&path, &text));
        }
    }
}

// Each check, against what it should catch and what it should let pass.

/// The lines that a check complains of.
#[track_caller]
fn expect_lines(
    check: impl Fn(&Source) -> Vec<String>,
    path: &str,
    text: &str,
    expected: &[usize],
) {
    let complaints = check(&Source::new(path, text));
    let line = |complaint: &String| complaint.split(':').nth(1).unwrap().parse().unwrap();
    let lines: Vec<usize> = complaints.iter().map(line).collect();
    assert_eq!(lines, expected, "{complaints:#?}");
}

#[test]
fn a_room_below_is_caught() {
    let text = "use crate::base::id::ConnId;\nuse crate::{options, sys::Clock};\n// crate::sys\n";
    expect_lines(check_order, "src/options/tcp.rs", text, &[2]);
    expect_lines(check_order, "src/sys/os.rs", text, &[]);
    expect_lines(check_order, "src/options/mod.rs", "fn f() {\n  super::sys::g() }", &[2]);
    expect_lines(check_order, "src/sys/mod.rs", "use super::{base,\nreactor};", &[2]);
    expect_lines(check_order, "src/sys/os.rs", "use super::super::reactor;", &[1]);
    expect_lines(check_order, "src/lib.rs", "pub use crate::reactor::Reactor;", &[]);
}

#[test]
fn a_way_round_the_order_is_caught() {
    expect_lines(check_order, "src/reactor/mod.rs", "use crate::ConnId;", &[1]);
    expect_lines(check_order, "src/base/mod.rs", "use super::*;", &[1]);
    expect_lines(check_order, "src/base/mod.rs", "mod tests { use super::*; }", &[]);
}

#[test]
fn the_outside_world_in_another_room_is_caught() {
    let text = "use std::net::{SocketAddr, UdpSocket};\nlet now = std::time::Instant::now();\n\
                mio::Poll::new()?;\n// mio\nlet text = \"rustix\";\nlet at: Instant;";
    expect_lines(check_outside, "src/engine/mod.rs", text, &[1, 2, 3]);
    expect_lines(check_outside, "src/sys/os.rs", text, &[]);
    let text = "use std::net::{TcpListener, TcpStream};";
    expect_lines(check_outside, "src/reactor/mod.rs", text, &[1]);
    expect_lines(check_outside, "src/engine/io.rs", text, &[1, 1]);
}

#[test]
fn what_is_too_long_is_caught() {
    let function = |lines: usize| format!("\nfn f() {{\n{}}}\n", "x;\n".repeat(lines - 2));
    expect_lines(check_lengths, "src/base/id.rs", &function(70), &[]);
    expect_lines(check_lengths, "src/base/id.rs", &function(71), &[2]);
    expect_lines(check_lengths, "src/base/id.rs", &"ä".repeat(100), &[]);
    expect_lines(check_lengths, "src/base/id.rs", &format!("\n//{}", "ä".repeat(99)), &[2]);
    expect_lines(check_lengths, "src/base/id.rs", &("x;\n\n// y\n".repeat(500)), &[]);
    expect_lines(check_lengths, "src/base/id.rs", &"x;\n".repeat(501), &[1]);
}

#[test]
fn unfinished_work_is_caught() {
    let text = "// TODO: this\n/* FIXME */ /// XXX\ntodo!()\ndbg!(x);\nunimplemented!()";
    expect_lines(check_unfinished, "src/base/id.rs", text, &[1, 2, 2, 3, 4, 5]);
    let text = "let text = \"TODO dbg!\"; // todo, dbg\nTODOS";
    expect_lines(check_unfinished, "src/base/id.rs", text, &[]);
}

#[test]
fn unsafe_code_and_shared_cells_are_caught() {
    let text = "unsafe { x }\nlet a: Rc<RefCell<u8>>;\nlet b: Rc<std::cell::RefCell<u8>>;";
    expect_lines(check_safe, "src/base/id.rs", text, &[1, 2, 3]);
    let text = "#![forbid(unsafe_code)]\n// unsafe\nlet a: (Rc<u8>, RefCell<u8>);";
    expect_lines(check_safe, "src/base/id.rs", text, &[]);
}

#[test]
fn an_example_without_opening_is_caught() {
    expect_lines(check_opening, "examples/echo.rs", "use std::io;", &[1]);
    expect_lines(check_opening, "examples/echo.rs", "//! Echoes.", &[]);
}

#[test]
fn an_example_that_panics_without_a_reader_is_caught() {
    let text = "println!();\nwriteln!(io::stdout(), \"println!\");\neprint!(\"x\");\n// print!()";
    expect_lines(check_printing, "examples/echo/src/main.rs", text, &[1, 3]);
    expect_lines(check_printing, "examples/echo/tests/it.rs", text, &[]);
    expect_lines(check_printing, "examples/echo.rs", "fn print() {}\nprint(x);\nx != print", &[]);
}

#[test]
fn an_example_of_one_file_that_is_not_whole_is_caught() {
    let text = "mod support;\nfn main() {}\nmod own { }";
    expect_lines(check_single_file, "examples/echo.rs", text, &[1]);
    expect_lines(check_single_file, "examples/echo.rs", "fn serve() {}", &[1]);
    expect_lines(check_single_file, "examples/echo/src/main.rs", text, &[]);
    let long = |lines: usize| format!("fn main() {{}}\n{}", "\n".repeat(lines - 1));
    expect_lines(check_single_file, "examples/echo.rs", &long(170), &[]);
    expect_lines(check_single_file, "examples/echo.rs", &long(171), &[1]);
}

#[test]
fn a_face_out_of_order_is_caught() {
    let mods = |name: &&str| format!("pub mod {name};\n");
    let mods: String = rooms().iter().map(mods).collect();
    let storeys: String = STOREYS.iter().map(|(name, _)| format!("//! The {name}:\n")).collect();
    let layout: String = rooms().iter().map(|name| format!("//! - `{name}`: a room\n")).collect();
    let layout = storeys + &layout;
    let good = format!("//! # Layout\n{layout}//! # More\n#![forbid(unsafe_code)]\n{mods}");
    expect_lines(check_face, "src/lib.rs", &good, &[]);
    let broken = [
        good.replace("mod base;\npub mod options;", "mod options;\npub mod base;"),
        good.replace("pub mod sys;\n", "// pub mod sys;\n"),
        good.replace("#![forbid", "// #![forbid"),
        good.replace("`sys`", "the sys"),
        good.replace("The on top", "Above"),
        good.replace("//! - `sys`: a room\n", "").replace("# More", "# More\n//! `sys`"),
    ];
    for text in broken {
        expect_lines(check_face, "src/lib.rs", &text, &[1]);
    }
}

#[test]
fn a_missing_and_an_unknown_room_are_caught() {
    let mut found: Vec<String> = rooms().iter().map(|room| room.to_string()).collect();
    found.push("lib.rs".to_owned());
    assert!(check_inventory(&found).is_empty());
    found[0] = "util".to_owned();
    let complaints = ["src: there is no base/", "src/util: not in the list of rooms"];
    assert_eq!(check_inventory(&found), complaints);
}

#[test]
fn a_module_in_two_places_is_caught() {
    let paths = ["src/sys/mod.rs", "src/sys/os.rs", "src/sys/os/unix.rs", "src/systems/x.rs"];
    let paths = paths.map(str::to_owned);
    assert_eq!(check_convention(&paths).len(), 1);
    assert!(check_convention(&paths[..2]).is_empty());
}
