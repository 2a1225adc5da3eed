//! The values of the parameters of a route, and the path that was found last.

use super::field_list::place_in;
use super::known::{is_due, is_same};

/// The values of the parameters of a route: parts of the path.
#[derive(Debug)]
pub(super) enum Values<'a> {
    /// As the tree of routes has found them.
    Found(matchit::Params<'a, 'a>),
    /// As they were found before, in the same path.
    Kept(&'a [Value]),
}

/// The value of a parameter: the name of that, and where the value begins and ends in the path.
#[derive(Debug)]
pub(super) struct Value {
    name: Box<str>,
    place: (u16, u16),
}

impl<'a> Values<'a> {
    /// The values of a route without parameters: none.
    pub(super) const NONE: Self = Self::Kept(&[]);

    /// The value of a name, which is a part of the path; empty if there is none.
    #[inline]
    pub(super) fn get(&self, name: &str, path: &'a str) -> &'a str {
        let found = match self {
            Self::Found(params) => params.get(name),
            Self::Kept(values) => {
                let value = values.iter().find(|value| *value.name == *name);
                value.and_then(|value| path.get(value.place.0.into()..value.place.1.into()))
            }
        };
        found.unwrap_or_default()
    }
}

/// The path that was found last, and its route: the next request is likely to have the same.
#[derive(Debug, Default)]
pub(super) struct LastPath {
    path: String,
    route: usize,
    values: Vec<Value>,
    /// How many other paths with parameters were met: some of them are kept.
    unknown: u32,
}

impl LastPath {
    /// Whether this path was found last.
    #[inline]
    pub(super) fn is(&self, path: &str) -> bool {
        is_same(path, &self.path)
    }

    /// The index of its route, and the values of the parameters.
    #[inline]
    pub(super) fn found(&self) -> (usize, Values<'_>) {
        (self.route, Values::Kept(&self.values))
    }

    /// Another path was found. Of a route with parameters there may be many, so only some are kept.
    #[inline]
    pub(super) fn note(&mut self, path: &str, route: usize, params: &matchit::Params<'_, '_>) {
        if params.is_empty() || is_due(&mut self.unknown) {
            self.keep(path, route, params);
        }
    }

    /// The names of a route that is kept already are not copied anew.
    #[inline(never)]
    fn keep(&mut self, path: &str, route: usize, params: &matchit::Params<'_, '_>) {
        if self.route != route || self.values.len() != params.len() {
            self.values.clear();
        }
        self.route = route;
        self.path.clear();
        for (index, (name, value)) in params.iter().enumerate() {
            // Of one that is too long nothing is kept: no path is empty.
            let Some(place) = place_in(path.as_bytes(), value.as_bytes()) else { return };
            match self.values.get_mut(index) {
                Some(value) => value.place = place,
                None => self.values.push(Value { name: name.into(), place }),
            }
        }
        self.path.push_str(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of two names in a path, as they are found and as they are kept.
    fn both(last: &mut LastPath, path: &str) -> [String; 2] {
        let mut tree = matchit::Router::new();
        for (place, route) in ["/a", "/{x}/b/{y}", "/f/{*y}"].into_iter().enumerate() {
            tree.insert(route, place).unwrap();
        }
        let found = tree.at(path).unwrap();
        let place = *found.value;
        last.unknown = 0; // this one is kept
        last.note(path, place, &found.params);
        let say = |values: &Values<'_>| ["x", "y", "z"].map(|it| values.get(it, path)).join("|");
        let (kept_place, kept) = last.found();
        assert!(last.is(path) && kept_place == place, "{path}");
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
    fn of_paths_with_places_one_of_32_is_kept() {
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
        assert!(!last.is(&long), "it is too long for its place to be kept");
    }
}
