//! INT, TERM and HUP → how urgent stopping is.
//!
//! First: nothing new starts, every program's group gets one TERM. Second:
//! KILL. Third: out, now; whatever was acknowledged is on disk. Commands that
//! start programs listen from their first moment, also while they plan.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::event::{Event, Feed};
use crate::world::cancel::{Canceller, Urgency};
use crate::world::clock::Clock;

/// In which every program is killed after the second signal.
const KILLED: Duration = Duration::from_millis(200);

/// The signals that came and are not recorded yet.
#[derive(Debug)]
pub struct Signals {
    received: mpsc::UnboundedReceiver<Event>,
}

impl Signals {
    /// Listens from now on, for as long as the program lives.
    #[must_use]
    pub fn listen(canceller: Arc<Canceller>) -> Self {
        let (sender, received) = mpsc::unbounded_channel();
        if let (Ok(int), Ok(term), Ok(hup)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
        {
            tokio::spawn(raise(canceller, sender, [int, term, hup]));
        }
        // Without handlers the default action ends flow, which is the third signal's meaning.
        Self { received }
    }

    /// Hands them on to the run. Polled before the work, it records a signal before its effects.
    pub async fn tell(mut self, feed: &Feed) -> Infallible {
        while let Some(event) = self.received.recv().await {
            feed.send(event).await;
        }
        std::future::pending().await
    }
}

async fn raise(
    canceller: Arc<Canceller>,
    sender: mpsc::UnboundedSender<Event>,
    [mut int, mut term, mut hup]: [Signal; 3],
) {
    let mut times = 0;
    loop {
        let name = next(&mut int, &mut term, &mut hup).await;
        times += 1;
        // Nobody records what comes while a plan is made: then there is no run yet.
        let _ = sender.send(Event::Interrupted { signal: name.to_owned(), times });
        match times {
            1 => canceller.raise(Urgency::Stopping),
            2 => canceller.raise(Urgency::Killing),
            _ => {
                // The second may have come in the same moment: what it kills must be dead first.
                Clock.pause(KILLED).await;
                crate::world::host::leave_now()
            }
        }
    }
}

async fn next(int: &mut Signal, term: &mut Signal, hup: &mut Signal) -> &'static str {
    tokio::select! {
        _ = int.recv() => "SIGINT",
        _ = term.recv() => "SIGTERM",
        _ = hup.recv() => "SIGHUP",
    }
}
