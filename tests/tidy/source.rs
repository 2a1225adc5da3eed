//! A Rust file as text, cut into tokens. Nothing here knows Rust's grammar: a few tokens in a row
//! are enough for the rules.

/// What a character belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Code,
    Comment,
    /// A string or a character.
    Literal,
}

pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

pub(crate) struct Source {
    /// The path from the package's root, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The code, without comments and literals.
    pub(crate) tokens: Vec<Token>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let mut source = Self { path: path.into(), text: text.into(), tokens: Vec::new() };
        source.tokens = tokens(&source.keep(&[Kind::Code]));
        source
    }

    pub(crate) fn complaint(&self, line: usize, rule: &str) -> String {
        format!("{}:{line}: {rule}", self.path)
    }

    /// The text with blanks in place of all other kinds, so that lines stay where they are.
    pub(crate) fn keep(&self, kinds: &[Kind]) -> String {
        let chars: Vec<char> = self.text.chars().collect();
        let (mut kept, mut at) = (String::new(), 0);
        while at < chars.len() {
            let (kind, len) = piece(&chars[at..]);
            for &char in &chars[at..at + len] {
                let keeps = kinds.contains(&kind) || char == '\n';
                kept.push(if keeps { char } else { ' ' });
            }
            at += len;
        }
        kept
    }

    /// The room of a file of the library; `lib.rs` is in none.
    pub(crate) fn room(&self) -> Option<&str> {
        let name = self.path.strip_prefix("src/")?.split('/').next()?;
        let name = name.strip_suffix(".rs").unwrap_or(name);
        (name != "lib").then_some(name)
    }

    /// How many modules deep the file itself is: 1 for the root of a room.
    fn depth(&self) -> usize {
        let path = self.path.strip_suffix("/mod.rs").unwrap_or(&self.path);
        path.matches('/').count()
    }

    pub(crate) fn text_at(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    /// Whether the tokens from `at` on are these.
    pub(crate) fn is(&self, at: usize, expected: &[&str]) -> bool {
        (at..).zip(expected).all(|(at, text)| self.text_at(at) == *text)
    }

    /// The index of the bracket that closes the one at `open`.
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0;
        for at in open..self.tokens.len() {
            match self.text_at(at) {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at;
            }
        }
        self.tokens.len() - 1
    }

    /// The first and last line of each function that has a body.
    pub(crate) fn functions(&self) -> Vec<(usize, usize)> {
        let starts = (0..self.tokens.len()).filter(|&at| {
            // `fn(` is the type of a pointer
            self.text_at(at) == "fn" && self.text_at(at + 1) != "("
        });
        let whole = starts.filter_map(|start| {
            let body = self.body(start)?;
            Some((self.tokens[start].line, self.tokens[self.closing(body)].line))
        });
        whole.collect()
    }

    /// The brace that opens the body of what begins at `start`, unless it ends with a semicolon.
    fn body(&self, start: usize) -> Option<usize> {
        let mut at = start;
        loop {
            match self.text_at(at) {
                "{" => return Some(at),
                ";" | "" => return None,
                "(" | "[" => at = self.closing(at) + 1,
                _ => at += 1,
            }
        }
    }

    /// The token ranges of the bodies of modules, and whether each is a `#[cfg(test)]` one.
    fn modules(&self) -> Vec<(usize, usize, bool)> {
        const CFG_TEST: &[&str] = &["#", "[", "cfg", "(", "test", ")", "]"];
        let starts = (0..self.tokens.len()).filter(|&at| self.text_at(at) == "mod");
        let whole = starts.filter_map(|start| {
            let open = self.body(start)?;
            let attribute = start.checked_sub(CFG_TEST.len());
            let is_test = attribute.is_some_and(|at| self.is(at, CFG_TEST));
            Some((start, self.closing(open), is_test))
        });
        whole.collect()
    }

    /// Lines that hold more than a comment, outside of test modules.
    pub(crate) fn code_lines(&self) -> usize {
        let tests = self.modules().into_iter().filter(|&(_, _, is_test)| is_test);
        let tests = tests.map(|(first, last, _)| self.tokens[first].line..=self.tokens[last].line);
        let tests: Vec<_> = tests.collect();
        let code = self.keep(&[Kind::Code, Kind::Literal]);
        let lines = (1..).zip(code.lines()).filter(|(_, text)| !text.trim().is_empty());
        lines.filter(|(line, _)| !tests.iter().any(|test| test.contains(line))).count()
    }

    /// The first name after the crate's root in each path that goes there.
    pub(crate) fn names_at_root(&self) -> Vec<&Token> {
        let mut names = Vec::new();
        for at in 0..self.tokens.len() {
            if self.is(at, &["crate", "::"]) {
                self.follow(at + 2, 0, &mut names);
            } else if self.is(at, &["super", "::"]) && !self.continues_path(at) {
                self.follow(at, self.depth_at(at), &mut names);
            }
        }
        names
    }

    /// Whether a path that began before `at` goes on there; `self::` changes nothing.
    fn continues_path(&self, at: usize) -> bool {
        at >= 2 && self.text_at(at - 1) == "::" && self.text_at(at - 2) != "self"
    }

    /// How many modules deep a token is.
    fn depth_at(&self, at: usize) -> usize {
        let modules = self.modules().into_iter();
        self.depth() + modules.filter(|&(first, last, _)| first < at && at < last).count()
    }

    /// Follows a path from a module that is `depth` below the root, into each branch of a group.
    fn follow<'a>(&'a self, at: usize, depth: usize, names: &mut Vec<&'a Token>) {
        if self.is(at, &["super", "::"]) {
            self.follow(at + 2, depth.saturating_sub(1), names);
        } else if self.text_at(at) == "{" {
            for branch in self.branches(at) {
                self.follow(branch, depth, names);
            }
        } else if depth == 0 {
            names.push(&self.tokens[at]);
        }
    }

    /// Where the branches of the group that opens at `open` begin.
    fn branches(&self, open: usize) -> Vec<usize> {
        let (close, mut at, mut starts) = (self.closing(open), open + 1, vec![open + 1]);
        while at < close {
            match self.text_at(at) {
                "{" => at = self.closing(at),
                "," => starts.push(at + 1),
                _ => {}
            }
            at += 1;
        }
        starts.retain(|&start| start < close);
        starts
    }
}

