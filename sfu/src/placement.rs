//! On which worker a participant is placed.

/// A worker, as placement sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerView {
    /// How much it has to do; `None` when it is gone.
    pub(crate) load: Option<u64>,
    /// How many participants of the room it has.
    pub(crate) members: usize,
}

/// A worker that does not carry the room yet is taken only when it has this much less to do: a quarter. Each worker that
/// carries it takes every stream that is shown there, and repairs and shares for itself.
const WORTH_A_SHARD: (u64, u64) = (3, 4);

/// Chooses the worker of a room's next participant.
///
/// A room stays on its first worker (`home`) while fewer than `spread_from` of it are there: between people on one worker
/// nothing has to be copied. From then on, the worker with the least load is taken, preferably one that carries the
/// room. 0 is never reached. Workers that are gone are not taken; when all are, home is as good as any.
pub(crate) fn place(home: usize, workers: &[WorkerView], spread_from: usize) -> usize {
    let here = workers.get(home).filter(|worker| worker.load.is_some());
    if here.is_some_and(|worker| worker.members < spread_from || spread_from == 0) {
        return home;
    }
    let cost = |worker: &WorkerView| {
        let (less, more) = WORTH_A_SHARD;
        let (load, factor) = (worker.load?, if worker.members > 0 { less } else { more });
        Some(load.saturating_mul(factor))
    };
    let costs = workers.iter().enumerate().filter_map(|(index, worker)| Some((cost(worker)?, index)));
    costs.min().map_or(home, |(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(load: u64, members: usize) -> WorkerView {
        WorkerView { load: Some(load), members }
    }

    const GONE: WorkerView = WorkerView { load: None, members: 3 };

    #[test]
    fn a_small_room_stays_at_home_however_much_there_is_to_do() {
        assert_eq!(place(1, &[worker(0, 0), worker(90_000, 0)], 50), 1);
        assert_eq!(place(1, &[worker(0, 0), worker(90_000, 49)], 50), 1);
        assert_eq!(place(1, &[worker(0, 0), worker(90_000, 5_000)], 0), 1, "it never spreads");
    }

    #[test]
    fn a_large_room_spreads_to_who_has_the_least_to_do() {
        assert_eq!(place(0, &[worker(90_000, 50), worker(100, 0), worker(0, 0)], 50), 2);
        // It goes on where it is until another has clearly less to do.
        assert_eq!(place(0, &[worker(10_000, 50), worker(8_000, 0)], 50), 0);
        assert_eq!(place(0, &[worker(10_000, 50), worker(7_000, 0)], 50), 1);
        assert_eq!(place(0, &[worker(10_000, 50), worker(9_000, 1)], 50), 1);
    }

    #[test]
    fn thousands_of_viewers_use_every_worker() {
        let mut workers = [worker(0, 0); 4];
        for _ in 0..2_000 {
            let index = place(3, &workers, 50);
            workers[index].members += 1;
            workers[index].load = workers[index].load.map(|load| load + 100);
        }
        assert!(workers.iter().all(|w| (400..600).contains(&w.members)), "{workers:?}");
    }

    #[test]
    fn who_is_gone_is_not_taken() {
        assert_eq!(place(0, &[GONE, worker(500, 0), worker(400, 0)], 50), 2);
        assert_eq!(place(1, &[GONE, worker(500, 50)], 50), 1);
        assert_eq!(place(1, &[GONE, GONE], 50), 1);
    }
}
