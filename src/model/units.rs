//! Durations and sizes, as people write and read them.

use std::time::Duration;

/// Reads `250ms`, `30s`, `5m`, `2h`, `1d` and sums such as `1h30m`. `None` for anything else.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_len = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let millis = match &rest[digits..digits + unit_len] {
            "ms" => number,
            "s" => number.checked_mul(1_000)?,
            "m" => number.checked_mul(60_000)?,
            "h" => number.checked_mul(3_600_000)?,
            "d" => number.checked_mul(86_400_000)?,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(millis))?;
        rest = &rest[digits + unit_len..];
    }
    Some(total)
}

/// `0.3s`, `41.2s`, `3m05s`, `2h04m`: what stands at the right of a line.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let tenths = (duration.as_millis() + 50) / 100;
    let seconds = duration.as_secs() + u64::from(duration.subsec_millis() >= 500);
    match (tenths, seconds) {
        (0..600, _) => format!("{}.{}s", tenths / 10, tenths % 10),
        (_, 0..3600) => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `40 s`, `14 min`, `2 h`, `3 days`: how long ago something was.
#[must_use]
pub fn show_rough(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// `512 B`, `1.2 MB`: powers of 1000, one decimal.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut whole = bytes;
    let mut rest = 0;
    let mut unit = "B";
    for next in UNITS {
        if whole < 1000 {
            break;
        }
        rest = whole % 1000;
        whole /= 1000;
        unit = next;
    }
    format!("{whole}.{} {unit}", rest / 100)
}

/// `1 file`, `3 files`.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The first twelve hexadecimal digits of a digest: `sha256:93ab04c1d2e7`.
#[must_use]
pub fn short_digest(digest: &str) -> String {
    match digest.split_once(':') {
        Some((algorithm, hex)) => format!("{algorithm}:{}", hex.get(..12).unwrap_or(hex)),
        None => digest.get(..12).unwrap_or(digest).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_mins(90)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        for wrong in ["", "soon", "5", "5 m", "m5", "99999999999999999999s"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
        assert_eq!(show_duration(Duration::from_millis(41_240)), "41.2s");
        assert_eq!(show_duration(Duration::from_millis(59_960)), "1m00s");
        assert_eq!(show_duration(Duration::from_secs(185)), "3m05s");
        assert_eq!(show_duration(Duration::from_mins(124)), "2h04m");
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!(show_size(999), "999 B");
        assert_eq!(show_size(1_250_000), "1.2 MB");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(0, "file"), "0 files");
        assert_eq!(short_digest("sha256:93ab04c1d2e7ffff"), "sha256:93ab04c1d2e7");
    }
}
