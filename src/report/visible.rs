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

/// Unicode's explicit bidirectional formatting characters (UAX 9, section 2).
fn turns_direction(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_host_writes_moves_the_cursor() {
        assert_eq!(visible("\u{1b}[2Jgone\r\u{7}\u{9b}31m\u{202e}x"), "\\u{1b}[2Jgone\\u{d}\\u{7}\\u{9b}31m\\u{202e}x");
        assert_eq!(visible("two\nlines\tünïcode"), "two\nlines\tünïcode");
    }
}
