//! Text from hosts made safe for a terminal: nothing a host writes may move the cursor, change
//! colours, hide lines or reverse the direction of writing.

use std::fmt::Write as _;

/// The text with every control character but line ends and tabs written as `\u{..}`. Also the
/// marks that turn the direction of text around, which can make a line read as another one.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if (character.is_control() && character != '\n' && character != '\t') || turns_direction(character) {
            let _ = write!(safe, "\\u{{{:x}}}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    safe
}

/// A value as JSON whose text is safe for a terminal too. JSON itself only escapes the control
/// characters below the space; DEL, those from U+0080 on (terminals obey U+009B like ESC `[`) and
/// marks of direction can only stand in its texts, where an escape means the same.
#[must_use]
pub fn json(value: &impl serde::Serialize, pretty: bool) -> String {
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    let text = text.expect("what is shown is plain data");
    if !text.chars().any(|character| is_unsafe(character) && character != '\n') {
        return text;
    }
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unsafe(character) && character != '\n' {
            let _ = write!(safe, "\\u{:04x}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    safe
}

fn is_unsafe(character: char) -> bool {
    character.is_control() || turns_direction(character)
}

/// Unicode's explicit bidirectional formatting characters (UAX 9, section 2).
fn turns_direction(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_as_safe_and_means_the_same() {
        let hostile: String = (0..0x300u32).chain(0x2000..0x2070).filter_map(char::from_u32).collect();
        for pretty in [false, true] {
            let text = json(&serde_json::json!({ hostile.as_str(): [hostile] }), pretty);
            assert!(text.chars().all(|character| character == '\n' || !is_unsafe(character)), "{text:?}");
            let back: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(back[hostile.as_str()][0], hostile);
        }
    }

    #[test]
    fn nothing_a_host_writes_moves_the_cursor() {
        assert_eq!(visible("\u{1b}[2Jgone\r\u{7}\u{9b}31m\u{202e}x"), "\\u{1b}[2Jgone\\u{d}\\u{7}\\u{9b}31m\\u{202e}x");
        assert_eq!(visible("two\nlines\tünïcode"), "two\nlines\tünïcode");
    }
}
