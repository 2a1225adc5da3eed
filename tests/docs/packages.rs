//! What the packages of the workspace offer: read from their manifests and folders, of which a few
//! forms of lines are all that is needed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) struct Package {
    directory: PathBuf,
    manifest: Vec<(String, String)>,
}

/// All packages of the workspace by name.
pub(crate) fn packages() -> BTreeMap<String, Package> {
    let root = Package::read(&super::root());
    let members = root.values("workspace").filter(|(key, _)| *key == "members");
    let members: Vec<String> = members.flat_map(|(_, value)| strings(value)).collect();
    assert!(members.len() > 5, "the manifest lists {members:?} only");
    let members = members.iter().map(|member| Package::read(&super::root().join(member)));
    members.chain([root]).map(|package| (package.name(), package)).collect()
}

/// The texts between quotation marks.
fn strings(value: &str) -> impl Iterator<Item = String> {
    value.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

impl Package {
    fn read(directory: &Path) -> Self {
        let path = directory.join("Cargo.toml");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        Self { directory: directory.to_owned(), manifest: pairs(&text) }
    }

    /// The keys and values of a table, and of all tables of a list.
    fn values<'a>(&'a self, table: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.manifest.iter().filter_map(move |(key, value)| {
            let key = key.strip_prefix(table)?.strip_prefix('.')?;
            (!key.contains('.')).then_some((key, value.as_str()))
        })
    }

    fn name(&self) -> String {
        let name = self.values("package").find(|(key, _)| *key == "name").expect("has a name");
        strings(name.1).next().expect("the name is a text")
    }

    pub(crate) fn has_feature(&self, name: &str) -> bool {
        self.values("features").any(|(key, _)| key == name)
    }

    /// The features that a target wants, and `None` if there is no such target.
    pub(crate) fn target(&self, kind: &str, name: &str) -> Option<Vec<String>> {
        let mut wanted = None;
        let mut is_it = false;
        for (key, value) in self.values(kind) {
            if key == "name" {
                is_it = strings(value).any(|text| text == name);
                if is_it {
                    wanted = Some(Vec::new());
                }
            } else if is_it && key == "required-features" {
                wanted = Some(strings(value).collect());
            }
        }
        wanted.or_else(|| self.has_file(kind, name).then(Vec::new))
    }

    fn has_file(&self, kind: &str, name: &str) -> bool {
        let folder = match kind {
            "bin" => "src/bin",
            "example" => "examples",
            "test" => "tests",
            _ => "benches",
        };
        let folder = self.directory.join(folder);
        let is_main = kind == "bin" && name == self.name() && self.has_main();
        is_main
            || folder.join(format!("{name}.rs")).is_file()
            || (folder.join(name).join("main.rs").is_file()
                && !folder.join(name).join("Cargo.toml").exists())
    }

    /// Whether `cargo run` without a target runs something.
    pub(crate) fn has_main(&self) -> bool {
        self.directory.join("src/main.rs").is_file()
    }

    /// All that the program's own files say, where an option stands that it takes.
    pub(crate) fn sources(&self) -> String {
        let mut text = String::new();
        read_all(&self.directory.join("src"), &mut text);
        text
    }
}

/// Adds the text of all Rust files under a directory.
pub(crate) fn read_all(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *text += &fs::read_to_string(&path).unwrap();
        }
    }
}

/// `table.key` and value of each line, a list over several lines as a single value.
fn pairs(manifest: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut table = "";
    let mut is_open = false;
    for line in manifest.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if is_open {
            let (_, value) = pairs.last_mut().expect("a list has begun");
            *value += line;
            is_open = !line.starts_with(']');
        } else if line.starts_with('[') {
            table = line.trim_matches(['[', ']']);
        } else if let Some((key, value)) = line.split_once('=') {
            is_open = value.trim() == "[";
            pairs.push((format!("{table}.{}", key.trim()), value.trim().into()));
        }
    }
    pairs
}
