//! The worker's settings: flags, then environment, then defaults, resolved once. Nothing else reads the environment.

use std::env;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Args;
use slalom_common::duration::{self, DurationError};
use slalom_common::id::{Incarnation, WorkerName};
use slalom_common::log::args::LogArgs;
use slalom_common::wire::SLOTS_MAX;
use tonic::transport::Uri;

use crate::agent::AgentConfig;
use crate::agent::backoff::Bounds;
use crate::kernels::{IsaMissing, IsaName, Kernels};

/// What a worker is told where it is started; nothing of it moves a bit of any result.
#[derive(Args, Clone, Debug)]
pub struct WorkerArgs {
    /// Coordinators to work for, tried in turn
    #[arg(
        long,
        value_name = "URL[,URL]",
        env = "SLALOM_COORDINATOR",
        default_value = "http://127.0.0.1:7117",
        value_delimiter = ',',
        value_parser = coordinator_url
    )]
    pub coordinator: Vec<String>,
    /// Runs to train at a time [default: the cores that this process may use]
    #[arg(long, value_name = "N", env = "SLALOM_SLOTS", value_parser = clap::value_parser!(u32).range(1..=i64::from(SLOTS_MAX)))]
    pub slots: Option<u32>,
    /// What people call this worker [default: the host's name and four hexadecimal digits]
    #[arg(long, value_name = "NAME", env = "SLALOM_NAME")]
    pub name: Option<WorkerName>,
    /// Folder of corpora [default: slalom in the user's cache folder]
    #[arg(long, value_name = "DIR", env = "SLALOM_CACHE")]
    pub cache: Option<PathBuf>,
    /// How long a slot may make no step before its run fails as `hung` and the worker leaves; at least a hundred times as long as
    /// a step is predicted to take
    #[arg(long, value_name = "TIME", env = "SLALOM_HUNG_AFTER", default_value = "60s", value_parser = hung_after)]
    pub hung_after: Duration,
    /// The instruction set to train with: avx512, avx2, neon or portable [default: the fastest here]
    #[arg(long, value_name = "ISA", env = "SLALOM_ISA", hide = true)]
    pub isa: Option<IsaName>,
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Why the settings cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no folder for corpora.
    #[error("no cache folder: neither `--cache` nor XDG_CACHE_HOME nor HOME is set")]
    NoCache,
    /// The processor lacks what was asked for.
    #[error("`--isa` asks for what is not here")]
    Isa(#[source] IsaMissing),
    /// The machine gives no random numbers, and an incarnation must be one.
    #[error("cannot draw this process's incarnation")]
    Incarnation(#[source] getrandom::Error),
}

/// What `--hung-after` does not take.
#[derive(Debug, thiserror::Error)]
enum HungAfterError {
    #[error(transparent)]
    NotADuration(#[from] DurationError),
    #[error("it must be at least 100ms")]
    TooShort,
}

/// What is not the address of a coordinator.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotACoordinator {
    /// No URL at all.
    #[error("it must be http://HOST:PORT or HOST:PORT")]
    NotAUrl,
    /// Encryption comes in a later version.
    #[error("`{0}://` is not spoken here, only `http://`")]
    Scheme(String),
}

impl WorkerArgs {
    /// Everything that an agent is told.
    ///
    /// # Errors
    /// If something that was asked for is not here, or a default cannot be found.
    pub fn resolve(&self) -> Result<AgentConfig, ConfigError> {
        let kernels = match self.isa {
            Some(isa) => Kernels::of(isa).map_err(ConfigError::Isa)?,
            None => Kernels::detect(),
        };
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).map_err(ConfigError::Incarnation)?;
        let incarnation = Incarnation::new(u128::from_be_bytes(bits));
        Ok(AgentConfig {
            coordinators: self.coordinator.clone(),
            slots: self.slots.unwrap_or_else(cores),
            name: self.name.clone().unwrap_or_else(|| default_name(&host_name(), incarnation)),
            incarnation,
            cache: self.cache.clone().or_else(default_cache).ok_or(ConfigError::NoCache)?,
            kernels,
            reconnect: Bounds::default(),
            hung_after: self.hung_after,
        })
    }
}

/// By default, after which a slot without a step is hung.
pub const HUNG_AFTER: Duration = Duration::from_secs(60);

/// What `--hung-after` takes.
fn hung_after(text: &str) -> Result<Duration, HungAfterError> {
    let duration = duration::parse(text)?;
    if duration < Duration::from_millis(100) { Err(HungAfterError::TooShort) } else { Ok(duration) }
}

/// The cores that this process may use, by its affinity and its control group's quota.
pub fn cores() -> u32 {
    available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}

/// `slalom` in the user's cache folder (the XDG base directories).
pub fn default_cache() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(folder.join("slalom"))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// `host` as far as a name can hold it, so that people know the machine, and four digits to tell its workers apart.
fn default_name(host: &str, incarnation: Incarnation) -> WorkerName {
    let short = host.split('.').next().unwrap_or_default().to_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '-' };
    let word: String = short.chars().map(plain).take(50).collect();
    let word = word.trim_matches(|c| matches!(c, '-' | '_'));
    let digits = incarnation.bits() & 0xffff;
    let name = format!("{}-{digits:04x}", if word.is_empty() { "worker" } else { word });
    name.parse().expect("letters, digits, `-` and `_`, the first not a sign, at most 55")
}

/// `HOST:PORT` or a URL, as a URL.
///
/// # Errors
/// If it is neither, or of another scheme than `http`.
pub fn coordinator_url(text: &str) -> Result<String, NotACoordinator> {
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = url.parse().map_err(|_| NotACoordinator::NotAUrl)?;
    let has_port = uri.port_u16().is_some();
    match uri.scheme_str() {
        Some("http") if uri.host().is_some_and(|host| !host.is_empty()) && has_port => Ok(url),
        Some("http") | None => Err(NotACoordinator::NotAUrl),
        Some(scheme) => Err(NotACoordinator::Scheme(scheme.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn a_coordinator_is_a_host_and_a_port_with_or_without_http() {
        assert_eq!(coordinator_url("hill:7117").as_deref(), Ok("http://hill:7117"));
        assert_eq!(coordinator_url("http://[::1]:7117").as_deref(), Ok("http://[::1]:7117"));
        for bad in ["", "hill", "http://", "http://:7117", "hill:70000", "a b:1"] {
            assert_eq!(coordinator_url(bad), Err(NotACoordinator::NotAUrl), "{bad}");
        }
        assert_eq!(coordinator_url("https://hill:1"), Err(NotACoordinator::Scheme("https".to_owned())));
    }

    #[test]
    fn a_slot_is_hung_after_a_minute_unless_told_otherwise_and_never_within_an_eyeblink() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: WorkerArgs,
        }
        let told = |args: &[&str]| Cli::try_parse_from([&["slalom-worker"], args].concat());
        assert_eq!(told(&[]).map(|cli| cli.args.hung_after).ok(), Some(HUNG_AFTER));
        assert!(told(&["--hung-after", "99ms"]).is_err());
    }

    #[test]
    fn any_host_s_name_makes_a_worker_s_name() {
        let name = |host: &str| default_name(host, Incarnation::new(0xabc)).to_string();
        assert_eq!(name("Hill-3.example.org"), "hill-3-0abc");
        assert_eq!(name("--"), "worker-0abc");
        assert_eq!(name(""), "worker-0abc");
        assert_eq!(name("büro"), "b-ro-0abc");
        assert_eq!(name(&"x".repeat(80)).len(), 55);
    }
}
