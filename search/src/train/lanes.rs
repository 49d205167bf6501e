//! Lanes: one worker thread per core, each computing on its own share of a batch.
//!
//! Tensor operations on the CPU backend are mostly too small to be worth splitting, so a batch is
//! split instead. Inside a lane everything runs on one thread, hence results depend on the number
//! of lanes and on nothing else about the threads.

use burn::tensor::Device;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// A fixed number of single-threaded workers; without any, the thread that calls is the only lane.
pub struct Lanes {
    pools: Vec<ThreadPool>,
}

impl Lanes {
    /// `threads` workers; 0 means one per core.
    ///
    /// # Errors
    /// [`Error::Backend`] when the system gives no threads.
    pub fn new(threads: usize) -> Result<Self> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = if threads == 0 { cores() } else { threads };
        let pool = || ThreadPoolBuilder::new().num_threads(1).build();
        let pools = (0..count).map(|_| pool()).collect::<std::result::Result<_, _>>();
        pools
            .map(|pools| Self { pools })
            .map_err(|error| Error::Backend(format!("no worker threads: {error}")))
    }

    /// One lane for a GPU: the thread that calls. Work from one thread is one queue there, which another one would
    /// have to wait for.
    pub fn caller() -> Self {
        Self { pools: Vec::new() }
    }

    /// Lanes for training on `device`: `threads` on the CPU, as [`Lanes::new`] counts them, one for a GPU.
    ///
    /// # Errors
    /// As [`Lanes::new`].
    pub fn on(device: &Device, threads: usize) -> Result<Self> {
        if device.clone().inner() == Device::flex() { Self::new(threads) } else { Ok(Self::caller()) }
    }

    /// Number of lanes.
    pub fn count(&self) -> usize {
        self.pools.len().max(1)
    }

    /// Runs `work` on every item, items dealt to the lanes in turn; results in the items' order.
    ///
    /// # Errors
    /// The first error in the items' order, or [`Error::Backend`] when a worker died.
    pub fn map<I: Send, T: Send>(
        &self,
        items: Vec<I>,
        work: impl Fn(I) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        if self.pools.is_empty() {
            return items.into_iter().map(work).collect();
        }
        let lanes = self.pools.len();
        let mut hands: Vec<Vec<(usize, I)>> = (0..lanes).map(|_| Vec::new()).collect();
        let count = items.len();
        for (i, item) in items.into_iter().enumerate() {
            hands[i % lanes].push((i, item));
        }
        let work = &work;
        let mut results: Vec<Option<Result<T>>> = (0..count).map(|_| None).collect();
        std::thread::scope(|scope| {
            let hands: Vec<_> = self
                .pools
                .iter()
                .zip(hands)
                .filter(|(_, hand)| !hand.is_empty())
                .map(|(pool, hand)| {
                    let run = move || hand.into_iter().map(|(i, item)| (i, work(item))).collect::<Vec<_>>();
                    scope.spawn(move || pool.install(run))
                })
                .collect();
            for hand in hands {
                for (i, result) in hand.join().unwrap_or_default() {
                    results[i] = Some(result);
                }
            }
        });
        let died = || Err(Error::Backend("a worker thread died (RUST_BACKTRACE=1 shows where)".into()));
        results.into_iter().map(|result| result.unwrap_or_else(died)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        for lanes in [1, 2, 5] {
            let lanes = Lanes::new(lanes).unwrap();
            let squares = lanes.map((0..7).collect(), |i: usize| Ok((i * i, rayon::current_num_threads())));
            let expected: Vec<_> = (0..7).map(|i| (i * i, 1)).collect();
            assert_eq!(squares.unwrap(), expected);
        }
    }

    #[test]
    fn without_workers_the_caller_works() {
        let caller = std::thread::current().id();
        let lanes = Lanes::caller();
        assert_eq!(lanes.count(), 1);
        let here = lanes.map(vec![1, 2], |i| Ok((i, std::thread::current().id() == caller)));
        assert_eq!(here.unwrap(), [(1, true), (2, true)]);
    }

    #[test]
    fn a_dead_worker_is_an_error() {
        let died =
            Lanes::new(2).unwrap().map(vec![0, 1], |i| if i == 1 { panic!("on purpose") } else { Ok(i) });
        assert!(matches!(died, Err(Error::Backend(_))));
    }
}
