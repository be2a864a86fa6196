//! `slalom`: everything a person types.
//!
//! A verb is a file in `cmd/`, named as it is typed. It returns how the process ends; whatever goes wrong on the way comes
//! here and is shown as `error: what in where` and `help: what to do`.

#![expect(
    clippy::format_push_string,
    reason = "pages are made of formatted lines; `write!` into a String would add a Result that cannot fail"
)]

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Style};

use args::{Cli, CorpusVerb, Verb};
use failure::{Exit, Shown};
use output::{Output, note};

mod args;
mod cmd;
mod connect;
mod failure;
mod help;
mod local;
mod output;
mod spec;

fn main() -> ExitCode {
    let Cli { verb, output } = match Cli::parse() {
        Ok(cli) => cli,
        Err(refused) => return ExitCode::from(show(&refused) as u8),
    };
    let output = Output::new(output);
    let ended = match verb {
        Verb::Coordinator(args) => return slalom_coordinator::process::run(&args),
        Verb::Worker(args) => return slalom_worker::process::run(&args),
        Verb::Train(args) => cmd::train::run(&args, output),
        Verb::Bench(args) => cmd::bench::run(&args, output),
        Verb::Corpus(CorpusVerb::List(args)) => cmd::corpus::list(&args, output),
        Verb::Corpus(CorpusVerb::Fetch(args)) => cmd::corpus::fetch(&args, output),
        Verb::Corpus(CorpusVerb::Info(args)) => cmd::corpus::info(&args, output),
        verb => ask(verb, output),
    };
    ExitCode::from(match ended {
        Ok(exit) => exit as u8,
        Err(error) => match Shown::of(error.chain()) {
            Some(shown) => show(&shown) as u8,
            None => Exit::Done as u8,
        },
    })
}

/// The verbs that speak to a coordinator, wherever it is.
fn ask(verb: Verb, output: Output) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        match verb {
            Verb::Run(args) => cmd::run::run(&args, output).await,
            Verb::Plan(args) => cmd::plan::run(&args, output).await,
            Verb::Submit(args) => cmd::submit::run(&args, output).await,
            Verb::Extend(args) => cmd::extend::run(&args, output).await,
            Verb::Status(args) => cmd::status::run(&args, output).await,
            Verb::Wait(args) => cmd::wait::run(&args, output).await,
            Verb::Runs(args) => cmd::runs::run(&args, output).await,
            Verb::Results(args) => cmd::results::run(&args, output).await,
            Verb::Pause(args) => cmd::pause::run(&args, output).await,
            Verb::Resume(args) => cmd::resume::run(&args, output).await,
            Verb::Stop(args) => cmd::stop::run(&args, output).await,
            Verb::Cancel(args) => cmd::cancel::run(&args, output).await,
            Verb::Drain(args) => cmd::drain::run(&args, output).await,
            Verb::Retry(args) => cmd::retry::run(&args, output).await,
            Verb::Workers(args) => cmd::workers::run(&args, output).await,
            Verb::Coordinator(_) | Verb::Worker(_) | Verb::Train(_) | Verb::Bench(_) | Verb::Corpus(_) => {
                unreachable!("these verbs ask nobody")
            }
        }
    });
    // A slot may be in the middle of a step: nobody waits for it.
    runtime.shutdown_background();
    ended
}

fn show(shown: &Shown) -> Exit {
    let (error, help) = if std::io::stderr().is_terminal() && args::wants_colour() {
        (AnsiColor::Red.on_default().bold(), AnsiColor::Cyan.on_default())
    } else {
        (Style::new(), Style::new())
    };
    note(&format!("{error}error:{error:#} {}", shown.what));
    if let Some(words) = &shown.help {
        note(&format!("  {help}help:{help:#} {words}"));
    }
    shown.exit
}
