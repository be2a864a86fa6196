//! What a coordinator asks of the system, by `strace`: in which order, and what becomes of it when the system says no.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use prost::Message;
use tempfile::TempDir;

/// The frame of HTTP/2 that carries a call's bytes.
const DATA: u8 = 0;
/// Of every frame: 3 bytes of length, type, flags, 4 bytes of stream.
const FRAME_HEAD: usize = 9;
/// Of every message of gRPC: a byte for compression, 4 bytes of length.
const MESSAGE_HEAD: usize = 5;

/// An `strace` of a living process, which ends with it.
pub(crate) struct Strace {
    child: Child,
    _log: std::thread::JoinHandle<()>,
    folder: TempDir,
}

impl Strace {
    /// Follows a process and all its threads from now on; nothing, loudly, where that is not allowed.
    pub(crate) fn attach(test: &str, pid: u32, options: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a directory");
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &pid.to_string(), "-o"]).arg(folder.path().join("trace")).args(options);
        let started = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
        let Ok(mut child) = started else {
            eprintln!("SKIPPED {test}: `strace` is not installed");
            return None;
        };
        let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut first = String::new();
        log.read_line(&mut first).expect("its log is text");
        if !first.contains("attached") {
            eprintln!("SKIPPED {test}: `strace` may not follow a process here: {}", first.trim_end());
            child.kill().expect("it was started here");
            child.wait().expect("it was started here");
            return None;
        }
        // Read to its end, or a full pipe would stop it.
        let log = std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(drop));
        Some(Self { child, _log: log, folder })
    }

    /// All that was asked for, once the process has ended.
    pub(crate) fn trace(mut self) -> Trace {
        self.child.wait().expect("it was started here");
        Trace::read(&self.folder.path().join("trace"))
    }
}

/// Calls of the system in the order in which they began or ended.
pub(crate) struct Trace {
    steps: Vec<Step>,
}

/// What matters of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    /// Bytes begin to go into a file.
    WriteBegins(PathBuf),
    /// A file is on the disk.
    Synced(PathBuf),
    /// Bytes begin to go to a peer, by its address.
    SendBegins { peer: String, bytes: Vec<u8> },
}

impl Trace {
    /// The options that a trace to be read here is made with.
    pub(crate) const OPTIONS: [&'static str; 7] = [
        "-yy",
        "-xx",
        "-v",
        "-s",
        "1000000",
        "-e",
        "trace=pwrite64,write,writev,sendto,sendmsg,fsync,fdatasync",
    ];

    fn read(path: &Path) -> Self {
        let lines = BufReader::new(File::open(path).expect("a trace")).lines();
        Self::of(lines.map(|line| line.expect("text")))
    }

    fn of(lines: impl Iterator<Item = String>) -> Self {
        // What a thread has begun and `strace` has not yet seen the end of.
        let mut begun: Vec<(String, Step)> = Vec::new();
        let mut steps = Vec::new();
        for line in lines {
            let Some((thread, call)) = line.split_once(' ') else { continue };
            let call = call.trim_start();
            if call.starts_with("<... ") {
                let Some(place) = begun.iter().position(|(by, _)| by == thread) else { continue };
                let (_, step) = begun.remove(place);
                if call.ends_with("= 0") {
                    steps.push(step);
                }
                continue;
            }
            let Some((name, arguments)) = call.split_once('(') else { continue };
            let Some(file) = descriptor(arguments) else { continue };
            match name {
                "fsync" | "fdatasync" => {
                    let step = Step::Synced(PathBuf::from(file));
                    if call.ends_with("<unfinished ...>") {
                        begun.push((thread.to_owned(), step));
                    } else if call.ends_with("= 0") {
                        steps.push(step);
                    }
                }
                // Where it begins is what counts, however it ends.
                _ => match file.strip_prefix("TCP:") {
                    Some(peer) => {
                        steps.push(Step::SendBegins { peer: peer.to_owned(), bytes: strings(arguments) });
                    }
                    None => steps.push(Step::WriteBegins(PathBuf::from(file))),
                },
            }
        }
        Self { steps }
    }

    /// Where the first message that `is` tells begins to leave, if something was written into the file whose name ends in `log`
    /// after `since`, and all of it synced, before it does.
    ///
    /// # Errors
    /// What came in the place of that, in words.
    pub(crate) fn sent_after_sync<M: Message + Default>(
        &self,
        log: &str,
        since: usize,
        is: impl Fn(&M) -> bool,
    ) -> Result<usize, String> {
        let is_log = |path: &Path| path.to_string_lossy().ends_with(log);
        let peers: BTreeSet<&str> =
            self.steps.iter().filter_map(|step| step.sent().map(|(peer, _)| peer)).collect();
        let sent = peers.into_iter().find_map(|peer| self.first_step_with(peer, &is));
        let sent = sent.filter(|&sent| sent >= since).ok_or("the message was not sent")?;
        let before = &self.steps[since..sent];
        let written = before
            .iter()
            .rposition(|step| matches!(step, Step::WriteBegins(path) if is_log(path)))
            .ok_or("the message left and nothing had been written")?;
        let synced = before[written..].iter().any(|step| matches!(step, Step::Synced(path) if is_log(path)));
        synced.then_some(sent).ok_or_else(|| format!("the message left before `{log}` was synced"))
    }

