//! The inventory of certificates as a table for people.

use std::fmt::Write as _;

use super::Entry;
use crate::report::visible::visible;

const HEAD: [&str; 7] = ["NAME", "HOST", "EXPIRES", "RESIDUAL", "CA", "EXTERNAL", "SERVED"];

/// One line per certificate, and below it why it is due.
#[must_use]
pub fn to_text(entries: &[Entry]) -> String {
    let rows: Vec<[String; 7]> = entries.iter().map(row).collect();
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).chain([HEAD[column].len()]).max().unwrap_or(0))
        .collect();
    let line = |cells: [&str; 7]| {
        let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let mut text = line(HEAD) + "\n";
    for (entry, row) in entries.iter().zip(&rows) {
        writeln!(text, "{}", visible(&line(row.each_ref().map(String::as_str)))).expect("writing to a string");
        if let Some(due) = &entry.due {
            writeln!(text, "    renew: {}", visible(due)).expect("writing to a string");
        }
    }
    text
}

fn row(entry: &Entry) -> [String; 7] {
    let expires = entry.not_after.map_or_else(|| "unreadable".to_owned(), |at| at.strftime("%Y-%m-%d %H:%MZ").to_string());
    let served = match &entry.served {
        None => String::new(),
        Some(served) => match (&served.problem, served.loaded, &entry.path) {
            (Some(problem), ..) => format!("not seen: {problem}"),
            (None, true, Some(_)) => "yes".to_owned(),
            (None, true, None) => "from memory".to_owned(),
            (None, false, _) => {
                let until = served.not_after.map(|at| format!(" until {}", at.strftime("%Y-%m-%d %H:%MZ"))).unwrap_or_default();
                format!("not loaded yet: serves {}{until}", served.serial.as_deref().unwrap_or("another"))
            }
        },
    };
    let external = if entry.externally_managed { "yes" } else { "no" };
    [
        entry.name.clone(),
        entry.host.to_string(),
        expires,
        entry.seconds_left.map_or_else(|| "-".to_owned(), residual),
        entry.issuer.clone(),
        external.to_owned(),
        served,
    ]
}

/// The time left in its biggest unit.
fn residual(seconds: i64) -> String {
    match seconds {
        ..0 => "expired".to_owned(),
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_told_in_its_biggest_unit() {
        let told = [-1, 0, 59, 60, 3599, 3600, 86_399, 86_400, 31_536_000].map(residual);
        assert_eq!(told, ["expired", "0s", "59s", "1m", "59m", "1h", "23h", "1d", "365d"]);
    }
}
