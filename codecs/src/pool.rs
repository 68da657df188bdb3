//! Threads for work that takes milliseconds, beside those of media and of requests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use tokio::sync::oneshot;

/// Jobs that may wait for each thread. What waits longer than these take is too old to be of use.
const WAITING_PER_THREAD: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// Threads for the work of codecs. Cheap to clone; the threads end with the last clone.
#[derive(Clone, Debug)]
pub struct Pool {
    jobs: SyncSender<Job>,
    tally: Arc<Tally>,
}

/// The pool has no time: the work was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the codecs have more to do than they can")]
pub struct Busy;

/// What a pool has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounters {
    /// Jobs that were done.
    pub done: u64,
    /// Jobs that were refused, since too many waited.
    pub refused: u64,
    /// Jobs that failed by a bug.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Tally {
    done: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Pool {
    /// Starts so many threads, at least one.
    pub fn start(threads: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        let (jobs, waiting) = sync_channel::<Job>(threads * WAITING_PER_THREAD);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..threads {
            let waiting = waiting.clone();
            let name = format!("codec-{number}");
            thread::Builder::new().name(name).spawn(move || work(&waiting))?;
        }
        Ok(Self { jobs, tally: Arc::default() })
    }

    /// Does something on one of the threads, as soon as one has time; at once `Busy` where too much waits already.
    pub fn run<T, W>(&self, work: W) -> impl Future<Output = Result<T, Busy>> + Send + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let tally = self.tally.clone();
        // A picture that finds a bug in a codec takes nobody else's thread away. Counted first, so that who has a result finds it
        // counted.
        let job: Job = Box::new(move || match catch_unwind(AssertUnwindSafe(work)) {
            Ok(value) => {
                tally.done.fetch_add(1, Ordering::Relaxed);
                let _ = done.send(value);
            }
            Err(_) => {
                tally.failed.fetch_add(1, Ordering::Relaxed);
            }
        });
        let begun = match self.jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.tally.refused.fetch_add(1, Ordering::Relaxed);
                false
            }
        };
        async move { if begun { result.await.map_err(|_| Busy) } else { Err(Busy) } }
    }

    /// What it has counted.
    pub fn counters(&self) -> PoolCounters {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        PoolCounters {
            done: read(&self.tally.done),
            refused: read(&self.tally.refused),
            failed: read(&self.tally.failed),
        }
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        job();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_is_too_much_is_refused_at_once_and_a_bug_ends_no_thread() {
        let pool = Pool::start(1).unwrap();
        assert_eq!(pool.run(|| 7).await, Ok(7));
        let (go, wait) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let first = pool.run(move || {
            begun.send(()).unwrap();
            wait.recv().is_err()
        });
        has_begun.recv().unwrap();
        let waiting: Vec<_> = (0..WAITING_PER_THREAD).map(|number| pool.run(move || number)).collect();
        assert_eq!(pool.run(|| ()).await, Err(Busy));
        drop(go);
        assert_eq!(first.await, Ok(true));
        for (number, job) in waiting.into_iter().enumerate() {
            assert_eq!(job.await, Ok(number));
        }
        assert_eq!(pool.run(|| panic!("a bug")).await, Err::<(), _>(Busy));
        assert_eq!(pool.run(|| 8).await, Ok(8));
        assert_eq!(pool.counters(), PoolCounters { done: 5, refused: 1, failed: 1 });
    }
}
