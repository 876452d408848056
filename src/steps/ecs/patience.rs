//! How often ECS is asked, for how long, and what is not worth giving up for.

use std::future::Future;
use std::time::Duration;

use crate::world::aws::{AwsError, AwsErrorClass};
use crate::world::cancel::{Cancel, Stopped};
use crate::world::clock::{Clock, Moment};

/// While people watch closely.
const QUICK: Duration = Duration::from_secs(1);
/// Afterwards.
const SLOW: Duration = Duration::from_secs(5);
/// How long they do.
const QUICK_FOR: Duration = Duration::from_mins(1);

/// How long a wait may take without `timeout`.
const USUAL: Duration = Duration::from_mins(30);
/// How much earlier than `timeout` a wait ends, to say what it was waiting for.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long a wait may take: its own words come before the step's `timeout` cuts it off.
#[must_use]
pub fn limit(timeout: Option<Duration>) -> Duration {
    timeout.map_or(USUAL, |timeout| timeout.saturating_sub(LAST_WORDS.min(timeout / 5)))
}

/// A wait with an end.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    clock: Clock,
    started: Moment,
    limit: Duration,
}

/// Why a call was given up.
#[derive(Debug, thiserror::Error)]
pub enum GivenUp {
    /// The run is being stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// ECS said no, or nothing, until the end.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl Patience {
    /// Starts now.
    #[must_use]
    pub fn new(clock: Clock, limit: Duration) -> Self {
        Self { clock, started: clock.moment(), limit }
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether the end is reached.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.elapsed() >= self.limit
    }

    /// How long to wait before the next look: a second, after the first minute up to five,
    /// spread so that many steps do not ask at once.
    #[must_use]
    pub fn pause(&self) -> Duration {
        if self.elapsed() < QUICK_FOR {
            return QUICK;
        }
        let nanos = self.clock.now().subsec_nanosecond().unsigned_abs();
        SLOW.mul_f64(0.8 + 0.4 * (f64::from(nanos % 1_000_000) / 1_000_000.0))
    }

    /// Waits for the next look, unless the run is being stopped.
    pub async fn rest(&self, cancel: &Cancel) -> Result<(), Stopped> {
        cancel.unless_stopped(self.clock.pause(self.pause())).await
    }

    /// Makes a call until it is neither throttled nor, where repeating is harmless, left without
    /// an answer; gives up at the end. The call itself is never cut off.
    pub async fn insist<T, F>(
        &self,
        cancel: &Cancel,
        harmless: bool,
        call: impl Fn() -> F,
    ) -> Result<T, GivenUp>
    where
        F: Future<Output = Result<T, AwsError>>,
    {
        loop {
            match call().await {
                Err(error) if !self.is_over() && is_passing(&error, harmless) => self.rest(cancel).await?,
                done => return Ok(done?),
            }
        }
    }
}

fn is_passing(error: &AwsError, harmless: bool) -> bool {
    match error.class {
        AwsErrorClass::Throttled => true,
        AwsErrorClass::Unclear => harmless,
        _ => false,
    }
}

/// Whether a poll that went wrong may simply be repeated: too many requests, no answer, no
/// connection. Everything else will not get better by asking.
#[must_use]
pub fn may_pass(error: &AwsError) -> bool {
    matches!(error.class, AwsErrorClass::Throttled | AwsErrorClass::Unclear | AwsErrorClass::NotSent)
}
