//! `slalom extend`: more values for the axes of a sweep that is there. What it has answered stays; only the new part is trained.

use std::path::{Path, PathBuf};

use serde::Serialize;
use slalom_common::id::SweepName;
use slalom_common::sweep::Sweep;

use super::idle;
use crate::args::ExtendArgs;
use crate::connect::{Needs, People};
use crate::failure::{Exit, Failure};
use crate::output::rows::StatusJson;
use crate::output::{Mode, Output, note, number, print, print_json, print_name};
use crate::spec::Spec;
use crate::spec::flags::SpecArgs;

#[derive(Serialize)]
struct ExtendJson<'a> {
    added_trials: u64,
    #[serde(flatten)]
    status: StatusJson<'a>,
}

/// Adds to a sweep what it does not have of a spec, or of the values given.
///
/// # Errors
/// Bad input, nobody answers, there is no such sweep, or more than its grid would change.
pub(crate) async fn run(args: &ExtendArgs, output: Output) -> anyhow::Result<Exit> {
    let meant = Meant::of(args)?;
    let mut people = People::find(&args.at, Needs::Change).await?;
    let wanted = match meant {
        Meant::Whole(sweep) => *sweep,
        Meant::Values(name) => args.grid.beyond(&people.formula(&name).await?)?,
    };
    let (status, added_trials) = people.extend(&wanted).await?;
    let name = status.sweep.as_str();
    match output.mode() {
        Mode::Json => print_json(&ExtendJson { added_trials, status: StatusJson::from(&status) })?,
        Mode::Quiet => print_name(name)?,
        Mode::Table => {
            let what = match added_trials {
                0 => "nothing is new".to_owned(),
                added => format!("extended by {}", number::counted(added, "trial")),
            };
            print(&format!(
                "{name}: {what}, now {} in {}, {} excluded\n",
                number::counted(status.trials, "trial"),
                number::counted(status.counts.total(), "run"),
                number::count_or_none(status.excluded),
            ))?;
        }
    }
    if let Some(idle) = idle(people.who(), &status) {
        note(&idle);
    }
    people.close().await?;
    Ok(Exit::Done)
}

/// What is to be added, and to which sweep.
enum Meant {
    /// What a spec has beyond the sweep of its name.
    Whole(Box<Sweep>),
    /// The values in the flags, to the sweep of this name.
    Values(SweepName),
}

impl Meant {
    fn of(args: &ExtendArgs) -> anyhow::Result<Self> {
        if let Some(path) = spec_path(&args.what) {
            return Ok(Self::Whole(Box::new(described(&path, args)?)));
        }
        let name = args.what.parse().map_err(|error| {
            Failure::usage(format!("{error}")).help("name a sweep, or a spec by a path that ends in .toml")
        })?;
        if args.name.is_some() {
            return Err(Failure::usage(format!("`{name}` is named, and --name beside it"))
                .help("--name says which sweep a spec extends")
                .into());
        }
        if args.grid.is_empty() {
            let help = "values to add are given as --nodes 128 or --seeds 5, or by a spec that goes beyond the sweep";
            return Err(Failure::usage(format!("nothing is given to extend `{name}` by")).help(help).into());
        }
        Ok(Self::Values(name))
    }
}

/// A path has a slash in it or ends in `.toml`; anything else is a name.
fn spec_path(word: &str) -> Option<PathBuf> {
    let path = Path::new(word);
    let is_path = word.contains('/') || path.extension().is_some_and(|extension| extension == "toml");
    is_path.then(|| path.to_owned())
}

fn described(path: &Path, args: &ExtendArgs) -> anyhow::Result<Sweep> {
    let spec = Spec::from_args(&SpecArgs {
        spec: Some(path.to_owned()),
        name: args.name.clone(),
        grid: args.grid.clone(),
        ..SpecArgs::default()
    })?;
    if spec.name.is_none() {
        return Err(Failure::usage(format!("`{}` does not say which sweep it extends", path.display()))
            .help("name it with --name, or by `name` in the spec")
            .into());
    }
    let text = spec.corpus.load(super::cache(&args.cache).as_ref())?;
    Ok(spec.sweep(&text)?)
}
