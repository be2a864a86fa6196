//! A spec from a TOML file. Read by hand from a tree with spans, so that each refusal has its line and column.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use slalom_common::axis::{Axis, AxisError};
use slalom_common::duration;
use slalom_common::filter::Filter;
use slalom_common::settings::TrainingSettings;
use slalom_common::sweep::StepsPerEpoch;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::error::{Fault, Place, SpecError};
use super::{Places, Policy, SEED_COUNTS, Spec, bounds, first_seeds, out_of_range, parse_axis, within};
use slalom_common::corpus::source::{Normalize, Source, SourceError};

/// The largest spec file; it bounds how deep the parser recurses, too.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The keys of each table, in the order of `CLI.md`; the spec itself has no name.
const TABLES: [(&str, &[&str]); 4] = [
    ("", &["name", "corpus", "grid", "policy", "training"]),
    ("grid", &["nodes", "batch_size", "unrollings", "epochs", "seeds", "exclude"]),
    ("policy", &["max_attempts", "checkpoint_every"]),
    (
        "training",
        &[
            "learning_rate",
            "decay_rate",
            "decay_steps",
            "clip_norm",
            "valid_size",
            "steps_per_epoch",
            "eval_every",
        ],
    ),
];

/// The keys of a corpus that is a table.
const CORPUS_KEYS: &[&str] = &["synthetic", "path", "name", "chars", "normalize"];

impl Spec {
    /// The spec in the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, or what is wrong in it and where.
    pub(crate) fn load(path: &Path) -> Result<Self, SpecError> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|source| SpecError::nowhere(Fault::Unreadable { path: path.to_owned(), source }))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(SpecError::nowhere(Fault::FileTooLarge {
                path: path.to_owned(),
                max: FILE_BYTES_MAX,
            }));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let readable = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
            let place = SpecText { path, text: &readable }.place(readable.len());
            SpecError::at(place, Fault::NotUtf8)
        })?;
        Self::from_toml(path, &text)
    }

    /// The spec in `text`, which was read from `path`.
    ///
    /// # Errors
    /// What is wrong in it and where.
    pub(crate) fn from_toml(path: &Path, text: &str) -> Result<Self, SpecError> {
        let text = SpecText { path, text };
        let document = text.parse()?;
        let spec = text.table("", document.get_ref())?;
        let grid = spec.subtable("grid")?;
        let policy = spec.subtable("policy")?;
        let training = spec.subtable("training")?;

        let name = match spec.string("name")? {
            Some((name, at)) => Some(name.parse().map_err(|_| text.at(at)(Fault::Name(name.to_owned())))?),
            None => None,
        };
        let (exclude, exclude_places) = grid.expressions("exclude")?;
        let mut places = Places {
            keys: [&spec, &grid, &policy, &training].into_iter().flat_map(Table::places).collect(),
            exclude: exclude_places,
        };
        places.keys.entry("grid").or_insert_with(|| text.place(0));
        Self {
            name,
            corpus: spec.corpus()?,
            nodes: grid.axis("nodes")?,
            batch_size: grid.axis("batch_size")?,
            unrollings: grid.axis("unrollings")?,
            epochs: grid.axis("epochs")?,
            seeds: grid.seeds()?,
            exclude,
            policy: policy.policy()?,
            training: training.settings()?,
            valid_size: training.whole("valid_size")?.unwrap_or(Self::VALID_SIZE),
            steps_per_epoch: training.steps_per_epoch()?,
            eval_every: training.whole("eval_every")?.unwrap_or(0),
            places,
        }
        .check()
    }
}

/// The text of a spec file, in which places are found.
#[derive(Clone, Copy)]
struct SpecText<'a> {
    path: &'a Path,
    text: &'a str,
}

