//! Text that is safe to show, and how wide it is.

/// The text with everything that a terminal would obey or hide made visible.
#[must_use]
pub fn visible(text: &str, ascii: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        shown.push_str(&char(c, ascii));
    }
    shown
}

/// One character as it is shown.
pub(super) fn char(c: char, ascii: bool) -> String {
    match c {
        ' '..='~' => c.to_string(),
        '\0'..='\x1f' if ascii => format!("^{}", char::from(c as u8 + 0x40)),
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('?').to_string(),
        '\x7f' => if ascii { "^?" } else { "␡" }.to_owned(),
        _ if hidden(c) => format!("<U+{:04X}>", u32::from(c)),
        _ if !ascii => c.to_string(),
        '…' => "...".to_owned(),
        '→' => "->".to_owned(),
        _ => "?".to_owned(),
    }
}

/// Characters that change the order of others, or that nobody can see.
fn hidden(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Columns that a text takes on a terminal.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

fn columns(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}
