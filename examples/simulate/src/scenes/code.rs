//! Functions of the library, cut out of its files.

/// A file of the library, and which of its functions are shown.
pub(super) struct Code {
    pub(super) path: &'static str,
    pub(super) text: &'static str,
    pub(super) functions: &'static [&'static str],
}

/// The code of functions, by the path of their file from the root.
macro_rules! code {
    ($path:literal, $($function:literal),+) => {
        $crate::scenes::code::Code {
            path: $path,
            text: include_str!(concat!("../../../../", $path)),
            functions: &[$($function),+],
        }
    };
}

pub(super) use code;

impl Code {
    /// Each function with its comment: where it stands, and its text.
    pub(super) fn excerpts(&self) -> Result<Vec<(String, String)>, String> {
        self.functions.iter().map(|name| self.excerpt(name)).collect()
    }

    fn excerpt(&self, name: &str) -> Result<(String, String), String> {
        let lines: Vec<&str> = self.text.lines().collect();
        let heads = [format!("fn {name}("), format!("fn {name}<")];
        let head = lines.iter().position(|line| heads.iter().any(|head| line.contains(head)));
        let head = head.ok_or_else(|| format!("{} has no function {name}", self.path))?;
        let indent = lines[head].len() - lines[head].trim_start().len();
        let is_note = |line: &&&str| {
            let line = line.trim_start();
            line.starts_with("///") || line.starts_with("#[")
        };
        let first = head - lines[..head].iter().rev().take_while(is_note).count();
        let last = lines[head..].iter().position(|line| line.trim_end() == indented(indent, "}"));
        let last = head + last.ok_or_else(|| format!("{name} of {} has no end", self.path))?;
        let cut = |line: &&str| line.get(indent..).unwrap_or("").to_owned();
        let text: Vec<String> = lines[first..=last].iter().map(cut).collect();
        Ok((format!("{}:{} fn {name}", self.path, head + 1), text.join("\n")))
    }
}

fn indented(indent: usize, text: &str) -> String {
    format!("{}{text}", " ".repeat(indent))
}
