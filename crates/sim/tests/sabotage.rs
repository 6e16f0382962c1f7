//! Every fault that can be built in is found within the seeds that CI plays.
#![cfg(feature = "sabotage")]

use millstream_runtime::sabotage::Bug;
use millstream_sim::sabotage::look_for;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Seeds within which a fault has to be found.
const SEEDS_MAX: u64 = 500;

#[test]
fn each_fault_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let look = || {
        while let Some(bug) = Bug::ALL.get(next.fetch_add(1, Relaxed)) {
            let one = look_for(*bug, 0, SEEDS_MAX);
            found.lock().expect("nobody panics while holding it").push(one);
        }
    };
    // A fault is built into its thread alone.
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(look);
        }
    });
    let found = found.into_inner().expect("nobody panics while holding it");
    assert_eq!(found.len(), Bug::ALL.len());
    for f in &found {
        println!("{:?}: {:?}", f.bug, f.seeds);
    }
    let lost: Vec<_> = found.iter().filter(|f| f.seeds.is_none()).map(|f| f.bug).collect();
    assert!(lost.is_empty(), "not found within {SEEDS_MAX} seeds: {lost:?}");
}
