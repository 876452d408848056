//! Somebody who keeps asking while something else happens.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::http;

/// Asks one address at a steady pace until told to stop.
pub(crate) struct Visitor {
    stop: Sender<()>,
    thread: JoinHandle<Visits>,
}

/// What a visitor saw.
#[derive(Debug, Default)]
pub(crate) struct Visits {
    /// How often it asked.
    pub asked: usize,
    /// What was not a 200.
    pub failed: Vec<String>,
    /// The versions that answered, each once, in order of appearance.
    pub versions: Vec<String>,
    /// The longest time for one answer.
    pub slowest: Duration,
}

impl Visitor {
    /// Begins to ask.
    pub(crate) fn start(url: &str, pace: Duration) -> Self {
        let (stop, stopped) = channel();
        let url = url.to_owned();
        let thread = std::thread::spawn(move || {
            let mut visits = Visits::default();
            loop {
                let next = Instant::now() + pace;
                visits.ask(&url);
                match stopped.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return visits,
                }
            }
        });
        Self { stop, thread }
    }

    /// Stops and tells.
    pub(crate) fn stop(self) -> Visits {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}

impl Visits {
    fn ask(&mut self, url: &str) {
        let asked = Instant::now();
        self.asked += 1;
        match http::get(url) {
            Ok(answer) if answer.status == 200 => {
                let version = answer.json()["version"].as_str().unwrap_or_default().to_owned();
                if !self.versions.contains(&version) {
                    self.versions.push(version);
                }
            }
            Ok(answer) => self.failed.push(format!("{} {}", answer.status, answer.text())),
            Err(error) => self.failed.push(error.to_string()),
        }
        self.slowest = self.slowest.max(asked.elapsed());
    }
}
