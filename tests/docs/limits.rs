//! The chapter on limits, against the limits: every field with its default and its value for the
//! internet.

use waterwheel::Limits;

use super::read;

#[test]
fn the_chapter_has_every_limit_with_its_values() {
    let text = read("src/guide/tour/limits.md");
    let told: Vec<[String; 3]> = rows(&text).collect();
    let (default, internet) = (fields(&Limits::default()), fields(&Limits::internet()));
    assert!(default.len() > 10, "{default:?}");
    let real = default.iter().zip(&internet);
    let real: Vec<[String; 3]> =
        real.map(|((name, one), (_, other))| [name.clone(), one.clone(), other.clone()]).collect();
    assert_eq!(told, real);
}

/// Name, default and value for the internet, of the table that has three such columns.
fn rows(text: &str) -> impl Iterator<Item = [String; 3]> {
    let table = text.lines().skip_while(|line| !line.starts_with("| limit | default | internet"));
    let rows = table.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        // A number in brackets refers to what stands below.
        let plain = |cell: &str| cell.split(" (").next().unwrap_or_default().replace('`', "");
        [plain(cells[1]), plain(cells[2]), plain(cells[3])]
    })
}

/// The fields as `Debug` lists them, with values as people write them.
fn fields(limits: &Limits) -> Vec<(String, String)> {
    let text = format!("{limits:?}");
    let inner = text.trim_start_matches("Limits { ").trim_end_matches(" }");
    let mut fields = Vec::new();
    let (mut depth, mut begin) = (0, 0);
    for (at, char) in inner.char_indices().chain([(inner.len(), ',')]) {
        match char {
            '(' | '{' => depth += 1,
            ')' | '}' => depth -= 1,
            ',' if depth == 0 => {
                let (name, value) = inner[begin..at].split_once(": ").expect("name and value");
                fields.push((name.trim().to_owned(), spell(name.trim(), value)));
                begin = at + 1;
            }
            _ => {}
        }
    }
    fields
}

fn spell(name: &str, value: &str) -> String {
    let value = value.trim_start_matches("Some(").trim_end_matches(')');
    if let Some(rate) = value.strip_prefix("MinRate { bytes_per_second: ") {
        let (rate, grace) = rate.split_once(", grace: ").expect("a rate has both");
        let grace = spell("grace", grace.trim_end_matches(" }"));
        let (thousands, rest) = rate.split_at(rate.len() - 3);
        return format!("{thousands},{rest} B/s, grace {grace}");
    }
    let bytes: Option<usize> = value.parse().ok().filter(|_| name.ends_with("_bytes"));
    let seconds = value.strip_suffix('s').and_then(|number| number.parse::<u64>().ok());
    match (value, bytes, seconds) {
        ("None", ..) => "none".into(),
        ("true", ..) => "on".into(),
        ("false", ..) => "off".into(),
        (_, Some(bytes), _) if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        (_, Some(bytes), _) => format!("{} KiB", bytes >> 10),
        (.., Some(seconds)) if seconds > 60 => format!("{} min", seconds / 60),
        (.., Some(seconds)) => format!("{seconds} s"),
        _ => value.into(),
    }
}