    /// Where the first message that `is` tells begins to leave on the connection to `peer`.
    fn first_step_with<M: Message + Default>(&self, peer: &str, is: impl Fn(&M) -> bool) -> Option<usize> {
        let mut bytes = Vec::new();
        // Where in the bytes each step's begin.
        let mut starts = Vec::new();
        for (place, step) in self.steps.iter().enumerate() {
            if let Some((_, sent)) = step.sent().filter(|(to, _)| *to == peer) {
                starts.push((bytes.len(), place));
                bytes.extend_from_slice(sent);
            }
        }
        let offset = messages(&bytes).into_iter().find_map(|(offset, message)| {
            M::decode(message.as_slice()).ok().filter(|message| is(message)).map(|_| offset)
        })?;
        starts.iter().rev().find(|(start, _)| *start <= offset).map(|(_, place)| *place)
    }
}

impl Step {
    fn sent(&self) -> Option<(&str, &[u8])> {
        match self {
            Self::SendBegins { peer, bytes } => Some((peer, bytes)),
            Self::WriteBegins(_) | Self::Synced(_) => None,
        }
    }
}

/// What a call's first argument, `4<file>`, stands for.
fn descriptor(arguments: &str) -> Option<String> {
    let (_, rest) = arguments.split_once('<')?;
    let end = rest.find(">,").or_else(|| rest.find(">)")).or_else(|| rest.find("> "))?;
    Some(String::from_utf8_lossy(&unescaped(&rest[..end])).into_owned())
}

/// The strings among a call's arguments, one after another.
fn strings(arguments: &str) -> Vec<u8> {
    arguments.split('"').skip(1).step_by(2).flat_map(unescaped).collect()
}

/// `\x41` is a byte; what is not written so stands for itself.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let hex = rest.strip_prefix("\\x").and_then(|hex| hex.get(..2));
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = &rest[4..];
        } else {
            bytes.extend_from_slice(first.to_string().as_bytes());
            rest = &rest[first.len_utf8()..];
        }
    }
    bytes
}

/// The messages of gRPC in what a server has sent on one connection, each with the place in it at which its frame begins.
/// Each is short enough for one frame.
fn messages(sent: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(head) = sent.get(at..at + FRAME_HEAD) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some(payload) = sent.get(at + FRAME_HEAD..at + FRAME_HEAD + length) else { break };
        let mut rest = if head[3] == DATA { payload } else { &[] };
        while let Some((head, body)) = rest.split_at_checked(MESSAGE_HEAD) {
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let Some((message, next)) = body.split_at_checked(length) else { break };
            found.push((at, message.to_vec()));
            rest = next;
        }
        at += FRAME_HEAD + length;
    }
    found
}

#[cfg(test)]
mod tests {
    use slalom_proto::v1;

    use super::*;

    fn acknowledgement() -> Vec<u8> {
        let message = v1::PutBlobResponse {}.encode_to_vec();
        let mut frame = vec![0, 0, (MESSAGE_HEAD + message.len()) as u8, DATA, 0, 0, 0, 0, 1];
        frame.extend_from_slice(&[0, 0, 0, 0, message.len() as u8]);
        frame.extend_from_slice(&message);
        frame
    }

    /// What the checks of this file would see of a coordinator that gets the order wrong.
    #[test]
    fn an_acknowledgement_before_the_sync_is_seen() {
        let hex: Vec<String> = acknowledgement().iter().map(|byte| format!("\\x{byte:02x}")).collect();
        let hex = hex.concat();
        let write = "7 pwrite64(9</s/slalom.db-wal>, \"\\x00\", 1, 0) = 1".to_owned();
        let sync = "7 fdatasync(9</s/slalom.db-wal>) = 0".to_owned();
        let send = format!(
            "8 writev(15<TCP:[127.0.0.1:1->127.0.0.1:2]>, [{{iov_base=\"{hex}\", iov_len=14}}], 1) = 14"
        );
        let judged = |lines: &[&String]| {
            let trace = Trace::of(lines.iter().map(|line| (*line).clone()));
            trace.sent_after_sync("slalom.db-wal", 0, |_: &v1::PutBlobResponse| true)
        };
        assert_eq!(judged(&[&write, &sync, &send]), Ok(2));
        let early = Err("the message left before `slalom.db-wal` was synced".to_owned());
        assert_eq!(judged(&[&write, &send, &sync]), early);
        assert_eq!(judged(&[&sync, &write, &send]), early);
        assert_eq!(judged(&[&write, &sync.replace("= 0", "= -1 EIO (Input/output error)"), &send]), early);
        let begun = "7 fdatasync(9</s/slalom.db-wal> <unfinished ...>".to_owned();
        let ended = "7 <... fdatasync resumed>) = 0".to_owned();
        assert_eq!(judged(&[&write, &begun, &ended, &send]), Ok(2));
        assert_eq!(judged(&[&write, &begun, &send, &ended]), early);
        let nothing = Err("the message left and nothing had been written".to_owned());
        assert_eq!(judged(&[&send, &write, &sync]), nothing);
        assert_eq!(judged(&[&write, &sync]), Err("the message was not sent".to_owned()));
        let trace = Trace::of([write, sync, send].into_iter());
        let since = trace.sent_after_sync("slalom.db-wal", 2, |_: &v1::PutBlobResponse| true);
        assert_eq!(since, nothing, "what was written before is not what is acknowledged");
    }
}
