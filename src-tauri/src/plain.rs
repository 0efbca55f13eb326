//! Text of others, made harmless for menus, notifications and messages.

/// One line of at most `longest` characters without control, invisible or reordering characters.
#[must_use]
pub fn line(text: &str, longest: usize) -> String {
    let seen: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| is_plain(*c)).collect();
    let seen = seen.trim();
    if seen.chars().count() <= longest {
        return seen.to_owned();
    }
    let mut short: String = seen.chars().take(longest.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn is_plain(c: char) -> bool {
    let reorders =
        matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let unseen = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !reorders && !unseen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_mislead_is_left_out() {
        assert_eq!(line(" a\tb\n\u{1b}[31mc\u{202e}d\u{0} ", 64), "a b [31mcd");
        assert_eq!(line("Åland اليابان 日本", 64), "Åland اليابان 日本");
        assert_eq!(line(&"x".repeat(100), 8), "xxxxxxx…");
        assert_eq!(line("", 8), "");
    }
}