impl<'a> SpecText<'a> {
    fn parse(self) -> Result<Spanned<DeTable<'a>>, SpecError> {
        DeTable::parse(self.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            // The parser may add a second line, of what it had expected.
            let message = error.message().lines().next().unwrap_or("unreadable").to_owned();
            SpecError::at(self.place(offset), Fault::Toml(message))
        })
    }

    /// A table whose keys are all known.
    fn table(self, name: &'static str, entries: &'a DeTable<'a>) -> Result<Table<'a>, SpecError> {
        let known = TABLES.iter().find(|(table, _)| *table == name).map_or(CORPUS_KEYS, |(_, keys)| keys);
        let unknown = entries.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        match unknown.min_by_key(|key| key.span().start) {
            None => Ok(Table { text: self, known, entries: Some(entries), start: 0 }),
            Some(key) => {
                let word = key.get_ref().to_string();
                let home =
                    TABLES.iter().find(|(table, keys)| !table.is_empty() && keys.contains(&word.as_str()));
                let home = home.map(|(table, _)| *table);
                Err(self.at(key.span().start)(Fault::UnknownKey { table: name, key: word, known, home }))
            }
        }
    }

    /// Puts what is wrong at a byte of the text.
    fn at<F: Into<Fault>>(self, offset: usize) -> impl FnOnce(F) -> SpecError {
        move |fault| SpecError::at(self.place(offset), fault)
    }

    fn place(self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place::File {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// One table of the spec, whose keys are known; it may be absent, and then so are its keys.
struct Table<'a> {
    text: SpecText<'a>,
    known: &'static [&'static str],
    entries: Option<&'a DeTable<'a>>,
    /// The byte that it starts at; where it is absent, the start of the file.
    start: usize,
}

impl<'a> Table<'a> {
    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries?.get(key)
    }

    /// Where the value of each known key is.
    fn places(&self) -> impl Iterator<Item = (&'static str, Place)> {
        self.known.iter().filter_map(|&key| Some((key, self.text.place(self.get(key)?.span().start))))
    }

    fn subtable(&self, key: &'static str) -> Result<Self, SpecError> {
        match self.get(key) {
            Some(value) => match value.get_ref() {
                DeValue::Table(entries) => {
                    Ok(Self { start: value.span().start, ..self.text.table(key, entries)? })
                }
                _ => Err(self.wrong_type(key, value, "a table")),
            },
            None => Ok(Self { entries: None, start: 0, ..*self }),
        }
    }

    /// The string of `key` and the byte it starts at.
    fn string(&self, key: &'static str) -> Result<Option<(&'a str, usize)>, SpecError> {
        self.get(key)
            .map(|value| match value.get_ref() {
                DeValue::String(text) => Ok((text.as_ref(), value.span().start)),
                _ => Err(self.wrong_type(key, value, "a string")),
            })
            .transpose()
    }

    /// The whole number of `key`, within its bounds.
    fn whole(&self, key: &'static str) -> Result<Option<u64>, SpecError> {
        self.get(key)
            .map(|value| match value.get_ref() {
                DeValue::Integer(integer) => whole(key, integer).map_err(self.text.at(value.span().start)),
                _ => Err(self.wrong_type(key, value, "a whole number")),
            })
            .transpose()
    }

    /// The number of `key`, whole or not.
    fn real(&self, key: &'static str) -> Result<Option<f64>, SpecError> {
        self.get(key)
            .map(|value| {
                let number = match value.get_ref() {
                    DeValue::Float(float) => float.as_str().parse().ok(),
                    DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse().ok(),
                    _ => None,
                };
                number.ok_or_else(|| self.wrong_type(key, value, "a number"))
            })
            .transpose()
    }

    fn axis(&self, key: &'static str) -> Result<Axis, SpecError> {
        match self.get(key) {
            Some(value) => self.axis_of(key, value),
            None => Err(self.text.at(self.start)(Fault::MissingAxis { axis: key })),
        }
    }

    /// A number alone is a count here: `seeds = 3` is seeds 0, 1 and 2.
    fn seeds(&self) -> Result<Axis, SpecError> {
        let Some(value) = self.get("seeds") else {
            return Ok(Spec::one_seed());
        };
        match value.get_ref() {
            DeValue::Integer(count) => {
                // A number of more than 64 bits, or below 0, is as little a count as 0 is.
                let refused = |_| out_of_range("seeds", count.to_string(), SEED_COUNTS);
                let count = u64::from_str_radix(count.as_str(), count.radix()).map_err(refused);
                count.and_then(first_seeds).map_err(self.text.at(value.span().start))
            }
            _ => self.axis_of("seeds", value),
        }
    }

    fn axis_of(&self, key: &'static str, value: &Spanned<DeValue<'_>>) -> Result<Axis, SpecError> {
        let start = value.span().start;
        let one = |value: &Spanned<DeValue<'_>>, wanted| match value.get_ref() {
            DeValue::Integer(integer) => whole(key, integer)
                .and_then(|value| Axis::new(vec![value]).map_err(|error| Fault::Axis { axis: key, error }))
                .map_err(self.text.at(value.span().start)),
            DeValue::String(text) => parse_axis(key, text).map_err(self.text.at(value.span().start)),
            _ => Err(self.wrong_type(key, value, wanted)),
        };
        let DeValue::Array(items) = value.get_ref() else {
            return one(value, "a whole number, a list or a range");
        };
        let refuse = |error, offset| Err(self.text.at(offset)(Fault::Axis { axis: key, error }));
        let mut parts = Vec::new();
        let mut values = Vec::new();
        for item in items {
            let part = one(item, "a whole number or a range")?;
            if values.len() + part.len() > Axis::VALUES_MAX {
                return refuse(AxisError::TooMany, item.span().start);
            }
            values.extend_from_slice(part.values());
            parts.push((part, item.span().start));
        }
        match Axis::new(values) {
            Ok(axis) => Ok(axis),
            Err(AxisError::Twice(value)) => {
                let second = parts.iter().filter(|(part, _)| part.index_of(value).is_some()).nth(1);
                refuse(AxisError::Twice(value), second.map_or(start, |(_, offset)| *offset))
            }
            Err(error) => refuse(error, start),
        }
    }

    /// The expressions of `key`, and where each of them is.
    fn expressions(&self, key: &'static str) -> Result<(Vec<Filter>, Vec<Place>), SpecError> {
        const WANTED: &str = "a list of expressions";
        let Some(value) = self.get(key) else {
            return Ok((Vec::new(), Vec::new()));
        };
        let DeValue::Array(items) = value.get_ref() else {
            return Err(self.wrong_type(key, value, WANTED));
        };
        let mut filters = Vec::new();
        let mut places = Vec::new();
        for item in items {
            let DeValue::String(source) = item.get_ref() else {
                return Err(self.wrong_type(key, item, "an expression"));
            };
            // Without escapes in it, the expression stands in the file as it is, after its quotes.
            let written = self.text.text.get(item.span()).and_then(|quoted| quoted.find(source.as_ref()));
            let start = item.span().start;
            filters.push(Filter::compile(source).map_err(|error| {
                let offset = written.map_or(start, |quotes| start + quotes + error.offset);
                self.text.at(offset)(error)
            })?);
            places.push(self.text.place(start));
        }
        Ok((filters, places))
    }

    fn corpus(&self) -> Result<Source, SpecError> {
        let Some(value) = self.get("corpus") else {
            return Ok(Source::default());
        };
        match value.get_ref() {
            DeValue::String(text) => text.parse().map_err(self.text.at(value.span().start)),
            DeValue::Table(entries) => {
                let table = self.text.table("corpus", entries)?;
                Self { start: value.span().start, ..table }.corpus_by_keys()
            }
            _ => Err(self.wrong_type("corpus", value, "a name, a path or a table")),
        }
    }

    /// The corpus that this table is.
    fn corpus_by_keys(&self) -> Result<Source, SpecError> {
        let seed = self.whole("synthetic")?;
        let (path, name) = (self.string("path")?, self.string("name")?);
        let mut source = match (seed, path, name) {
            (Some(seed), None, None) => Source::Synthetic { seed, chars: None },
            (None, Some(("", at)), None) => return Err(self.text.at(at)(SourceError::Empty)),
            (None, Some((path, _)), None) => {
                Source::File { path: path.into(), chars: None, normalize: Normalize::No }
            }
            (None, None, Some((name, at))) => match name.parse().map_err(self.text.at(at))? {
                Source::File { .. } => {
                    return Err(self.text.at(at)(Fault::CorpusName(name.to_owned())));
                }
                named => named,
            },
            _ => {
                let found = ["synthetic", "path", "name"].into_iter().filter(|key| self.get(key).is_some());
                return Err(self.text.at(self.start)(Fault::CorpusKeys { found: found.collect() }));
            }
        };
        if let Some(chars) = self.whole("chars")? {
            source = source.with_chars(chars);
        }
        if let Some(value) = self.get("normalize") {
            source = match value.get_ref() {
                DeValue::Boolean(true) => {
                    source.with_normalize().map_err(self.text.at(value.span().start))?
                }
                DeValue::Boolean(false) => source,
                _ => return Err(self.wrong_type("normalize", value, "true or false")),
            };
        }
        Ok(source)
    }

    fn policy(&self) -> Result<Policy, SpecError> {
        let max_attempts = self.whole("max_attempts")?.map(|attempts| {
            u32::try_from(attempts).expect("the bounds of max_attempts are those of 32 bits")
        });
        let checkpoint_every = self.string("checkpoint_every")?.map(|(text, at)| {
            let fault = || Fault::Duration { key: "checkpoint_every", value: text.to_owned() };
            duration::parse(text).map_err(|_| self.text.at(at)(fault()))
        });
        Ok(Policy { max_attempts, checkpoint_every: checkpoint_every.transpose()? })
    }

    fn settings(&self) -> Result<TrainingSettings, SpecError> {
        let study = TrainingSettings::default();
        let settings = TrainingSettings {
            learning_rate: self.real("learning_rate")?.unwrap_or(study.learning_rate),
            decay_rate: self.real("decay_rate")?.unwrap_or(study.decay_rate),
            decay_steps: self.whole("decay_steps")?.unwrap_or(study.decay_steps),
            clip_norm: self.real("clip_norm")?.unwrap_or(study.clip_norm),
        };
        settings.check().map_err(|error| {
            let value = self.get(error.key());
            self.text.at(value.map_or(self.start, |value| value.span().start))(Fault::Settings(error))
        })?;
        Ok(settings)
    }

    fn steps_per_epoch(&self) -> Result<StepsPerEpoch, SpecError> {
        const KEY: &str = "steps_per_epoch";
        match self.get(KEY).map(Spanned::get_ref) {
            Some(DeValue::String(text)) if text == "full-pass" => Ok(StepsPerEpoch::FullPass),
            Some(DeValue::String(text)) => {
                let start = self.get(KEY).map_or(self.start, |value| value.span().start);
                Err(self.text.at(start)(Fault::StepsPerEpoch(text.to_string())))
            }
            _ => Ok(StepsPerEpoch::Steps(self.whole(KEY)?.unwrap_or(1))),
        }
    }

    fn wrong_type(&self, key: &'static str, value: &Spanned<DeValue<'_>>, wanted: &'static str) -> SpecError {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.text.at(value.span().start)(Fault::Type { key, found, wanted })
    }
}

/// An integer within the bounds of `key`; one of more than 64 bits is out of all bounds.
fn whole(key: &'static str, integer: &DeInteger<'_>) -> Result<u64, Fault> {
    match u64::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(value) => within(key, value),
        Err(_) => Err(out_of_range(key, integer.to_string(), bounds(key))),
    }
}
