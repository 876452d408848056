//! Bare words: which are names, which are numbers, and which are habits from elsewhere.

/// What a bare word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A string without quotes.
    Name,
    /// A number.
    Number,
    /// Starts like a number and is none: `30s`.
    NoNumber,
    /// `true`, `false`, `null`: KDL 1.
    Bare,
}

/// Classifies a bare word.
pub(super) fn word(text: &str) -> Word {
    if matches!(text, "true" | "false" | "null" | "inf" | "-inf" | "nan") {
        return Word::Bare;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    if !digit(unsigned) && !unsigned.strip_prefix('.').is_some_and(digit) {
        return Word::Name;
    }
    if number(unsigned) { Word::Number } else { Word::NoNumber }
}

/// The words behind `#`.
pub(super) fn keyword(text: &str) -> bool {
    matches!(text, "true" | "false" | "null" | "inf" | "-inf" | "nan")
}

fn number(text: &str) -> bool {
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return all_digits(digits, radix);
        }
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    all_digits(whole, 10)
        && fraction.is_none_or(|digits| all_digits(digits, 10))
        && exponent.is_none_or(|digits| all_digits(digits.strip_prefix(['+', '-']).unwrap_or(digits), 10))
        // Beyond this the parser has no number for it.
        && (fraction.is_some() || exponent.is_some() || whole.len() <= 38)
}

fn all_digits(text: &str, radix: u32) -> bool {
    text.starts_with(|c: char| c.is_digit(radix))
        && text.len() <= 64
        && text.chars().all(|c| c == '_' || c.is_digit(radix))
}
