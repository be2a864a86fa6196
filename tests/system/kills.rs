//! Kills by the dozen within one sweep: of workers and of the coordinator, at any moment, one after another.
//!
//! `.ci/full kills` has more of them, and prints how long it took until things went on.

use std::time::{Duration, Instant};

use slalom_common::rng::philox4x32_10;

use crate::world::{SWEEP, World, calm_results, event};

const WORKERS: [&str; 3] = ["hill-1", "hill-2", "hill-3"];

/// How many to kill, and a sweep that lasts longer than that.
struct Size {
    workers: usize,
    coordinators: usize,
    seeds: u32,
}

const SMALL: Size = Size { workers: 12, coordinators: 5, seeds: 20 };
const FULL: Size = Size { workers: 60, coordinators: 25, seeds: 200 };

/// Chance that is the same each time.
struct Dice {
    seed: u32,
    thrown: u32,
}

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.thrown += 1;
        philox4x32_10([self.thrown, 0, 0, 0], [self.seed, 0])[0] as usize % end
    }
}

/// Faults "kill -9 coordinator" and "kill -9 worker", all invariants: the table is the calm one, byte for byte.
#[test]
fn dozens_of_kills_within_one_sweep_change_no_byte_of_the_results() {
    let full = std::env::var("SLALOM_TEST_KILLS").is_ok_and(|size| size == "full");
    let size = if full { FULL } else { SMALL };
    let spec = SWEEP.replace("seeds = 3", &format!("seeds = {}", size.seeds));
    let calm = calm_results(&spec);

    let mut dice = Dice { seed: 17, thrown: 0 };
    let mut world = World::new(WORKERS);
    let sweep = world.submit(&spec);
    world.wait_for(&event("milestone").with("sweep", &sweep));
    let (mut workers_left, mut coordinators_left) = (size.workers, size.coordinators);
    let mut killed: Vec<(&str, Instant)> = Vec::new();
    let mut recovered: Vec<Duration> = Vec::new();
    while workers_left + coordinators_left > 0 {
        // Any moment: in a commit, in an upload, before an acknowledgement, while another is still coming back.
        world.listen(Duration::from_millis(dice.below(400) as u64));
        if dice.below(workers_left + coordinators_left) < workers_left {
            workers_left -= 1;
            let worker = WORKERS[dice.below(WORKERS.len())];
            world.kill_9(worker);
            killed.push((worker, Instant::now()));
            world.start_worker(worker);
        } else {
            coordinators_left -= 1;
            let at = Instant::now();
            world.kill_9_coordinator();
            world.start_coordinator();
            world.wait_for(&event("milestone").with("sweep", &sweep));
            recovered.push(at.elapsed());
        }
    }
    assert_eq!(world.count(&event("sweep done")), 0, "the sweep was over before the last kill");
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm);
    assert_eq!(world.count(&event("result conflict")), 0);
    assert_eq!(world.count(&event("run failed")), 0);

    let expired = world.all(&event("lease expired"));
    let silences = expired.iter().filter_map(|line| {
        let of = killed.iter().rev().find(|(name, at)| line.json["worker"] == *name && *at < line.at)?;
        Some(line.at - of.1)
    });
    println!("figure kill -9 of a worker: {}", size.workers);
    println!("figure kill -9 of the coordinator: {}", size.coordinators);
    println!("figure runs that went on elsewhere: {}", expired.len());
    figures("from the kill of a worker to the end of its lease of 1 s", silences.collect());
    figures("from the kill of the coordinator to the next milestone on record", recovered);
}

fn figures(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    if let (Some(median), Some(worst)) = (times.get(times.len() / 2), times.last()) {
        println!(
            "figure {what}, median and worst: {:.2} s and {:.2} s",
            median.as_secs_f64(),
            worst.as_secs_f64()
        );
    }
}
