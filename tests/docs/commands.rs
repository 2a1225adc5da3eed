//! The lines with `cargo` that readers are told to type.

use std::collections::BTreeMap;

use super::packages::Package;

/// The commands in a text, each in a line of its own or between backticks. A backslash at the end
/// joins lines.
pub(crate) fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut lines = text.lines().map(bare);
    while let Some(line) = lines.next() {
        let mut line = line.to_owned();
        while let Some(begin) = line.strip_suffix('\\') {
            line = format!("{begin} {}", lines.next().unwrap_or_default());
        }
        let is_whole = line.starts_with("cargo ") && !line.contains('`');
        let spans = line.split('`').skip(1).step_by(2).filter(|span| span.starts_with("cargo "));
        if is_whole {
            commands.push(line.clone());
        } else {
            commands.extend(spans.map(str::to_owned));
        }
    }
    commands
}

/// A line without the marks of comments, quotations and variables before the command.
fn bare(line: &str) -> &str {
    let line = line.trim_start_matches(['/', '!', '#', '$', '>', ' ']).trim_end();
    match line.split_once(" cargo ") {
        Some((variables, _)) if variables.split(' ').all(|word| word.contains("=")) => {
            &line[variables.len() + 1..]
        }
        _ => line,
    }
}

/// What is wrong with a command: names of packages, targets and features that are not there, and
/// options that the program does not know.
pub(crate) fn check(command: &str, packages: &BTreeMap<String, Package>) -> Vec<String> {
    let (cargo, program) = command.split_once(" -- ").unwrap_or((command, ""));
    let words: Vec<&str> = cargo.split_whitespace().skip(1).collect();
    let Some(verb) = words.iter().find(|word| !word.starts_with('+')) else { return Vec::new() };
    if !["run", "test", "bench", "build", "doc", "check", "clippy"].contains(verb) {
        return Vec::new();
    }
    let name = option(&words, &["-p", "--package"]).next().unwrap_or("waterwheel");
    let name = if is_place(name) { "waterwheel" } else { name };
    let Some(package) = packages.get(name) else {
        return vec![format!("there is no package {name}")];
    };
    let features: Vec<&str> =
        option(&words, &["--features", "-F"]).flat_map(|list| list.split(',')).collect();
    let mut wrong = check_features(&features, name, packages);
    wrong.extend(check_targets(&words, &features, package));
    let has_target = words.iter().any(|word| ["--example", "--bin"].contains(word));
    if *verb == "run" && !has_target && !words.contains(&"NAME") && !package.has_main() {
        wrong.push(format!("{name} has no program of its own"));
    }
    if *verb == "run" && !words.contains(&"--example") {
        let known = package.sources() + &packages["support"].sources();
        let options = program.split_whitespace().filter(|word| word.starts_with("--"));
        let unknown = options.filter(|option| option.len() > 2 && !knows(&known, option));
        wrong.extend(unknown.map(|option| format!("{name} knows no {option}")));
        // The mode comes first, if a program has some.
        let is_mode = |word: &&str| word.chars().all(|char| char.is_ascii_lowercase());
        let modes = program.split_whitespace().take_while(is_mode);
        let unknown = modes.filter(|mode| !known.contains(&format!("\"{mode}\"")));
        wrong.extend(unknown.map(|mode| format!("{name} has no mode {mode}")));
    }
    wrong
}

fn check_features(
    features: &[&str],
    name: &str,
    packages: &BTreeMap<String, Package>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for feature in features {
        let (owner, feature) = feature.split_once('/').unwrap_or((name, feature));
        if !packages.get(owner).is_some_and(|owner| owner.has_feature(feature)) {
            wrong.push(format!("{owner} has no feature {feature}"));
        }
    }
    wrong
}

fn check_targets(words: &[&str], features: &[&str], package: &Package) -> Vec<String> {
    let has_all = words.contains(&"--all-features");
    let mut wrong = Vec::new();
    for kind in ["bin", "example", "test", "bench"] {
        for target in option(words, &[&format!("--{kind}")]).filter(|name| !is_place(name)) {
            let Some(wanted) = package.target(kind, target) else {
                wrong.push(format!("there is no {kind} {target}"));
                continue;
            };
            let lacks = wanted.iter().filter(|it| !has_all && !features.contains(&it.as_str()));
            wrong.extend(lacks.map(|it| format!("{kind} {target} wants the feature {it}")));
        }
    }
    wrong
}

/// Whether the sources of a program have an option, as a text or as a name of a parser's.
fn knows(sources: &str, option: &str) -> bool {
    sources.contains(&format!("\"{option}\"")) || sources.contains(&format!("\"{}\"", &option[2..]))
}

/// A word in capitals stands for a name.
fn is_place(name: &str) -> bool {
    name.chars().all(|char| char.is_ascii_uppercase() || "{}_".contains(char))
        || name.starts_with('{')
}

/// The values of an option, as the next word or behind `=`.
fn option<'a>(words: &'a [&'a str], names: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    words.iter().enumerate().filter_map(move |(at, word)| {
        if names.contains(word) {
            return words.get(at + 1).copied();
        }
        let (name, value) = word.split_once('=')?;
        names.contains(&name).then_some(value)
    })
}
