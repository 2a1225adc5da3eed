//! Names that must not become files.

use super::{BTreeSet, Client, Place, answer_of, fs};

/// Some that can be written down.
const BAD_NAMES: &[&str] = &[
    "",
    ".",
    "..",
    "...",
    ".a",
    "..a",
    ".bashrc",
    ".ssh",
    "-",
    "-rf",
    "--force",
    "/",
    "//",
    "../up",
    "../../up",
    "..\\up",
    "a/b",
    "a\\b",
    "/abs",
    "/",
    "a/",
    "a\\",
    "./a",
    ".\\a",
    "a/../b",
    "to/../../up",
    "\\\\host\\share\\x",
    "C:",
    "C:up",
    "c:\\up",
    "a:stream",
    "a::$DATA",
    "a*",
    "a?",
    "a\"",
    "a<b",
    "a>b",
    "a|b",
    "a.",
    "a ",
    "a. ",
    "a .",
    "..\u{0}",
    "a\u{0}",
    "a\u{0}.txt",
    "a\tb",
    "a\rb",
    "a\u{1b}[2J",
    "a\u{7f}",
    "a\u{85}b",
    "x.part",
    "X.PART",
    ".part",
    "\u{0}",
];

/// Names that are refused, as they go over the wire.
fn bad_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut add = |name: &str| names.push(name.as_bytes().to_vec());
    BAD_NAMES.iter().copied().for_each(&mut add);
    for device in ["con", "PRN", "Aux", "nul", "CONIN$", "conout$", "CLOCK$"] {
        add(device);
        add(&format!("{device}.txt"));
        add(&format!("{device} .tar.gz"));
    }
    for port in ["COM1", "com9", "LPT1", "lpt0", "COM\u{b9}", "LPT\u{b3}"] {
        add(port);
        add(&format!("{port}.log"));
    }
    for length in [256, 257, 1_000, 4_000] {
        add(&"n".repeat(length));
    }
    add(&"\u{e4}".repeat(128)); // 256 bytes
    names.push(b"\xff\xfe".to_vec());
    names.push(b"a\xc3".to_vec());
    names.push(b"\xc0\xae\xc0\xae/up".to_vec());
    names
}

#[test]
fn a_bad_name_reaches_no_folder() {
    let place = Place::new();
    let (server, addr) = place.receiver(&[]);
    let names = bad_names();
    assert!(names.len() >= 75, "{}", names.len());
    for name in &names {
        let mut client = Client::connect(addr);
        client.send([b"put 5 ", &name[..], b"\nfrom 0\nhellosum -\n"].concat());
        let answer = answer_of(&mut client);
        assert!(answer.starts_with("no "), "{:?} is answered {answer}", name.escape_ascii());
        assert_eq!(place.received(), BTreeSet::new(), "{:?}", name.escape_ascii());
    }
    place.expect_nothing_outside();
    // It serves on.
    let mut client = Client::connect(addr);
    client.send("put 5 good\nfrom 0\nhellosum 3610a686\n");
    assert_eq!(
        (answer_of(&mut client), answer_of(&mut client)),
        ("ok 0 00000000".to_owned(), "done".to_owned())
    );
    assert_eq!(place.received(), ["good".to_owned()].into());
    server.terminate();
    let end = server.end();
    assert_eq!((end.code, end.errors.lines().count()), (Some(1), names.len()), "{}", end.errors);
    assert!(end.errors.lines().all(|line| line.chars().count() < 1_000), "{}", end.errors);
}

#[test]
fn names_that_only_look_bad_are_taken() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&[]);
    let long = ["n".repeat(255), "\u{e4}".repeat(127), "n".repeat(251)];
    let names = ["a..b", "a.b", "a b", "console", "nul1", "COM", "COM10", "LPTX.txt", "a-rf"];
    let names = names.iter().copied().chain(long.iter().map(String::as_str)).chain(["part", "~"]);
    for name in names {
        let mut client = Client::connect(addr);
        client.send(format!("put 2 {name}\nfrom 0\nhisum -\n"));
        let answers = (answer_of(&mut client), answer_of(&mut client));
        assert_eq!(answers, ("ok 0 00000000".to_owned(), "done".to_owned()), "{name}");
        assert_eq!(fs::read(place.to(name)).unwrap(), b"hi");
    }
}

#[test]
fn what_is_no_offer_is_refused() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&[]);
    for line in [
        "GET / HTTP/1.1",
        "",
        "put",
        "put ",
        "put 5",
        "put x name",
        "put -1 name",
        "put +1 name",
        "put 18446744073709551616 name",
        "PUT 5 name",
        "\u{0}",
    ] {
        let mut client = Client::connect(addr);
        client.send(format!("{line}\n"));
        assert_eq!(answer_of(&mut client), "no this is not `put LENGTH NAME`", "{line:?}");
    }
    for (offer, then) in [("put 5 one\n", "from 3\n"), ("put 5 two\n", "from x\n")] {
        let mut client = Client::connect(addr);
        client.send(offer);
        assert_eq!(answer_of(&mut client), "ok 0 00000000");
        client.send(then);
        assert_eq!(answer_of(&mut client), "no this is not `from 0`");
        client.expect_end();
    }
    let mut client = Client::connect(addr);
    client.send("x".repeat(100_000));
    assert_eq!(answer_of(&mut client), "no the line is too long");
}

#[test]
fn what_is_not_a_file_is_left_alone() {
    let place = Place::new();
    let (_server, addr) = place.receiver(&["--force"]);
    let outside = place.from("outside");
    fs::write(&outside, b"outside").unwrap();
    fs::create_dir(place.to("folder")).unwrap();
    fs::create_dir(place.to("blocked.part")).unwrap();
    std::os::unix::fs::symlink(&outside, place.to("linked.part")).unwrap();
    std::os::unix::fs::symlink(&outside, place.to("link")).unwrap();
    let something = |name| format!("no cannot write {name}: something else has that name");
    for (name, answer) in [
        ("folder", "no there is a folder of that name".to_owned()),
        ("blocked", something("blocked.part")),
        ("linked", something("linked.part")),
    ] {
        let mut client = Client::connect(addr);
        client.send(format!("put 2 {name}\nfrom 0\nhisum -\n"));
        assert_eq!(answer_of(&mut client), answer);
    }
    // A link is replaced, and what it leads to is not.
    let mut client = Client::connect(addr);
    client.send("put 2 link\nfrom 0\nhisum -\n");
    assert_eq!(
        (answer_of(&mut client), answer_of(&mut client)),
        ("ok 0 00000000".to_owned(), "done".to_owned())
    );
    assert!(place.to("link").symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read(&outside).unwrap(), b"outside");
}
