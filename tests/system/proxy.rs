//! A link between worker and coordinator that is late, slow, stalls one way or both, and breaks: by a proxy that knows no protocol.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

use crate::world::{SWEEP, World, calm, calm_results, event};

/// What is done to every connection that passes.
#[derive(Clone, Copy, Default)]
struct Weather {
    /// Before each piece is passed on.
    late: Duration,
    /// Nothing passes to the coordinator, or to the worker; connections stay open.
    holds_up: bool,
    holds_down: bool,
    /// Bytes a second each way; 0 for as fast as it goes.
    bytes_per_s: u64,
}

/// Passes bytes on to one port, as the weather allows.
struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    weather: Mutex<Weather>,
    changed: Condvar,
    /// Both ends of each connection that was let in.
    connections: Mutex<Vec<(TcpStream, TcpStream)>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Proxy {
    fn before(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let weak = Arc::downgrade(&shared);
        std::thread::spawn(move || {
            for worker in listener.incoming().map_while(Result::ok) {
                let Some(shared) = weak.upgrade() else { return };
                // Nobody listens while the coordinator is away: then the worker hears that.
                let Ok(coordinator) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                for end in [&worker, &coordinator] {
                    end.set_nodelay(true).unwrap();
                }
                let copies = || (worker.try_clone().unwrap(), coordinator.try_clone().unwrap());
                shared.connections.lock().unwrap().push(copies());
                let (from, to) = copies();
                pass(from, to, Way::Up, Weak::clone(&weak));
                pass(coordinator, worker, Way::Down, Weak::clone(&weak));
            }
        });
        Self { port, shared }
    }

    fn set(&self, weather: Weather) {
        *self.shared.weather.lock().unwrap() = weather;
        self.shared.changed.notify_all();
    }

    /// Breaks every connection that there is; whether there was one.
    fn cut(&self) -> bool {
        let connections = std::mem::take(&mut *self.shared.connections.lock().unwrap());
        for (worker, coordinator) in &connections {
            // It may be broken already.
            let _ = worker.shutdown(Shutdown::Both);
            let _ = coordinator.shutdown(Shutdown::Both);
        }
        !connections.is_empty()
    }

    fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, way: Way, shared: Weak<Shared>) {
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            let Some(shared) = shared.upgrade() else { break };
            let weather = shared
                .changed
                .wait_while(shared.weather.lock().unwrap(), |weather| match way {
                    Way::Up => weather.holds_up,
                    Way::Down => weather.holds_down,
                })
                .map(|weather| *weather)
                .unwrap();
            // The link itself is what takes time here.
            std::thread::sleep(weather.late);
            if weather.bytes_per_s > 0 {
                std::thread::sleep(Duration::from_secs_f64(length as f64 / weather.bytes_per_s as f64));
            }
            if to.write_all(&piece[..length]).is_err() {
                break;
            }
        }
        // The other end hears of it; it may have gone first.
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}

/// Fault "slow or lossy link": no false expiry, no retry storm.
#[test]
fn a_late_and_slow_link_expires_no_lease_and_is_not_opened_again() {
    // What is stored goes over the same link: for a second there may be no room for a heartbeat.
    let mut world = World::listening_at("127.0.0.1", "10s");
    let proxy = Proxy::before(world.port());
    proxy.set(Weather { late: Duration::from_millis(50), bytes_per_s: 1_000_000, ..Weather::default() });
    world.start_worker_at("far", proxy.port);
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
    assert_eq!(world.count(&event("lease expired")), 0);
    assert_eq!(world.count(&event("coordinator found")), 1);
    // Its session, and a channel each for what it fetches and stores.
    assert!(proxy.connections() <= 4, "{} connections", proxy.connections());
}

/// Fault "partition, one-way": what is said arrives, what is answered does not, and the other way round.
#[test]
fn a_link_that_stalls_one_way_changes_no_byte_of_the_results() {
    let mut world = World::new(["near"]);
    let proxy = Proxy::before(world.port());
    world.start_worker_at("far", proxy.port);
    let sweep = world.submit(SWEEP);
    for (holds_up, holds_down) in [(true, false), (false, true)] {
        world.wait_for(&event("milestone").with("worker", "far"));
        proxy.set(Weather { holds_up, holds_down, ..Weather::default() });
        if holds_up {
            world.wait_for(&event("lease expired").with("worker", "far"));
        } else {
            world.wait_for(&event("milestone").with("worker", "near"));
        }
        proxy.set(Weather::default());
    }
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
    assert_eq!(world.count(&event("result conflict")), 0);
}

/// Fault "a stream that breaks", for as long as the sweep lasts: the session outlives it, and no run is leased again for it. The
/// worker waits longer each time, and trains what it holds meanwhile.
#[test]
fn a_link_that_breaks_again_and_again_changes_no_byte_of_the_results() {
    let mut world = World::new([]);
    let proxy = Proxy::before(world.port());
    world.start_worker_at("far", proxy.port);
    let spec = SWEEP.replace("[200, 1000, 3000]", "[1000, 5000, 15000]");
    let sweep = world.submit(&spec);
    let (milestone, done) = (event("milestone").with("worker", "far"), event("sweep done"));
    let mut cuts = 0;
    while milestone.is(&world.wait_for_either(&milestone, &done)) {
        cuts += u32::from(proxy.cut());
    }
    // The first three times it is away for 1.4 s at most, all together, and seconds of training are before it.
    assert!(cuts >= 4, "{cuts}");
    assert_eq!(world.results_csv(&sweep), calm_results(&spec));
    assert_eq!(world.count(&event("result conflict")), 0);
    // The lease time of these tests is a second: whoever waits longer before it comes back has lost its run, and nobody else has.
    let requeued = world.count(&event("run requeued").with("reason", "lost"));
    assert_eq!(world.first_leases(&sweep).len(), 12 + requeued);
}
