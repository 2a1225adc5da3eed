//! The values of the parameters of a route, and the path that was matched last.

use super::field_list::place_in;
use super::known::{is_due, is_same};

/// The values of the parameters of a route: segments of the path, or parts of them.
#[derive(Debug)]
pub(super) enum Values<'a> {
    /// As the tree of routes has matched them.
    Found(matchit::Params<'a, 'a>),
    /// As they were matched before, in the same path.
    Kept(&'a [Value]),
}

/// A parameter: its name, and where its value begins and ends in the path.
#[derive(Debug)]
pub(super) struct Value {
    name: Box<str>,
    range: (u16, u16),
}

impl<'a> Values<'a> {
    /// The values of a route without parameters: none.
    pub(super) const NONE: Self = Self::Kept(&[]);

    /// The value of a parameter, which is a part of the path; empty if the route has no such one.
    #[inline]
    pub(super) fn get(&self, name: &str, path: &'a str) -> &'a str {
        let found = match self {
            Self::Found(params) => params.get(name),
            Self::Kept(values) => {
                let value = values.iter().find(|value| *value.name == *name);
                value.and_then(|value| path.get(value.range.0.into()..value.range.1.into()))
            }
        };
        found.unwrap_or_default()
    }
}

/// The path that was matched last, and its route: the next request is likely to have the same.
#[derive(Debug, Default)]
pub(super) struct LastPath {
    path: String,
    route: usize,
    values: Vec<Value>,
    /// How many other paths with parameters were met: some of them are kept.
    unknown: u32,
}

impl LastPath {
    /// Whether this path was matched last.
    #[inline]
    pub(super) fn is(&self, path: &str) -> bool {
        is_same(path, &self.path)
    }

    /// The index of its route, and the values of its parameters.
    #[inline]
    pub(super) fn found(&self) -> (usize, Values<'_>) {
        (self.route, Values::Kept(&self.values))
    }

    /// Another path was matched. A route with parameters may have many, so only some are kept.
    #[inline]
    pub(super) fn note(&mut self, path: &str, route: usize, params: &matchit::Params<'_, '_>) {
        if params.is_empty() || is_due(&mut self.unknown) {
            self.keep(path, route, params);
        }
    }

    /// The names of the parameters of a route that is kept already are not copied anew.
    #[inline(never)]
    fn keep(&mut self, path: &str, route: usize, params: &matchit::Params<'_, '_>) {
        if self.route != route || self.values.len() != params.len() {
            self.values.clear();
        }
        self.route = route;
        self.path.clear();
        for (index, (name, value)) in params.iter().enumerate() {
            // Of one that is too long nothing is kept: no path is empty.
            let Some(range) = place_in(path.as_bytes(), value.as_bytes()) else { return };
            match self.values.get_mut(index) {
                Some(value) => value.range = range,
                None => self.values.push(Value { name: name.into(), range }),
            }
        }
        self.path.push_str(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of two parameters in a path, as they are matched and as they are kept.
    fn both(last: &mut LastPath, path: &str) -> [String; 2] {
        let mut tree = matchit::Router::new();
        for (index, route) in ["/a", "/{x}/b/{y}", "/f/{*y}"].into_iter().enumerate() {
            tree.insert(route, index).unwrap();
        }
        let found = tree.at(path).unwrap();
        let index = *found.value;
        last.unknown = 0; // this one is kept
        last.note(path, index, &found.params);
        let say = |values: &Values<'_>| ["x", "y", "z"].map(|it| values.get(it, path)).join("|");
        let (kept_index, kept) = last.found();
        assert!(last.is(path) && kept_index == index, "{path}");
        [say(&Values::Found(found.params)), say(&kept)]
    }

    #[test]
    fn what_is_kept_is_what_was_found() {
        let mut last = LastPath::default();
        for (path, expected) in [
            ("/1/b/22", "1|22|"),
            ("/f/a/b/c.d", "|a/b/c.d|"),
            ("/a", "||"),
            ("/\u{e4}/b/\u{20ac}", "\u{e4}|\u{20ac}|"),
            ("/1/b/22", "1|22|"),
            ("/333/b/4", "333|4|"),
        ] {
            assert_eq!(both(&mut last, path), [expected; 2], "{path}");
        }
    }

    #[test]
    fn of_paths_with_parameters_one_of_32_is_kept() {
        let mut tree = matchit::Router::new();
        tree.insert("/{x}", 0).unwrap();
        let mut last = LastPath::default();
        for number in 0..70 {
            let path = format!("/{number}");
            last.note(&path, 0, &tree.at(&path).unwrap().params);
            assert_eq!(last.is(&path), number % 32 == 0, "{number}");
        }
        let long = format!("/{}", "a".repeat(1 << 16));
        last.unknown = 0;
        last.note(&long, 0, &tree.at(&long).unwrap().params);
        assert!(!last.is(&long), "it is too long for its range to be kept");
    }
}
