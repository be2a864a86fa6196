//! The worker as a child process, with its log.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
    let mut command = Command::new(env!("CARGO_BIN_EXE_slalom-worker"));
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
        let cache = tempfile::tempdir().expect("a folder");
        let mut child = command()
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
