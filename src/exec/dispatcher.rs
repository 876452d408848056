//! The one place through which every event goes: masked, recorded, shown.
//!
//! Events are taken in batches: all of a batch are written, then one sync
//! answers everybody who waits for theirs, so that many steps at once do not
//! pay for one sync each. An intent is on disk before its effect all the same.
//! A run that only makes files has nothing that a power failure could take from
//! anybody: its records are written as they come and never waited for.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::event::{Event, JournalDown, Message, Subscriber};
use crate::journal::log::Journal;
use crate::journal::logs::StepLogs;
use crate::world::clock::Clock;
use crate::world::masker::Masker;

/// Owns the journal, the logs and the reports of a run.
pub struct Dispatcher {
    journal: Journal,
    logs: StepLogs,
    reports: Vec<Box<dyn Subscriber>>,
    masker: Masker,
    clock: Clock,
    /// Whether records outlive a power failure: those of a run that changes anything outside.
    durable: bool,
    /// Whether it was said that nothing can be recorded any more.
    said: bool,
}

/// How many events are written before one sync.
const BATCH: usize = 256;
/// How often reports hear that time passed.
const TICK: Duration = Duration::from_millis(100);

type Waiting = oneshot::Sender<Result<(), JournalDown>>;

impl Dispatcher {
    /// A dispatcher for one run.
    #[must_use]
    pub fn new(
        journal: Journal,
        logs: StepLogs,
        reports: Vec<Box<dyn Subscriber>>,
        masker: Masker,
        clock: Clock,
    ) -> Self {
        Self { journal, logs, reports, masker, clock, durable: true, said: false }
    }

    /// For a run that changes nothing outside the workspace.
    #[must_use]
    pub fn unsynced(self) -> Self {
        Self { durable: false, ..self }
    }

    /// Takes events until nobody can send any more.
    pub async fn run(mut self, mut receiver: mpsc::Receiver<Message>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                taken = receiver.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        break;
                    }
                    self.take(&mut batch);
                }
                _ = ticks.tick() => self.tick(),
            }
        }
        self.logs.flush();
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        self.logs.flush();
        self.reports.iter_mut().for_each(|report| report.tick(now));
    }

    fn take(&mut self, batch: &mut Vec<Message>) {
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut shown = Vec::with_capacity(batch.len());
        let mut down = None;
        for Message { event, stored } in batch.drain(..) {
            let event = self.masked(event);
            match self.journal.append(&event, false) {
                Ok(time) => shown.push((time, event)),
                Err(error) => {
                    self.say_once(&error, &mut shown);
                    // What happened is still shown, even where it can no longer be recorded.
                    shown.push((self.clock.now(), event));
                    down = Some(error);
                }
            }
            waiting.extend(stored);
        }
        let answer = match down {
            Some(error) => Err(error),
            None if waiting.is_empty() || !self.durable => Ok(()),
            None => self.journal.sync(),
        };
        if let Err(error) = &answer {
            self.say_once(error, &mut shown);
        }
        for waiter in waiting {
            // Whoever no longer waits was stopped meanwhile.
            let _ = waiter.send(answer.clone());
        }
        for (time, event) in shown {
            self.logs.event(time, &event);
            self.reports.iter_mut().for_each(|report| report.event(time, &event));
        }
    }

    fn masked(&self, event: Event) -> Event {
        if self.masker.is_empty() {
            return event;
        }
        event.map_text(&|text| self.masker.mask(text).into_owned())
    }

    /// Why nothing can be recorded any more: before what is shown of it, since the end comes last.
    fn say_once(&mut self, error: &JournalDown, shown: &mut Vec<(Timestamp, Event)>) {
        if !self.said {
            self.said = true;
            let text = format!("{error}; nothing more is started");
            shown.push((self.clock.now(), Event::Warning { text }));
        }
    }
}
