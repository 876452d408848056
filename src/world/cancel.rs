//! How far a run is being stopped. Steps and waits look at it; signals raise it.

use std::future::Future;

use tokio::sync::watch;

/// How urgent it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Go on.
    #[default]
    Running,
    /// Nothing new starts; programs got a signal and their grace.
    Stopping,
    /// Programs are killed; open steps become unknown.
    Killing,
}

/// A view of the urgency. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cancel {
    receiver: watch::Receiver<Urgency>,
}

/// Raises the urgency; it never sinks.
#[derive(Debug)]
pub struct Canceller {
    sender: watch::Sender<Urgency>,
}

impl Canceller {
    /// Nothing is being stopped yet.
    #[must_use]
    pub fn new() -> Self {
        Self { sender: watch::channel(Urgency::Running).0 }
    }

    /// Makes it at least that urgent.
    pub fn raise(&self, urgency: Urgency) {
        self.sender.send_if_modified(|now| {
            let raised = urgency > *now;
            *now = urgency.max(*now);
            raised
        });
    }

    /// A view of it.
    #[must_use]
    pub fn view(&self) -> Cancel {
        Cancel { receiver: self.sender.subscribe() }
    }
}

impl Default for Canceller {
    fn default() -> Self {
        Self::new()
    }
}

/// The work was stopped from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Stopped;

impl Cancel {
    /// How urgent it is now.
    #[must_use]
    pub fn urgency(&self) -> Urgency {
        *self.receiver.borrow()
    }

    /// Whether somebody wants the run to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.urgency() >= Urgency::Stopping
    }

    /// Returns once it is at least that urgent; never, if whoever could raise it is gone.
    pub async fn reached(&self, urgency: Urgency) {
        let mut receiver = self.receiver.clone();
        if receiver.wait_for(|now| *now >= urgency).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for something that is safe to drop, unless the run is being stopped first.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            () = self.reached(Urgency::Stopping) => Err(Stopped),
            done = work => Ok(done),
        }
    }
}
