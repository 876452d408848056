//! How often ECS is asked, for how long, and what is not worth giving up for.

use std::future::Future;
use std::time::Duration;

use crate::steps::Failure;
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
/// How long planning waits for one answer.
const LOOK: Duration = Duration::from_secs(30);
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
pub enum GivenUp<E> {
    /// The run is being stopped.
    #[error("{0}")]
    Stopped(Stopped),
    /// ECS said no, or nothing, until the end.
    #[error("{0}")]
    Error(E),
}

impl<E: Into<Failure>> From<GivenUp<E>> for Failure {
    fn from(given_up: GivenUp<E>) -> Self {
        match given_up {
            GivenUp::Stopped(stopped) => stopped.into(),
            GivenUp::Error(error) => error.into(),
        }
    }
}

impl Patience {
    /// Starts now.
    #[must_use]
    pub fn new(clock: Clock, limit: Duration) -> Self {
        Self { clock, started: clock.moment(), limit }
    }

    /// For planning: a look at the world, of which a throttled account allows few.
    #[must_use]
    pub fn for_a_look(clock: Clock) -> Self {
        Self::new(clock, LOOK)
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

    /// Makes a call that changes something until it is not throttled; gives up at the end. Any
    /// other answer is the caller's, who must settle an unclear one. The call itself is never cut off.
    pub async fn insist<T, F>(&self, cancel: &Cancel, call: impl Fn() -> F) -> Result<T, GivenUp<AwsError>>
    where
        F: Future<Output = Result<T, AwsError>>,
    {
        self.again(cancel, |error| error.class == AwsErrorClass::Throttled, call).await
    }

    /// Asks until there is an answer; gives up at the end.
    pub async fn ask<T, E, F>(&self, cancel: &Cancel, call: impl Fn() -> F) -> Result<T, GivenUp<E>>
    where
        F: Future<Output = Result<T, E>>,
        E: MayPass,
    {
        self.again(cancel, MayPass::may_pass, call).await
    }

    async fn again<T, E, F>(
        &self,
        cancel: &Cancel,
        passing: impl Fn(&E) -> bool,
        call: impl Fn() -> F,
    ) -> Result<T, GivenUp<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        loop {
            match call().await {
                Err(error) if !self.is_over() && passing(&error) => {
                    self.rest(cancel).await.map_err(GivenUp::Stopped)?;
                }
                done => return done.map_err(GivenUp::Error),
            }
        }
    }
}

/// Errors of calls that change nothing.
pub trait MayPass {
    /// Whether the call may simply be repeated: too many requests, or no answer. Everything else
    /// will not get better by asking.
    fn may_pass(&self) -> bool;
}

impl MayPass for AwsError {
    fn may_pass(&self) -> bool {
        matches!(self.class, AwsErrorClass::Throttled | AwsErrorClass::Unclear)
    }
}

/// Whether a poll of something that is under way may be repeated: also when there is no
/// connection, since it goes on all the same.
#[must_use]
pub fn may_pass(error: &AwsError) -> bool {
    error.may_pass() || error.class == AwsErrorClass::NotSent
}
