//! The value of `Sec-WebSocket-Extensions` (RFC 6455, section 9.1).

/// An extension of a list, with its parameters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extension<'a> {
    pub(super) name: &'a str,
    pub(super) params: Vec<(&'a str, Option<&'a str>)>,
}

/// Reads a list of extensions. `None`: it does not follow the grammar.
pub(super) fn parse(value: &[u8]) -> Option<Vec<Extension<'_>>> {
    let mut parser = Parser { left: std::str::from_utf8(value).ok()? };
    let mut list = Vec::new();
    loop {
        parser.skip_blanks();
        if parser.left.is_empty() {
            return Some(list);
        }
        if parser.takes(',') {
            continue; // an empty member of a list counts for nothing
        }
        list.push(parser.extension()?);
        parser.skip_blanks();
        if !parser.left.is_empty() && !parser.takes(',') {
            return None;
        }
    }
}

struct Parser<'a> {
    left: &'a str,
}

impl<'a> Parser<'a> {
    fn extension(&mut self) -> Option<Extension<'a>> {
        let name = self.token()?;
        let mut params = Vec::new();
        loop {
            self.skip_blanks();
            if !self.takes(';') {
                return Some(Extension { name, params });
            }
            self.skip_blanks();
            let name = self.token()?;
            let value = if self.takes('=') { Some(self.value()?) } else { None };
            params.push((name, value));
        }
    }

    /// A token, or one in quotes: what stands in quotes must be a token as well.
    fn value(&mut self) -> Option<&'a str> {
        if !self.takes('"') {
            return self.token();
        }
        let value = self.token()?;
        self.takes('"').then_some(value)
    }

    fn token(&mut self) -> Option<&'a str> {
        let end = self.left.find(|char: char| !is_token(char)).unwrap_or(self.left.len());
        let (token, left) = self.left.split_at(end);
        self.left = left;
        (end > 0).then_some(token)
    }

    fn takes(&mut self, char: char) -> bool {
        let left = self.left.strip_prefix(char);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    fn skip_blanks(&mut self) {
        self.left = self.left.trim_start_matches([' ', '\t']);
    }
}

fn is_token(char: char) -> bool {
    char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read() {
        let list = parse(b" , foo;a;b=1 , bar ; c=\"2\",").unwrap();
        let [foo, bar] = &list[..] else { panic!("{list:?}") };
        assert_eq!((foo.name, bar.name), ("foo", "bar"));
        assert_eq!(foo.params, [("a", None), ("b", Some("1"))]);
        assert_eq!(bar.params, [("c", Some("2"))]);
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            "foo bar",
            "foo;",
            "foo;=1",
            "foo;a=",
            "foo;a=\"",
            "foo;a=\"1",
            "foo;a=\"\"",
            "foo;a=\"1 2\"",
            "=",
            "foo;a = 1",
            "\"foo\"",
            "foo;a=1\"",
            "f\u{e4}",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"foo\xff"), None);
    }
}
