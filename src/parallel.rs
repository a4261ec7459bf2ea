//! Pure work on many things at once, on all processors. Invariant: results come in the order of what
//! they are of, so a run says the same however many processors there are.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What `work` makes of each item, in the items' order.
pub fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    /// Items may differ much in what they cost, so each processor takes a few at a time.
    const PORTIONS: usize = 16;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(items.len());
    if processors < 2 {
        return items.iter().map(work).collect();
    }
    let size = items.len().div_ceil(processors * PORTIONS);
    let taken = AtomicUsize::new(0);
    let portions = || {
        let mut done: Vec<(usize, Vec<R>)> = Vec::new();
        loop {
            let number = taken.fetch_add(1, Ordering::Relaxed);
            let Some(portion) = items.chunks(size).nth(number) else { return done };
            done.push((number, portion.iter().map(&work).collect()));
        }
    };
    let mut done: Vec<(usize, Vec<R>)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..processors).map(|_| scope.spawn(portions)).collect();
        let mut done = portions();
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().flat_map(|(_, results)| results).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        for count in [0, 1, 2, 31, 32, 33, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let expected: Vec<usize> = items.iter().map(|item| item * 2).collect();
            assert_eq!(map(&items, |item| item * 2), expected);
        }
    }

    #[test]
    #[should_panic(expected = "the seventh")]
    fn a_panic_reaches_the_caller() {
        let items: Vec<usize> = (0..100).collect();
        map(&items, |item| assert!(*item != 7, "the seventh"));
    }
}
