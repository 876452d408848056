//! Repeating a call whose effect is the same however often it is made: a read,
//! an object written with the same bytes, a request with a client token.

use std::future::Future;
use std::time::Duration;

use super::{AwsError, AwsErrorClass};
use crate::world::cancel::Cancel;
use crate::world::clock::Clock;

const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Makes a call up to five times while it does not get through, its answer is unclear or asks for patience. Between two
/// attempts it looks whether the run is being stopped, and then returns the last error.
pub async fn repeat<T, F, Fut>(clock: Clock, cancel: &Cancel, mut call: F) -> Result<T, AwsError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, AwsError>>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match call().await {
            Err(error) if is_passing(&error) => {
                if cancel.unless_stopped(clock.pause(pause)).await.is_err() {
                    return Err(error);
                }
            }
            answer => return answer,
        }
        pause *= 3;
    }
    call().await
}

/// Like [`repeat`], for calls that may be made again but should not be: after an unclear answer `done`
/// asks first whether the call was carried out, and what it came to.
pub async fn repeat_unless_done<T, F, Fut, D, Asked>(
    clock: Clock,
    cancel: &Cancel,
    mut call: F,
    mut done: D,
) -> Result<T, AwsError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, AwsError>>,
    D: FnMut() -> Asked,
    Asked: Future<Output = Result<Option<T>, AwsError>>,
{
    let mut pause = FIRST_PAUSE;
    let mut attempt = 1;
    loop {
        let error = match call().await {
            Err(error) if is_passing(&error) => error,
            answer => return answer,
        };
        if error.is_unclear()
            && let Some(done) = repeat(clock, cancel, &mut done).await?
        {
            return Ok(done);
        }
        if attempt == ATTEMPTS || cancel.unless_stopped(clock.pause(pause)).await.is_err() {
            return Err(error);
        }
        pause *= 3;
        attempt += 1;
    }
}

fn is_passing(error: &AwsError) -> bool {
    matches!(error.class, AwsErrorClass::Unclear | AwsErrorClass::Throttled | AwsErrorClass::NotSent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::cancel::Canceller;

    fn error(class: AwsErrorClass) -> AwsError {
        AwsError {
            service: "S3",
            operation: "PutObject",
            class,
            code: None,
            message: "no".to_owned(),
            request_id: None,
        }
    }

    async fn calls(class: AwsErrorClass, good_after: u32, stopper: &Canceller) -> (u32, bool) {
        let mut made = 0;
        let answer = repeat(Clock, &stopper.view(), || {
            made += 1;
            std::future::ready(if made > good_after { Ok(()) } else { Err(error(class)) })
        })
        .await;
        (made, answer.is_ok())
    }

    #[tokio::test]
    async fn only_passing_errors_are_repeated_and_only_until_a_signal() {
        let stopper = Canceller::new();
        assert_eq!(calls(AwsErrorClass::Unclear, 1, &stopper).await, (2, true));
        assert_eq!(calls(AwsErrorClass::Throttled, 1, &stopper).await, (2, true));
        assert_eq!(calls(AwsErrorClass::Denied, 9, &stopper).await, (1, false));
        let made = std::cell::Cell::new(0);
        let cancel = stopper.view();
        let answer = repeat_unless_done(
            Clock,
            &cancel,
            || {
                made.set(made.get() + 1);
                std::future::ready(Err::<u32, _>(error(AwsErrorClass::Unclear)))
            },
            || std::future::ready(Ok((made.get() == 2).then_some(7))),
        );
        assert_eq!((answer.await.ok(), made.get()), (Some(7), 2), "done the second time, and not once more");
        stopper.raise(crate::world::cancel::Urgency::Stopping);
        assert_eq!(calls(AwsErrorClass::Unclear, 9, &stopper).await, (1, false));
    }
}
