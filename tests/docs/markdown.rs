//! A document as sections, each with what has to be the same in every language.

/// What stands under a heading.
#[derive(Debug, Default)]
pub(crate) struct Section {
    /// The number of `#`, and 0 for what stands before the first heading.
    pub(crate) level: usize,
    pub(crate) title: String,
    /// Code blocks: between fences, or indented by four blanks after an empty line.
    pub(crate) blocks: Vec<String>,
    /// The text without its code blocks.
    pub(crate) text: String,
}

pub(crate) fn sections(text: &str) -> Vec<Section> {
    let mut sections = vec![Section::default()];
    let mut lines = text.lines().peekable();
    let mut after_empty = true;
    while let Some(line) = lines.next() {
        let section = sections.last_mut().expect("the first one is always there");
        if line.starts_with("```") {
            let mut block = vec![line];
            block.extend(lines.by_ref().take_while(|line| !line.starts_with("```")));
            section.blocks.push(block.join("\n"));
        } else if after_empty && line.starts_with("    ") {
            let mut block = vec![line];
            while let Some(next) = lines.next_if(|line| line.starts_with("    ")) {
                block.push(next);
            }
            section.blocks.push(block.join("\n"));
        } else if let Some((marks, title)) =
            line.split_once(' ').filter(|(marks, _)| is_mark(marks))
        {
            sections.push(Section {
                level: marks.len(),
                title: title.into(),
                ..Section::default()
            });
        } else {
            section.text += line;
            section.text.push('\n');
        }
        after_empty = line.is_empty();
    }
    sections
}

fn is_mark(marks: &str) -> bool {
    !marks.is_empty() && marks.chars().all(|char| char == '#')
}

impl Section {
    /// What stands between single backticks, sorted.
    pub(crate) fn code(&self) -> Vec<String> {
        let spans = self.text.split('`').skip(1).step_by(2);
        // A span may go on in the next line.
        let mut code: Vec<String> = spans.map(|span| span.replace('\n', " ")).collect();
        code.sort_unstable();
        code
    }

    /// The numbers outside of code and of links' targets, sorted: `1,000`, `0.88`, `8305`.
    pub(crate) fn numbers(&self) -> Vec<String> {
        let prose: Vec<&str> = self.text.split('`').step_by(2).collect();
        let prose = without_targets(&prose.join(" "));
        let mut numbers: Vec<String> = prose
            .split(|char: char| !char.is_ascii_digit() && char != ',' && char != '.')
            .map(|number| number.trim_matches([',', '.']).to_owned())
            .filter(|number| number.contains(|char: char| char.is_ascii_digit()))
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// The targets of links, in order.
    pub(crate) fn links(&self) -> Vec<&str> {
        let parts = self.text.split("](").skip(1);
        parts.filter_map(|part| part.split_once(')')).map(|(target, _)| target).collect()
    }
}

fn without_targets(text: &str) -> String {
    let mut parts = text.split("](");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push(' ');
        kept += part.split_once(')').map_or(part, |(_, rest)| rest);
    }
    kept
}

/// The anchor that a site makes of a title: small letters, `-` for blanks, no punctuation.
pub(crate) fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}
