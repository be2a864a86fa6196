//! The worker as a child process, with its log.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Worker {
    child: Child,
    lines: Receiver<String>,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
    /// The default cache, gone with the worker.
    _cache: tempfile::TempDir,
}

/// Runs the program to its end.
pub(crate) fn output(args: &[&str]) -> Output {
    command().args(args).output().expect("the program starts")
}

fn command() -> Command {
    without_settings(Command::new(env!("CARGO_BIN_EXE_slalom-worker")))
}

/// Whatever is set where the tests run.
fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SLALOM_") {
            command.env_remove(name);
        }
    }
    command
}

impl Worker {
    /// A worker for the coordinator at `address`, with a cache of its own unless `args` name one.
    pub(crate) fn start(address: &str, args: &[&str]) -> Self {
        Self::spawn(command(), address, args)
    }

    /// The same where the control group's limit is `bytes`: by a file of the test's, in a mount namespace of the worker's own. None,
    /// loudly, where that is not allowed.
    pub(crate) fn start_limited(test: &str, bytes: u64, address: &str, args: &[&str]) -> Option<Self> {
        // Of both versions, at their roots: each group is within those.
        let limit = format!(
            "mount -t tmpfs tmpfs /sys/fs/cgroup && mkdir /sys/fs/cgroup/memory && cd /sys/fs/cgroup && \
             echo {bytes} > memory.max && echo {bytes} > memory/memory.limit_in_bytes && exec \"$0\" \"$@\""
        );
        let limited = |program: &str| {
            let mut unshared = Command::new("unshare");
            unshared.args(["--mount", "sh", "-c", &limit, program]);
            unshared
        };
        if !limited("true").output().is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED {test}: this process may not mount a file system in a namespace of its own");
            return None;
        }
        Some(Self::spawn(without_settings(limited(env!("CARGO_BIN_EXE_slalom-worker"))), address, args))
    }

    fn spawn(mut command: Command, address: &str, args: &[&str]) -> Self {
        let cache = tempfile::tempdir().expect("a folder");
        let mut child = command
            .args(["--coordinator", address])
            .args(args)
            .env("XDG_CACHE_HOME", cache.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stderr = child.stderr.take().expect("it is piped");
        let (sender, lines) = channel();
        let log = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut kept = kept.lock().expect("no reader panics");
                kept.push_str(&line);
                kept.push('\n');
                // Nobody may wait for lines any more; the log keeps them.
                let _ = sender.send(line);
            }
        });
        Self { child, lines, log, reader: Some(reader), _cache: cache }
    }

    /// All that it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no reader panics").clone()
    }

    /// Reads the log up to a line with `words` in it.
    pub(crate) fn wait_for(&mut self, words: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(words) => return,
                Ok(_) => {}
                Err(error) => panic!("no `{words}` ({error}) in the log:\n{}", self.log()),
            }
        }
    }

    /// Stops the thread of its first slot for good, and no other, as a debugger would: it hangs. False, loudly, where that is not
    /// allowed.
    pub(crate) fn hang_first_slot(&mut self, test: &str) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it lives");
        let threads = threads.map(|thread| thread.expect("it lives").path());
        let is_slot = |thread: &PathBuf| {
            std::fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim_end() == "slot-0")
        };
        let slot = threads.into_iter().find(is_slot).expect("a worker has a first slot");
        let slot = slot.file_name().and_then(|number| number.to_str()?.parse().ok()).expect("a number");
        let slot = nix::unistd::Pid::from_raw(slot);
        let (sender, stopped) = channel();
        // Whoever stops a thread must be there to take note of its end.
        std::thread::spawn(move || {
            let outcome =
                ptrace::seize(slot, ptrace::Options::empty()).and_then(|()| ptrace::interrupt(slot));
            let is_stopped = outcome.is_ok();
            sender.send(outcome).expect("the test waits for it");
            while is_stopped
                && waitpid(slot, Some(WaitPidFlag::__WALL)).is_ok_and(|status| status.pid().is_some())
            {
            }
        });
        let outcome = stopped.recv().expect("it says what came of it");
        if let Err(error) = outcome {
            eprintln!("SKIPPED {test}: no thread of another process may be stopped here: {error}");
        }
        outcome.is_ok()
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a number");
        kill_process(pid, signal).expect("the child is there to be told");
    }

    /// Waits for its end: the log's end is the process's.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        while self.lines.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok() {}
        assert!(Instant::now() < until, "it does not end:\n{}", self.log());
        let status = self.child.wait().expect("it is our child");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        status.code()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the worker's log ---\n{}", self.log());
        }
    }
}