/// The kind and length of the piece at the front of `rest`, which is not empty.
fn piece(rest: &[char]) -> (Kind, usize) {
    match rest {
        ['/', '/', ..] => (Kind::Comment, line_len(rest)),
        ['/', '*', ..] => (Kind::Comment, block_comment_len(rest)),
        ['"', ..] => (Kind::Literal, quoted_len(rest, '"')),
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => (Kind::Literal, quoted_len(rest, '\'')),
        ['r', '"' | '#', ..] => raw_len(rest).map_or((Kind::Code, 1), |len| (Kind::Literal, len)),
        _ => (Kind::Code, 1),
    }
}

fn line_len(rest: &[char]) -> usize {
    rest.iter().position(|&char| char == '\n').unwrap_or(rest.len())
}

fn block_comment_len(rest: &[char]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_len(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    rest.len().min(at + 1)
}

/// The length of a raw string, unless it is a raw name.
fn raw_len(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&char| char == '#').count();
    let start = 1 + hashes;
    if rest.get(start) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = ['"'].into_iter().chain(vec!['#'; hashes]).collect();
    let body = rest[start + 1..].windows(end.len()).position(|window| window == end)?;
    Some(start + 1 + body + end.len())
}

/// Cuts code into names, `::` and single characters.
pub(crate) fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (line, text) in (1..).zip(code.lines()) {
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|char| !is_word_char(char)).unwrap_or(rest.len());
            let colons = if rest.starts_with("::") { 2 } else { 0 };
            let len = word.max(colons).max(if word == 0 { first.len_utf8() } else { 0 });
            tokens.push(Token { text: rest[..len].to_owned(), line });
            rest = rest[len..].trim_start();
        }
    }
    tokens
}

pub(crate) fn is_word_char(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of a text, its tokens parted by single blanks.
    fn code(text: &str) -> String {
        let source = Source::new("src/id.rs", text);
        let tokens: Vec<_> = source.tokens.iter().map(|token| token.text.as_str()).collect();
        tokens.join(" ")
    }

    fn names(path: &str, text: &str) -> Vec<String> {
        let source = Source::new(path, text);
        source.names_at_root().iter().map(|token| token.text.clone()).collect()
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        assert_eq!(code("a // b\nc"), "a c");
        assert_eq!(code("a /* b /* c */ d\n */ e"), "a e");
        assert_eq!(code(r#"a "b \" c" d"#), "a d");
        assert_eq!(code(r##"a r#"b " c"# d br"e" f"##), "a d b f");
        assert_eq!(code(r"a '{' b '\'' c '\u{7d}' d"), "a b c d");
    }

    #[test]
    fn lifetimes_and_raw_names_are_code() {
        assert_eq!(code("<'a, 'b>(r#fn: &'a str)"), "< ' a , ' b > ( r # fn : & ' a str )");
    }

    #[test]
    fn a_token_knows_its_line() {
        let source = Source::new("src/id.rs", "a\n\n  \"\n\" b");
        let lines: Vec<_> = source.tokens.iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 4]);
    }

    #[test]
    fn a_function_goes_from_fn_to_its_closing_brace() {
        let text = "trait T {\nfn a(&self);\nfn b() -> [fn(u8); 2] {\n{}\n'}';\n}\n}";
        assert_eq!(Source::new("src/id.rs", text).functions(), [(3, 6)]);
    }

    #[test]
    fn blank_lines_comments_and_test_modules_are_not_counted() {
        let text = "// a\n\nb;\n/* c\nd */ e;\n\"\nf\";\n#[cfg(test)]\nmod tests {\ng;\n}\nh;";
        // `#[cfg(test)]` itself counts
        assert_eq!(Source::new("src/id.rs", text).code_lines(), 6);
    }

    #[test]
    fn paths_from_the_root_are_found_in_groups_too() {
        let text = "use crate::{a, b::{c, d}, e::f as g,\n}; fn x() { crate::h::i() }";
        assert_eq!(names("src/id.rs", text), ["a", "b", "e", "h"]);
    }

    #[test]
    fn super_reaches_the_root_only_from_deep_enough() {
        assert_eq!(names("src/id.rs", "use super::{a::b, c}; self::super::d!()"), ["a", "c", "d"]);
        assert_eq!(names("src/sys/mod.rs", "super::a"), ["a"]);
        let text = "super::a; super::super::b; use super::{c, super::d};";
        assert_eq!(names("src/sys/os.rs", text), ["b", "d"]);
        let text = "mod tests { use super::*; use super::super::a; } use super::b;";
        assert_eq!(names("src/id.rs", text), ["a", "b"]);
    }
}
