//! `slalom corpus`: the texts that can be trained on.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use slalom_common::corpus::cache::Cache;
use slalom_common::corpus::source::Source;
use slalom_common::corpus::synthetic::Synthetic;
use slalom_common::corpus::text8::{self, Expected};
use slalom_common::corpus::{Text, alphabet};

use super::cache;
use crate::args::{CacheArgs, CorpusFetchArgs, CorpusInfoArgs, CorpusListArgs, Fetched};
use crate::failure::{Exit, Failure, NO_CACHE};
use crate::output::columns::{Columns, Side};
use crate::output::{Mode, Output, bar, note, number, print, print_json, print_name};
use crate::spec::flags::CorpusArgs;

/// Characters of a corpus that `info` shows.
const CHARS_SHOWN: usize = 72;

/// The folder of corpora, where nothing can be done without one.
fn needed(args: &CacheArgs) -> Result<Cache, Failure> {
    cache(args).ok_or_else(|| Failure::error("there is no folder for corpora").help(NO_CACHE))
}

#[derive(Serialize)]
struct EntryJson {
    corpus: String,
    name: Option<&'static str>,
    chars: u64,
}

/// The texts in the cache.
///
/// # Errors
/// If the cache cannot be read.
pub(crate) fn list(args: &CorpusListArgs, output: Output) -> anyhow::Result<Exit> {
    let cache = needed(&args.cache)?;
    let text8 = text8::cached(&cache)?;
    let entries: Vec<EntryJson> = cache
        .list()?
        .into_iter()
        .map(|entry| EntryJson {
            corpus: format!("sha256:{}", entry.sha256),
            name: (text8 == Some(entry.sha256)).then_some("text8"),
            chars: entry.chars,
        })
        .collect();
    match output.mode() {
        Mode::Json => print_json(&entries)?,
        Mode::Quiet => entries.iter().try_for_each(|entry| print_name(&entry.corpus))?,
        Mode::Table => {
            let mut columns =
                Columns::new([("chars", Side::Right), ("name", Side::Left), ("corpus", Side::Left)]);
            for EntryJson { corpus, name, chars } in &entries {
                columns.row([number::count(*chars), name.unwrap_or("-").to_owned(), corpus.clone()]);
            }
            output.columns(&columns)?;
            note(&format!(
                "{} in {}; `synthetic` needs no cache",
                number::counted(entries.len() as u64, "text"),
                cache.folder().display()
            ));
        }
    }
    Ok(Exit::Done)
}

/// Downloads a text into the cache, unless it is there.
///
/// # Errors
/// If it cannot be had, or is not what it must be; the cache is then as it was.
pub(crate) fn fetch(args: &CorpusFetchArgs, output: Output) -> anyhow::Result<Exit> {
    let Fetched::Text8 = args.corpus;
    let cache = needed(&args.cache)?;
    let text = match text8::cached(&cache)?.map(|sha256| cache.get(sha256)) {
        // A damaged copy is fetched anew.
        Some(Ok(Some(text))) => {
            note("text8 is in the cache");
            text
        }
        Some(_) | None => download(&args.url, &cache)?,
    };
    match output.mode() {
        Mode::Json => print_json(&EntryJson {
            corpus: format!("sha256:{}", text.sha256()),
            name: Some("text8"),
            chars: text.chars(),
        })?,
        Mode::Quiet => print_name("text8")?,
        Mode::Table => {
            let path = cache.path(text.sha256());
            print(&format!("text8: {} characters in {}\n", number::count(text.chars()), path.display()))?;
        }
    }
    Ok(Exit::Done)
}

fn download(url: &str, cache: &Cache) -> anyhow::Result<Text> {
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let progress = ProgressBar::with_draw_target(Some(Expected::TEXT8.archive_bytes), target);
    progress.set_style(bar::style(
        "  text8  {percent:>3}%  {wide_bar}  {bytes} of {total_bytes}   {bytes_per_sec}   {eta} left",
    ));
    note(&format!("fetching {} from {url}", number::bytes(Expected::TEXT8.archive_bytes)));
    let fetched = text8::fetch(url, cache, &Expected::TEXT8, |received, _| progress.set_position(received));
    progress.finish_and_clear();
    Ok(fetched.map_err(|error| {
        let help = "the cache is as it was; another place that has the same archive can be given with --url";
        Failure::error(format!("{:#}", anyhow::Error::from(error))).help(help)
    })?)
}

#[derive(Serialize)]
struct InfoJson<'a> {
    corpus: String,
    chars: u64,
    sha256: String,
    valid_size: u64,
    begins: &'a str,
    /// Of `synthetic` alone.
    #[serde(flatten)]
    source: Option<SourceJson>,
}

/// What is known of a synthetic source.
#[derive(Serialize)]
struct SourceJson {
    /// Exact, in nats per character.
    entropy_rate: f64,
    /// exp of it: what oracles score on average over long texts.
    perplexity_floor: f64,
    /// What a predictor that knows the source scores on this validation text.
    oracle_perplexity: Option<f64>,
}

/// What a corpus is.
///
/// # Errors
/// If it cannot be read, or is no text of the 27 symbols.
pub(crate) fn info(args: &CorpusInfoArgs, output: Output) -> anyhow::Result<Exit> {
    let corpus = CorpusArgs {
        corpus: Some(args.corpus.clone()),
        corpus_chars: args.corpus_chars,
        normalize: args.normalize,
    };
    let source = corpus.source()?;
    let text = source.load(cache(&args.cache).as_ref())?;
    if args.valid_size == 0 || args.valid_size > text.chars() {
        let what = format!(
            "--valid-size is {}, the corpus `{source}` has {} characters",
            args.valid_size,
            text.chars()
        );
        return Err(Failure::usage(what).help("give --valid-size from 1 to as many").into());
    }
    let valid = &text.symbols()[..args.valid_size as usize];
    let known = match source {
        Source::Synthetic { seed, .. } => {
            let synthetic = Synthetic::new(seed);
            let entropy_rate = synthetic.entropy_rate();
            Some(SourceJson {
                entropy_rate,
                perplexity_floor: entropy_rate.exp(),
                oracle_perplexity: synthetic.oracle_perplexity(valid),
            })
        }
        Source::Text8 { .. } | Source::File { .. } | Source::Cached { .. } => None,
    };
    let begins: String =
        text.symbols().iter().take(CHARS_SHOWN).map(|&symbol| char::from(alphabet::ascii(symbol))).collect();
    match output.mode() {
        Mode::Json => print_json(&InfoJson {
            corpus: source.to_string(),
            chars: text.chars(),
            sha256: text.sha256().to_string(),
            valid_size: args.valid_size,
            begins: &begins,
            source: known,
        })?,
        Mode::Quiet => print_name(&format!("sha256:{}", text.sha256()))?,
        Mode::Table => {
            let mut lines = format!(
                "corpus    {source}\nchars     {}, of which the first {} validate\nsha256    {}\nbegins    {begins}\n",
                number::count(text.chars()),
                number::count(args.valid_size),
                text.sha256(),
            );
            if let Some(SourceJson { entropy_rate, perplexity_floor, oracle_perplexity }) = known {
                lines += &format!(
                    "entropy   {entropy_rate:.4} nats per character, exactly known: no model's perplexity stays below {perplexity_floor:.4} for long\n"
                );
                if let Some(oracle) = oracle_perplexity {
                    lines += &format!(
                        "oracle    {oracle:.4} on this validation text: what a predictor that knows the source scores\n"
                    );
                }
            }
            print(&lines)?;
        }
    }
    Ok(Exit::Done)
}
