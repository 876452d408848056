//! The points of a test build: counted over the whole process, in the order in which they are passed.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

static PASSED: AtomicU64 = AtomicU64::new(0);
static WRITES: AtomicU64 = AtomicU64::new(0);
static WANTED: OnceLock<Wanted> = OnceLock::new();

#[derive(Debug, Default)]
struct Wanted {
    crash_at: Option<u64>,
    named: Option<String>,
    full_at: Option<u64>,
    list: Option<Mutex<File>>,
}

fn wanted() -> &'static Wanted {
    WANTED.get_or_init(|| {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let list = std::env::var_os("FLOW_CRASH_LIST")
            .and_then(|path| File::options().create(true).append(true).open(path).ok());
        Wanted {
            crash_at: number("FLOW_CRASH_AT"),
            named: std::env::var("FLOW_CRASH_NAME").ok(),
            full_at: number("FLOW_FULL_AT"),
            list: list.map(Mutex::new),
        }
    })
}

pub(super) fn point(name: &str) {
    let wanted = wanted();
    if let Some(list) = &wanted.list {
        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
        // A test that misses a name sees it; there is nobody to tell here.
        let _ = list.write_all(format!("{name}\n").as_bytes());
    }
    if wanted.named.as_deref().is_some_and(|named| named != name) {
        return;
    }
    if wanted.crash_at == Some(PASSED.fetch_add(1, Ordering::SeqCst) + 1) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

pub(super) fn room() -> io::Result<()> {
    let number = WRITES.fetch_add(1, Ordering::SeqCst) + 1;
    match wanted().full_at {
        Some(at) if number >= at => {
            Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()))
        }
        _ => Ok(()),
    }
}
