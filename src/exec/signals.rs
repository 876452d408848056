//! INT, TERM and HUP → how urgent stopping is.
//!
//! First: nothing new starts, every program's group gets one TERM. Second:
//! KILL. Third: out, now; whatever was acknowledged is on disk.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::event::{Event, Feed};
use crate::world::cancel::{Canceller, Urgency};

/// Listens until the run is over.
pub async fn listen(canceller: Arc<Canceller>, feed: Feed) {
    let (Ok(mut int), Ok(mut term), Ok(mut hup)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        // Without handlers the default action ends flow, which is the third signal's meaning.
        return;
    };
    let mut times = 0;
    loop {
        let name = next(&mut int, &mut term, &mut hup).await;
        times += 1;
        match times {
            1 => canceller.raise(Urgency::Stopping),
            2 => canceller.raise(Urgency::Killing),
            _ => crate::world::host::leave_now(),
        }
        feed.send(Event::Interrupted { signal: name.to_owned(), times }).await;
    }
}

async fn next(int: &mut Signal, term: &mut Signal, hup: &mut Signal) -> &'static str {
    tokio::select! {
        _ = int.recv() => "SIGINT",
        _ = term.recv() => "SIGTERM",
        _ = hup.recv() => "SIGHUP",
    }
}
