//! The highest load that a server carries: a search over the number of subscribers.

/// How close it comes: the answer is at most this part below the truth.
const PRECISION: f64 = 0.1;

/// Finds the largest number of subscribers, from `first` to `most`, that a server carries: doubles until it does not, then
/// halves the way between. With the number comes what `carries` found there; `None` when it fails at the first.
///
/// # Errors
/// Those of `carries`.
pub fn search<T, E>(
    first: usize,
    most: usize,
    mut carries: impl FnMut(usize) -> Result<Option<T>, E>,
) -> Result<Option<(usize, T)>, E> {
    let mut best = None;
    let mut good = 0;
    let mut next = first.min(most);
    let mut bad = None;
    loop {
        match carries(next)? {
            Some(found) => {
                good = next;
                best = Some((next, found));
            }
            None => bad = Some(next),
        }
        next = match bad {
            Some(bad) if good == 0 || ((bad - good) as f64) <= good as f64 * PRECISION => return Ok(best),
            Some(bad) => usize::midpoint(good, bad),
            None if good >= most => return Ok(best),
            None => (good * 2).min(most),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn found(limit: usize, most: usize) -> (Option<usize>, usize) {
        let mut runs = 0;
        let best = search(50, most, |n| {
            runs += 1;
            Ok::<_, Infallible>((n <= limit).then_some(()))
        });
        let Ok(best) = best;
        (best.map(|(n, ())| n), runs)
    }

    #[test]
    fn it_comes_close_from_below_in_few_runs() {
        for limit in [50, 73, 250, 999, 2_345] {
            let (best, runs) = found(limit, 10_000);
            let best = best.unwrap();
            assert!(best <= limit && best as f64 * 1.1 >= limit as f64, "{best} for {limit}");
            assert!(runs <= 11, "{runs} runs for {limit}");
        }
    }

    #[test]
    fn it_ends_at_both_ends() {
        assert_eq!(found(10, 1_000), (None, 1));
        assert_eq!(found(5_000, 1_000), (Some(1_000), 6));
    }
}
