//! Times of day, as people say them.

use jiff::Timestamp;
use jiff::civil::Date;

use super::look::Look;

/// `today 16:04`, `yesterday 16:04`, `18 Nov 16:04`, `18 Nov 2025`.
#[must_use]
pub fn day_and_time(look: &Look, then: Timestamp, now: Timestamp) -> String {
    let now = now.to_zoned((look.zone)()).date();
    let then = then.to_zoned((look.zone)());
    let time = then.strftime("%H:%M");
    match days_between(then.date(), now) {
        0 => format!("today {time}"),
        1 => format!("yesterday {time}"),
        _ if then.date().year() == now.year() => then.strftime("%-d %b %H:%M").to_string(),
        _ => then.strftime("%-d %b %Y").to_string(),
    }
}

/// The same behind `since`: `since 16:04`, `since yesterday 16:04`.
#[must_use]
pub fn since(look: &Look, then: Timestamp, now: Timestamp) -> String {
    let text = day_and_time(look, then, now);
    format!("since {}", text.strip_prefix("today ").unwrap_or(&text))
}

/// `2026-11-21 04:12:09`: for records, which are read much later.
#[must_use]
pub fn full(look: &Look, then: Timestamp) -> String {
    then.to_zoned((look.zone)()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `04:12:09`
#[must_use]
pub fn time_of_day(look: &Look, then: Timestamp) -> String {
    then.to_zoned((look.zone)()).strftime("%H:%M:%S").to_string()
}

fn days_between(then: Date, now: Date) -> i32 {
    then.until(now).map_or(i32::MAX, |span| span.get_days())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_the_shorter() {
        let look = Look::plain();
        let now: Timestamp = "2026-11-21T06:40:00Z".parse().unwrap();
        for (then, expected) in [
            ("2026-11-21T00:00:00Z", "today 00:00"),
            ("2026-11-20T23:59:59Z", "yesterday 23:59"),
            ("2026-11-19T16:04:00Z", "19 Nov 16:04"),
            ("2025-12-31T16:04:00Z", "31 Dec 2025"),
        ] {
            assert_eq!(day_and_time(&look, then.parse().unwrap(), now), expected);
        }
        assert_eq!(since(&look, "2026-11-21T01:02:00Z".parse().unwrap(), now), "since 01:02");
        assert_eq!(since(&look, "2026-11-20T16:04:00Z".parse().unwrap(), now), "since yesterday 16:04");
    }
}
