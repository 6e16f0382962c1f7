//! Every fault that can be built in is found within the seeds that CI plays.
#![cfg(feature = "sabotage")]

use millstream_runtime::sabotage::Bug;
use millstream_sim::sabotage::look_for;

/// Seeds within which a fault has to be found.
const SEEDS_MAX: u64 = 500;

#[test]
fn each_fault_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let found = Bug::ALL.map(|bug| look_for(bug, 0, SEEDS_MAX));
    for f in &found {
        println!("{:?}: {:?}", f.bug, f.seeds);
    }
    let lost: Vec<_> = found.iter().filter(|f| f.seeds.is_none()).map(|f| f.bug).collect();
    assert!(lost.is_empty(), "not found within {SEEDS_MAX} seeds: {lost:?}");
}
