//! Lanes: one worker thread per core, each computing on its own share of a batch.
//!
//! Tensor operations on the CPU backend are mostly too small to be worth splitting, so a batch is
//! split instead. Inside a lane everything runs on one thread, hence results depend on the number
//! of lanes and on nothing else about the threads.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Device;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::device::is_cpu;
use crate::error::{Error, Result};
use crate::ops;

/// Most images of a micro-batch on the CPU, where nobody says: their activations stay in the cache.
const CPU_MICRO_BATCH: usize = 16;
/// Fewest images a lane is given: below, splitting costs more than it gains.
const SMALLEST_SHARE: usize = 4;

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
        if is_cpu(device) { Self::new(threads) } else { Ok(Self::caller()) }
    }

    /// Number of lanes.
    pub fn count(&self) -> usize {
        self.pools.len().max(1)
    }

    /// A batch of `images` cut into micro-batches of at most `largest` (0: as many as `device` likes), some for each lane,
    /// all as equal as they can be.
    pub(crate) fn deal(&self, images: usize, largest: usize, device: &Device) -> Vec<Vec<Range<usize>>> {
        let lanes = self.count().min(images.div_ceil(SMALLEST_SHARE)).max(1);
        let largest = match largest {
            0 if ops::serves(device) => CPU_MICRO_BATCH,
            0 => images,
            some => some,
        };
        let each = images.div_ceil(lanes).div_ceil(largest.max(1)).max(1);
        let bound = |part: usize| part * images / (lanes * each);
        let hand = |lane: usize| {
            let parts = (lane * each..(lane + 1) * each).map(|part| bound(part)..bound(part + 1));
            parts.filter(|part| !part.is_empty()).collect()
        };
        (0..lanes).map(hand).collect()
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
            let caught = |item| catch_unwind(AssertUnwindSafe(|| work(item))).unwrap_or_else(|_| Err(died()));
            return items.into_iter().map(caught).collect();
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
        results.into_iter().map(|result| result.unwrap_or_else(|| Err(died()))).collect()
    }
}

fn died() -> Error {
    Error::Backend(
        "a worker died, of too little memory perhaps: a smaller supernet.micro_batch takes less (RUST_BACKTRACE=1 shows where)"
            .into(),
    )
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
    fn a_batch_is_dealt_once_and_evenly() {
        for (lanes, images, largest) in
            [(1, 64, 0), (2, 100, 16), (3, 7, 2), (2, 1, 0), (4, 0, 0), (3, 50, 1)]
        {
            let hands = Lanes::new(lanes).unwrap().deal(images, largest, &Device::flex());
            assert!(hands.len() <= lanes);
            let parts: Vec<Range<usize>> = hands.into_iter().flatten().collect();
            let all: Vec<usize> = parts.iter().cloned().flatten().collect();
            assert_eq!(all, (0..images).collect::<Vec<_>>(), "each image once, in order");
            let sizes: Vec<usize> = parts.iter().map(Range::len).collect();
            let limit = if largest == 0 { CPU_MICRO_BATCH } else { largest };
            if let (Some(most), Some(least)) = (sizes.iter().max(), sizes.iter().min()) {
                assert!(*most <= limit && most - least <= 1, "{sizes:?}");
            }
        }
    }

    #[test]
    fn a_dead_worker_is_an_error() {
        let died =
            Lanes::new(2).unwrap().map(vec![0, 1], |i| if i == 1 { panic!("on purpose") } else { Ok(i) });
        assert!(matches!(died, Err(Error::Backend(_))));
        let died = Lanes::caller().map(vec![0], |i: i32| if i == 0 { panic!("on purpose") } else { Ok(i) });
        assert!(matches!(died, Err(Error::Backend(_))));
    }
}
