//! As much of JSON as the examples print, read strictly.

use std::collections::BTreeMap;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Flag(bool),
    Whole(u64),
    Number(f64),
    Text(String),
    List(Vec<Self>),
    Object(BTreeMap<String, Self>),
}

impl Json {
    /// Reads one value, and nothing behind it.
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let mut rest = text.trim();
        let value = value(&mut rest).unwrap_or_else(|| panic!("no JSON before {rest:?} in {text}"));
        assert_eq!(rest.trim(), "", "behind the value");
        value
    }

    /// The member of an object, of a member of it, and so on.
    #[track_caller]
    pub(crate) fn at(&self, path: &[&str]) -> &Self {
        path.iter().fold(self, |value, key| match value {
            Self::Object(members) => members.get(*key).unwrap_or_else(|| panic!("no {key}")),
            value => panic!("{key} in {value:?}"),
        })
    }

    #[track_caller]
    pub(crate) fn whole(&self) -> u64 {
        match self {
            Self::Whole(number) => *number,
            value => panic!("{value:?} is no number"),
        }
    }

    #[track_caller]
    pub(crate) fn list(&self) -> &[Self] {
        match self {
            Self::List(values) => values,
            value => panic!("{value:?} is no list"),
        }
    }
}

/// Takes a value from the beginning; `None` if there is none.
fn value(rest: &mut &str) -> Option<Json> {
    *rest = rest.trim_start();
    match rest.chars().next()? {
        '{' => {
            let members = items(rest, '{', '}', |rest| {
                let key = text(rest)?;
                take(rest, ':')?;
                Some((key, value(rest)?))
            })?;
            Some(Json::Object(members.into_iter().collect()))
        }
        '[' => items(rest, '[', ']', value).map(Json::List),
        '"' => text(rest).map(Json::Text),
        'n' => {
            *rest = rest.strip_prefix("null")?;
            Some(Json::Null)
        }
        't' => {
            *rest = rest.strip_prefix("true")?;
            Some(Json::Flag(true))
        }
        'f' => {
            *rest = rest.strip_prefix("false")?;
            Some(Json::Flag(false))
        }
        _ => {
            let is_part = |char: char| char.is_ascii_digit() || char == '.';
            let end = rest.find(|char| !is_part(char)).unwrap_or(rest.len());
            let (number, behind) = rest.split_at(end);
            *rest = behind;
            match number.contains('.') {
                true => Some(Json::Number(number.parse().ok()?)),
                false => Some(Json::Whole(number.parse().ok()?)),
            }
        }
    }
}

fn items<T>(
    rest: &mut &str,
    open: char,
    close: char,
    item: impl Fn(&mut &str) -> Option<T>,
) -> Option<Vec<T>> {
    take(rest, open)?;
    let mut items = Vec::new();
    if take(rest, close).is_some() {
        return Some(items);
    }
    loop {
        items.push(item(rest)?);
        if take(rest, ',').is_none() {
            take(rest, close)?;
            return Some(items);
        }
    }
}

/// A text. Of the escapes those that are looked at: quotes, backslashes, and `\u` of one word.
fn text(rest: &mut &str) -> Option<String> {
    take(rest, '"')?;
    let mut text = String::new();
    loop {
        let mut chars = rest.chars();
        match chars.next()? {
            '"' => {
                *rest = chars.as_str();
                return Some(text);
            }
            '\\' => match chars.next()? {
                'u' => {
                    let (digits, behind) = chars.as_str().split_at_checked(4)?;
                    text.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
                    chars = behind.chars();
                }
                it @ ('"' | '\\') => text.push(it),
                _ => return None,
            },
            it if it.is_control() => return None,
            it => text.push(it),
        }
        *rest = chars.as_str();
    }
}

fn take(rest: &mut &str, char: char) -> Option<()> {
    *rest = rest.trim_start().strip_prefix(char)?;
    Some(())
}
