//! The coordinator's settings: flags, then environment, then defaults, resolved once. Nothing else reads the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Subcommand};
use slalom_common::duration;
use slalom_common::log::args::LogArgs;
use slalom_common::run::NUMERICS;

use crate::scheduler::Settings;
use crate::scheduler::order::Serve;
use crate::store::blobs::BUDGET;

/// What a coordinator is told where it is started; nothing of it moves a bit of any result.
#[derive(Args, Clone, Debug)]
#[command(disable_help_subcommand = true, subcommand_value_name = "VERB")]
pub struct CoordinatorArgs {
    /// What to do but to serve.
    #[command(subcommand)]
    pub verb: Option<CoordinatorVerb>,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS:PORT", env = "SLALOM_LISTEN", default_value = "127.0.0.1:7117")]
    pub listen: SocketAddr,
    /// Folder of the store: what happened, corpora and checkpoints
    #[arg(long, value_name = "DIR", env = "SLALOM_STORE", default_value = "slalom-store", global = true)]
    pub store: PathBuf,
    /// Room for checkpoints; the oldest make room for new ones, and cost time where they are missed
    #[arg(long, value_name = "SIZE", env = "SLALOM_BLOB_BUDGET", default_value_t = ByteSize(BUDGET))]
    pub blob_budget: ByteSize,
    /// Between two heartbeats of a worker
    #[arg(long, value_name = "TIME", env = "SLALOM_HEARTBEAT", default_value = "5s", value_parser = duration::parse)]
    pub heartbeat: Duration,
    /// A worker silent for so long loses its runs to others
    #[arg(long, value_name = "TIME", env = "SLALOM_LEASE", default_value = "30s", value_parser = duration::parse)]
    pub lease: Duration,
    /// Training time between two checkpoints of a run
    #[arg(
        long,
        value_name = "TIME",
        env = "SLALOM_CHECKPOINT_EVERY",
        default_value = "60s",
        value_parser = duration::parse
    )]
    pub checkpoint_every: Duration,
    /// Between two lines of progress in the log
    #[arg(
        long,
        value_name = "TIME",
        env = "SLALOM_PROGRESS_EVERY",
        default_value = "10s",
        value_parser = duration::parse
    )]
    pub progress_every: Duration,
    /// Listen where other machines can connect, without encryption or passwords
    #[arg(long, env = "SLALOM_INSECURE")]
    pub insecure: bool,
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What is done with a store but to serve it.
#[derive(Subcommand, Clone, Debug)]
pub enum CoordinatorVerb {
    /// Copy the store to a new folder, also while its coordinator runs
    ///
    /// The copy has what was recorded by one moment, read back and checked, and the corpora of active sweeps. A coordinator
    /// started on it goes on from there; checkpoints stay behind, so runs that were under way begin again, to the same bits.
    #[command(
        after_help = "Example:\n  slalom coordinator backup --store /var/lib/slalom /mnt/copies/monday"
    )]
    Backup(BackupArgs),
}

/// What a backup is told.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// Folder to be made
    #[arg(value_name = "DIR")]
    pub to: PathBuf,
}

/// A coordinator's settings, once they hold together.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Where it listens; port 0 for a free one.
    pub listen: SocketAddr,
    /// The store's folder.
    pub store: PathBuf,
    /// Bytes of all checkpoints together.
    pub blob_budget: u64,
    /// What the scheduler is started with.
    pub settings: Settings,
}

/// Settings that do not hold together.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// Every machine that reaches the address could read and change everything.
    #[error(
        "`--listen {0}` can be reached from other machines, and nothing is encrypted or asks for a password"
    )]
    Insecure(SocketAddr),
    /// One late heartbeat would cost a healthy worker its runs.
    #[error("`--lease {}` is less than two of `--heartbeat {}`", duration::display(*lease), duration::display(*heartbeat))]
    ShortLease {
        /// The lease time.
        lease: Duration,
        /// Between two heartbeats.
        heartbeat: Duration,
    },
}

impl ConfigError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Insecure(_) => "add `--insecure` if that network is yours alone".to_owned(),
            Self::ShortLease { heartbeat, .. } => {
                format!("a lease of {} or more survives a lost heartbeat", duration::display(*heartbeat * 3))
            }
        }
    }
}

impl CoordinatorArgs {
    /// The settings, if they hold together.
    ///
    /// # Errors
    /// Names the flags that do not.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        if !self.listen.ip().to_canonical().is_loopback() && !self.insecure {
            return Err(ConfigError::Insecure(self.listen));
        }
        let (lease, heartbeat) = (self.lease, self.heartbeat);
        if lease < heartbeat * 2 {
            return Err(ConfigError::ShortLease { lease, heartbeat });
        }
        Ok(Config {
            listen: self.listen,
            store: self.store.clone(),
            blob_budget: self.blob_budget.as_u64(),
            settings: Settings {
                heartbeat,
                lease,
                checkpoint_every: self.checkpoint_every,
                progress_every: self.progress_every,
                numerics: NUMERICS,
                serve: Serve::All,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: CoordinatorArgs,
    }

    fn resolved(flags: &[&str]) -> Result<Config, ConfigError> {
        let cli = Cli::try_parse_from([&["coordinator"], flags].concat()).expect("flags");
        cli.args.resolve()
    }

    #[test]
    fn only_loopback_is_listened_on_without_the_word_insecure() {
        for inside in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:7117", "[::ffff:127.0.0.1]:7117"] {
            assert!(resolved(&["--listen", inside]).is_ok(), "{inside}");
        }
        for outside in ["0.0.0.0:7117", "[::]:7117", "10.0.0.1:7117", "[::ffff:10.0.0.1]:1"] {
            assert!(matches!(resolved(&["--listen", outside]), Err(ConfigError::Insecure(_))), "{outside}");
            assert!(resolved(&["--insecure", "--listen", outside]).is_ok(), "{outside}");
        }
    }

    #[test]
    fn a_lease_outlasts_two_heartbeats() {
        assert!(resolved(&["--heartbeat", "200ms", "--lease", "400ms"]).is_ok());
        let error = resolved(&["--heartbeat", "20s"]).expect_err("a lease of 30 s is short");
        assert_eq!(error.to_string(), "`--lease 30s` is less than two of `--heartbeat 20s`");
        assert_eq!(error.help(), "a lease of 1m or more survives a lost heartbeat");
    }

    #[test]
    fn the_defaults_are_those_of_the_reliability_page() {
        let settings = resolved(&[]).expect("defaults hold").settings;
        let seconds = |duration: Duration| duration.as_secs();
        assert_eq!(
            [settings.heartbeat, settings.lease, settings.checkpoint_every, settings.progress_every]
                .map(seconds),
            [5, 30, 60, 10]
        );
    }
}
