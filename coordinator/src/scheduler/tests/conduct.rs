//! A worker on which run after run fails is given no more (L3).

use super::*;

fn hill() -> WorkerName {
    "hill".parse().expect("a valid name")
}

impl World {
    fn resume_worker(&mut self, worker: &str) -> (Reply, Effects) {
        let request = RequestId(self.fresh());
        let worker = worker.parse().expect("a valid name");
        let effects = self.handle(Event::ResumeWorker { request, worker });
        (reply(&effects), effects)
    }

    /// Fails what the worker holds and is granted, lease by lease, until it is granted nothing or has failed `most`.
    fn fail_all(&mut self, peer: &mut Peer, mut leases: Vec<Lease>, most: usize) -> (usize, Effects) {
        let (mut failed, mut last) = (0, Effects::default());
        while let Some(lease) = leases.pop().filter(|_| failed < most) {
            last = self.fail(peer, &lease);
            failed += 1;
            leases.extend(grants(&last));
        }
        (failed, last)
    }
}

#[test]
fn a_worker_on_which_three_runs_in_a_row_fail_is_paused_and_named() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut poison, effects) = world.join("hill", 1);
    let leases = grants(&effects);
    // Another one is there, but full: what fails here waits for it.
    let (mut well, effects) = world.join("dale", 1);
    let mut next = grants(&effects);
    let (failed, last) = world.fail_all(&mut poison, leases, usize::MAX);
    assert_eq!(failed, 3);
    let paused = Notice::WorkerPaused {
        worker: hill(),
        reason: FailureReason::Panic,
        detail: "index out of bounds".to_owned(),
    };
    assert!(notices(&last).contains(&&paused), "{last:?}");
    let row = |world: &World| {
        world.scheduler.worker_rows(world.now).into_iter().map(|row| (row.worker, row.paused))
    };
    assert!(row(&world).any(|row| row == (hill(), true)));
    let sweep = world.scheduler.ledger().find_sweep(&name("a")).expect("a known sweep");
    let status = world.scheduler.status(world.now, sweep);
    assert_eq!((status.workers, status.slots, status.paused_workers), (1, 1, 1));
    while let Some(lease) = next.pop() {
        let effects = world.finish(&mut well, &lease);
        next.extend(grants(&effects));
    }
    assert_eq!(world.counts("a"), [0, 0, 4, 0, 0, 0], "no run spent its attempts");
}

#[test]
fn a_pause_of_a_worker_holds_for_every_process_of_it_and_across_restarts() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut poison, effects) = world.join("hill", 1);
    world.fail_all(&mut poison, grants(&effects), usize::MAX);
    world.restart();
    let (_, effects) = world.join("hill", 1);
    assert!(grants(&effects).is_empty());
    assert!(notices(&effects).iter().any(|one| matches!(one, Notice::WorkerPaused { .. })), "{effects:?}");
}

#[test]
fn a_paused_worker_is_given_runs_again_when_a_person_says_so_and_asking_again_changes_nothing() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut poison, effects) = world.join("hill", 1);
    world.fail_all(&mut poison, grants(&effects), usize::MAX);
    let (answer, effects) = world.resume_worker("hill");
    assert_eq!(answer, Reply::WorkerResumed { worker: hill() });
    assert!(notices(&effects).contains(&&Notice::WorkerResumed { worker: hill() }));
    assert_eq!(grants(&effects).len(), 1);
    let recorded = world.records.len();
    let (answer, _) = world.resume_worker("hill");
    assert_eq!((answer, world.records.len()), (Reply::WorkerResumed { worker: hill() }, recorded));
    assert_eq!(world.resume_worker("hull").0, Reply::NoSuchWorker { known: vec![hill()] });
}

#[test]
fn a_worker_that_is_away_can_be_resumed() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut poison, effects) = world.join("hill", 1);
    world.fail_all(&mut poison, grants(&effects), usize::MAX);
    world.restart();
    assert_eq!(world.resume_worker("hill").0, Reply::WorkerResumed { worker: hill() });
    let (_, effects) = world.join("hill", 1);
    assert_eq!(grants(&effects).len(), 1);
}

#[test]
fn an_answer_between_failures_and_a_run_that_fails_again_and_again_pause_nobody() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut worker, effects) = world.join("hill", 4);
    let leases = grants(&effects);
    world.fail(&mut worker, &leases[0]);
    world.fail(&mut worker, &leases[1]);
    world.finish(&mut worker, &leases[2]);
    let effects = world.fail(&mut worker, &leases[3]);
    assert!(!grants(&effects).is_empty(), "two failures since the answer");

    let mut world = World::new();
    let axes = Axes { nodes: axis(&[256]), unrollings: axis(&[10]), ..draft("b").blocks[0].axes().clone() };
    let one = Draft { blocks: vec![Grid::new(axes, Vec::new()).expect("a valid grid")], ..draft("b") };
    world.submit(Sweep::new(one).expect("a valid sweep"));
    let (mut worker, effects) = world.join("hill", 1);
    let (failed, _) = world.fail_all(&mut worker, grants(&effects), usize::MAX);
    assert_eq!(
        (failed, world.counts("b")),
        (3, [0, 0, 0, 0, 1, 0]),
        "the run is at fault, after its attempts"
    );
    let (_, effects) = world.submit(sweep("c"));
    assert!(!grants(&effects).is_empty(), "and the worker is not");
}

#[test]
fn the_worker_of_a_slalom_run_is_never_paused() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let only = Settings { serve: Serve::Only(name("a")), ..settings() };
    world.scheduler = Scheduler::recover(only, world.store, world.now, world.records.clone());
    let (mut worker, effects) = world.join("hill", 1);
    let (failed, _) = world.fail_all(&mut worker, grants(&effects), usize::MAX);
    assert_eq!((failed, world.counts("a")), (12, [0, 0, 0, 0, 4, 0]), "each run has its three attempts");
}

#[test]
fn a_run_that_is_leased_alone_does_not_wait_for_a_paused_worker() {
    let mut world = World::new();
    world.submit(sweep("a"));
    let (mut worker, effects) = world.join("hill", 2);
    let (failed, _) = world.fail_all(&mut worker, grants(&effects), 3);
    assert_eq!(failed, 3);
    let (_, effects) = world.join("dale", 4);
    assert!(!grants(&effects).is_empty());
}
