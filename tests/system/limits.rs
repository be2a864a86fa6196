//! Strangers on the coordinator's port: whatever they send or hold open, those who work are not held up (I13).

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::world::{SWEEP, World, calm, event};

/// How an HTTP/2 client begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A frame of settings, empty.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// A frame that asks for the same back.
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
/// What the coordinator of these tests may take of memory, whatever is sent to it; it takes some 30 MB without.
const RESIDENT_KB_MAX: u64 = 200 * 1024;

/// Connects, and sends `first` and then `again` until it blocks, is cut off or has sent 8 MB. Nothing is ever read.
fn stranger(port: u16, first: &[u8], again: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_write_timeout(Some(Duration::from_millis(100))).ok()?;
    // Cut off at once, perhaps: that is an answer, too.
    let _ = stream.write_all(first);
    if !again.is_empty() {
        let many = again.repeat((64 << 10) / again.len());
        let _ = (0..128).try_for_each(|_| stream.write_all(&many));
    }
    Some(stream)
}

/// Fault "huge, malformed, hostile input".
#[test]
fn strangers_who_send_garbage_or_floods_or_nothing_hold_up_nobody() {
    let mut world = World::new(["hill-1", "hill-2"]);
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("milestone").with("sweep", &sweep));
    let greeting = [PREFACE, SETTINGS].concat();
    // A frame that says it has 16 MB, and one of headers that are none.
    let huge = [&greeting[..], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat();
    let no_headers = [&greeting[..], &[0, 0, 4, 1, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]].concat();
    let garbage: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut strangers = Vec::new();
    for _ in 0..20 {
        strangers.push(stranger(world.port(), b"", b""));
        strangers.push(stranger(world.port(), &PREFACE[..10], b""));
        strangers.push(stranger(world.port(), b"GET / HTTP/1.1\r\nHost: hill\r\n\r\n", b""));
        strangers.push(stranger(world.port(), &garbage, b""));
        strangers.push(stranger(world.port(), &huge, &garbage));
        strangers.push(stranger(world.port(), &no_headers, b""));
        strangers.push(stranger(world.port(), &greeting, PING));
    }
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
    assert_eq!(world.count(&event("lease expired")), 0, "no worker was held up");
    let resident = world.resident_kb_max();
    assert!(resident < RESIDENT_KB_MAX, "{resident} KB were resident");
}

/// Fault "no descriptors are left": nobody new is let in, whoever is there is served, and nothing spins.
#[test]
fn a_coordinator_without_descriptors_serves_whom_it_has_and_lets_others_in_when_it_can() {
    let mut world = World::with_descriptors(64, ["hill"]);
    let sweep = world.submit(SWEEP);
    world.wait_for(&event("milestone").with("sweep", &sweep));
    let strangers: Vec<_> = (0..100).map(|_| stranger(world.port(), b"", b"")).collect();
    world.wait_for(&event("milestone").with("sweep", &sweep));
    let (before, since) = (world.cpu_time(), Instant::now());
    world.listen(Duration::from_secs(1));
    let used = world.cpu_time().saturating_sub(before);
    let share = used.as_secs_f64() / since.elapsed().as_secs_f64();
    assert!(share < 0.5, "it uses {share:.2} of a core");
    drop(strangers);
    world.start_worker("late");
    world.wait_for(&event("worker joined").with("worker", "late"));
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    assert_eq!(world.results_csv(&sweep), calm());
}
