//! Real networks: a worker in a network namespace of its own, behind a cable that is pulled, mute one way, or slow.
//!
//! It takes root and `ip`; where they are not, each test says loudly that it was skipped.

use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::world::{SWEEP, World, calm, event};

/// A pair of virtual network cards: one here, one in a namespace.
struct Cable {
    /// Of this process and cable alone.
    name: String,
    net: String,
}

impl Cable {
    /// Nothing, loudly, where a test may not make one.
    fn new(test: &str) -> Option<Self> {
        static LAST: AtomicU8 = AtomicU8::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        // Of the range that is kept for tests of networks.
        let net = format!("198.18.{}", 4 * (process % 60) + u32::from(number % 4));
        let cable = Self { name: format!("slm{process}n{number}"), net };
        let Self { name, net } = &cable;
        let made = ip(&format!("netns add {name}"))
            && ip(&format!("link add {name}a type veth peer name {name}b netns {name}"))
            && ip(&format!("addr add {net}.1/24 dev {name}a"))
            && ip(&format!("-n {name} addr add {net}.2/24 dev {name}b"))
            && ip(&format!("link set {name}a up"))
            && ip(&format!("-n {name} link set {name}b up"));
        if !made {
            eprintln!("SKIPPED {test}: this process may not make network namespaces, or has no `ip`");
            return None;
        }
        Some(cable)
    }

    fn here(&self) -> String {
        format!("{}.1", self.net)
    }

    /// An `ip` command about its end `@here`, its namespace `@there` or its `@net`.
    fn does(&self, command: &str) {
        let command = command
            .replace("@here", &format!("{}a", self.name))
            .replace("@there", &self.name)
            .replace("@net", &self.net);
        assert!(ip(&command), "ip {command}");
    }

    /// The words before a program that is to run at the other end.
    fn over_there(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].map(str::to_owned).to_vec()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // With the namespace goes its end of the cable, and with that the other; of one that was never whole, what there is.
        let _ = ip(&format!("netns del {}", self.name));
        let _ = ip(&format!("link del {}a", self.name));
    }
}

fn ip(words: &str) -> bool {
    let output = Command::new("ip").args(words.split_whitespace()).output();
    output.is_ok_and(|output| output.status.success())
}

/// A coordinator that the other end of the cable reaches, a worker there and one here.
fn world(cable: &Cable, lease: &'static str) -> World {
    let mut world = World::listening_at(&cable.here(), lease);
    world.start_worker("near");
    world.start_worker_by("far", &cable.over_there());
    world.wait_for(&event("worker joined").with("worker", "far"));
    world
}

/// Breaks the link while a run is trained at the other end, waits until its lease is over, and mends it.
fn survives(test: &str, breaks: &str, mends: &str) {
    let Some(cable) = Cable::new(test) else { return };
    let mut world = world(&cable, "1s");
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("milestone").with("worker", "far"));
    cable.does(breaks);
    world.wait_for(&event("lease expired").with("worker", "far"));
    cable.does(mends);
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
    // It finds out by itself that its stream is dead, and serves again.
    if world.count(&event("worker joined").with("worker", "far")) < 2 {
        world.wait_for(&event("worker joined").with("worker", "far"));
    }
    assert_eq!(world.count(&event("result conflict")), 0);
    assert_eq!(world.results_csv(&sweep), calm());
}

/// Fault "partition, two-way".
#[test]
fn a_pulled_cable_changes_no_byte_of_the_results() {
    survives("a pulled cable", "link set @here down", "link set @here up");
}

/// Fault "partition, one-way": the worker hears everything and is not heard.
#[test]
fn a_worker_that_hears_and_is_not_heard_changes_no_byte_of_the_results() {
    let (add, del) = ("-n @there route add blackhole @net.1/32", "-n @there route del blackhole @net.1/32");
    survives("a worker that is not heard", add, del);
}

/// Fault "slow link": a cable of 64 KB a second and a queue of a tenth of a second expires no lease.
#[test]
fn a_slow_cable_expires_no_lease() {
    let Some(cable) = Cable::new("a slow cable") else { return };
    let slow = format!("qdisc add dev {}a root tbf rate 512kbit burst 16kb latency 100ms", cable.name);
    let tc = Command::new("tc").args(slow.split_whitespace()).output();
    if !tc.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED a slow cable: this process may not limit a cable's rate, or has no `tc`");
        return;
    }
    let mut world = world(&cable, "10s");
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
    assert_eq!(world.count(&event("lease expired")), 0);
    assert!(world.count(&event("milestone").with("worker", "far")) > 0);
}
