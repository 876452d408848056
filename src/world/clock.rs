//! Time. Wall-clock time is for people; durations are measured on the monotonic clock.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The only way to the clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

/// A moment on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Moment(Instant);

impl Clock {
    /// What a wall clock shows, UTC.
    #[must_use]
    pub fn now(self) -> Timestamp {
        Timestamp::now()
    }

    /// The zone in which people here read times of day.
    #[must_use]
    pub fn zone(self) -> TimeZone {
        TimeZone::system()
    }

    /// A moment to measure from.
    #[must_use]
    pub fn moment(self) -> Moment {
        Moment(Instant::now())
    }

    /// Lets time pass. Only between two looks at a condition, never instead of one.
    pub async fn pause(self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl Moment {
    /// Time since then.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
