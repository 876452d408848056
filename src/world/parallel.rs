//! Work on as many processors as there are, and on no more threads.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, block_in_place};

/// Below this many a thread costs more than it saves.
const FEW: usize = 32;
/// More readers only make a disk seek.
const MOST: usize = 8;

/// How many programs can run at once without waiting for one another. Asked once: the answer lies in
/// files of the control group.
#[must_use]
pub fn cores() -> usize {
    static CORES: LazyLock<usize> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(2, std::num::NonZero::get));
    *CORES
}

/// How many threads work is spread over.
#[must_use]
pub fn workers() -> usize {
    cores().min(MOST)
}

/// Does what blocks, such as reading files, without holding up everything else. A thousand steps ask
/// at once: a thread for each of them would cost more than what it does.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    static FREE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(workers()));
    // Closed by nobody.
    let _turn = FREE.acquire().await;
    tokio::task::spawn_blocking(work).await
}

/// Drives a future on each of so many threads to its end; they may share what they borrow. For very
/// many short pieces of work, each of which may also wait: handing every one of them to another
/// thread and back would cost more than the piece.
pub async fn drive<F: Future<Output = ()>>(threads: usize, work: impl Fn() -> F + Sync) {
    let runtime = Handle::current();
    if threads < 2 || runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work().await;
    }
    block_in_place(|| {
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| runtime.block_on(work()));
            }
            runtime.block_on(work());
        });
    });
}

/// What came of each, in their order. Blocks. `long`: each is worth a thread.
pub fn map<T: Sync, R: Send>(all: &[T], long: bool, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let workers = workers().min(all.len());
    if all.len() < 2 || all.len() < FEW && !long || workers == 1 {
        return all.iter().map(work).collect();
    }
    // One after the other, so that a run of large ones is shared too.
    let next = AtomicUsize::new(0);
    let some = || {
        let mut done = Vec::with_capacity(all.len() / workers + 1);
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = all.get(at) else { return done };
            done.push((at, work(one)));
        }
    };
    let mut done = Vec::with_capacity(all.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..workers).map(|_| scope.spawn(some)).collect();
        done.extend(some());
        for thread in threads {
            done.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_stand_in_the_order_of_what_they_are_of() {
        for count in [0, 1, 31, 32, 1000] {
            let numbers: Vec<usize> = (0..count).collect();
            assert_eq!(
                super::map(&numbers, false, |number| number * 2),
                numbers.iter().map(|n| n * 2).collect::<Vec<_>>()
            );
        }
    }
}
