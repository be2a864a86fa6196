//! How one event looks as a line. Both forms say the same; only the text rounds.

use std::fmt;

use serde::ser::{Error as _, SerializeMap as _, Serializer as _};
use time::OffsetDateTime;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::Format;

/// Writes an event as one line.
pub(super) struct Lines(pub(super) Format);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let metadata = event.metadata();
        // Ours are known by what they say; a library's by where they come from.
        if !metadata.target().starts_with("slalom") {
            said.fields.push(("target", Value::Text(metadata.target().to_owned())));
        }
        let now = OffsetDateTime::now_utc();
        match self.0 {
            Format::Text => text(writer, now, *metadata.level(), &said),
            Format::Json => json(writer, now, *metadata.level(), &said),
        }
    }
}

/// An event's message and its fields, in the order in which they were given.
#[derive(Default)]
struct Said {
    event: String,
    fields: Vec<(&'static str, Value)>,
}

enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Flag(bool),
    Text(String),
}

impl Said {
    fn push(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(message)) => self.event = message,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Said {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::Unsigned(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::Signed(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::Flag(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, Value::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, Value::Text(format!("{value:?}")));
    }
}

/// RFC 3339 in UTC, to the millisecond.
fn timestamp(at: OffsetDateTime) -> Result<String, fmt::Error> {
    let rfc3339 = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    at.format(rfc3339).map_err(|_| fmt::Error)
}

fn text(mut writer: Writer<'_>, at: OffsetDateTime, level: Level, said: &Said) -> fmt::Result {
    write!(writer, "{} ", timestamp(at)?)?;
    let colour = match level {
        Level::ERROR => "31",
        Level::WARN => "33",
        Level::INFO => "32",
        _ => "2",
    };
    if writer.has_ansi_escapes() {
        write!(writer, "\x1b[{colour}m{level:<5}\x1b[0m ")?;
    } else {
        write!(writer, "{level:<5} ")?;
    }
    // A library's message may hold anything; a line stays a line.
    for c in said.event.chars() {
        writer.write_char(if c.is_control() { ' ' } else { c })?;
    }
    for (name, value) in &said.fields {
        write!(writer, " {name}=")?;
        match value {
            Value::Unsigned(value) => write!(writer, "{value}")?,
            Value::Signed(value) => write!(writer, "{value}")?,
            Value::Flag(value) => write!(writer, "{value}")?,
            Value::Float(value) => write!(writer, "{value:.*}", decimals(name, *value))?,
            Value::Text(value) if is_word(value) => write!(writer, "{value}")?,
            Value::Text(value) => write!(writer, "{value:?}")?,
        }
    }
    writeln!(writer)
}

/// Whether a value can stand behind `=` without quotes and still be told from what follows.
fn is_word(value: &str) -> bool {
    !value.is_empty()
        && !value.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '='))
}

/// Decimals that a person reads: of seconds none from ten on; of perplexity and loss two; of all else two digits that count.
fn decimals(name: &str, value: f64) -> usize {
    match name {
        "perplexity" | "loss" | "best" => 2,
        _ if name.ends_with("_s") => usize::from(value.abs() < 10.0),
        _ if value == 0.0 => 1,
        _ => (1.0 - value.abs().log10().floor()).clamp(1.0, 12.0) as usize,
    }
}

fn json(mut writer: Writer<'_>, at: OffsetDateTime, level: Level, said: &Said) -> fmt::Result {
    let mut line = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut line);
    let mut object = || -> Result<(), serde_json::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("ts", &timestamp(at).map_err(serde_json::Error::custom)?)?;
        map.serialize_entry("level", level_word(level))?;
        map.serialize_entry("event", &said.event)?;
        for (name, value) in &said.fields {
            map.serialize_key(name)?;
            map.serialize_value(value)?;
        }
        map.end()
    };
    object().map_err(|_| fmt::Error)?;
    writeln!(writer, "{}", std::str::from_utf8(&line).map_err(|_| fmt::Error)?)
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

impl serde::Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Flag(value) => serializer.serialize_bool(*value),
            Self::Text(value) => serializer.serialize_str(value),
        }
    }
}

/// What is logged while `act` runs on this thread, in `format`, from `debug` on and without colour.
#[cfg(test)]
pub(super) fn captured(format: Format, act: impl FnOnce()) -> String {
    filtered(format, &"debug,h2=debug".parse().expect("a filter"), act)
}

/// What `filter` lets through of that.
#[cfg(test)]
pub(super) fn filtered(format: Format, filter: &super::args::LogFilter, act: impl FnOnce()) -> String {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    let buffer = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&buffer);
    let layer = tracing_subscriber::fmt::layer()
        .event_format(Lines(format))
        .with_ansi(false)
        .with_writer(move || Sink(Arc::clone(&sink)));
    let subscriber = tracing_subscriber::registry().with(filter.directives()).with(layer);
    tracing::subscriber::with_default(subscriber, act);
    let bytes = buffer.lock().expect("no writer panicked").clone();
    String::from_utf8(bytes).expect("lines are text")
}

/// The lines, in JSON, are `events`: each once, with its level and fields in order, and no other.
#[cfg(test)]
#[track_caller]
pub(super) fn assert_said(events: &[super::fleet::Described], lines: &str) {
    let mut said = Vec::new();
    for line in lines.lines() {
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let word = |key: &str| object[key].as_str().unwrap_or_else(|| panic!("{key} in {line}")).to_owned();
        // Read from the line, since the parsed object has forgotten the order.
        let mut keys: Vec<&String> = object.keys().collect();
        keys.sort_by_key(|key| line.find(&format!("\"{key}\":")));
        assert_eq!(keys[..3], ["ts", "level", "event"], "{line}");
        let fields: Vec<String> = keys[3..].iter().map(ToString::to_string).collect();
        said.push((word("event"), word("level"), fields));
    }
    let mut listed: Vec<(String, String, Vec<String>)> = events
        .iter()
        .map(|&(event, level, fields)| {
            (event.to_owned(), level.to_owned(), fields.iter().map(ToString::to_string).collect())
        })
        .collect();
    said.sort();
    listed.sort();
    assert_eq!(said, listed);
}

#[cfg(test)]
struct Sink(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(test)]
impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rfc_3339_in_utc_to_the_millisecond() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_795_435_200_120_999_999).expect("a time");
        assert_eq!(timestamp(at).as_deref(), Ok("2026-11-23T12:00:00.120Z"));
    }

    #[test]
    fn text_quotes_only_what_could_be_misread_and_never_breaks_its_line() {
        let lines = captured(Format::Text, || {
            tracing::warn!(
                plain = "a/b",
                spaced = "two words",
                odd = "a=b",
                empty = "",
                torn = "x\ny\x1b",
                "a\nb"
            );
        });
        assert_eq!(
            &lines[25..],
            "WARN  a b plain=a/b spaced=\"two words\" odd=\"a=b\" empty=\"\" torn=\"x\\ny\\u{1b}\"\n"
        );
    }

    #[test]
    fn text_rounds_for_reading_and_json_keeps_every_digit() {
        let event = || {
            let tiny = 0.000_123_4;
            tracing::info!(
                perplexity = 6.314_159,
                rate = 61.0,
                tiny,
                eta_s = 12.4,
                wait_s = 0.25,
                n = 7,
                "seen"
            );
        };
        let lines = captured(Format::Text, event);
        let expected = "INFO  seen perplexity=6.31 rate=61.0 tiny=0.00012 eta_s=12 wait_s=0.2 n=7\n";
        assert_eq!(&lines[25..], expected);
        let lines = captured(Format::Json, event);
        let (_, rest) = lines.split_once(',').expect("more than one entry");
        let expected = r#""level":"info","event":"seen","perplexity":6.314159,"rate":61.0,"tiny":0.0001234,"eta_s":12.4,"wait_s":0.25,"n":7}"#;
        assert_eq!(rest.trim_end(), expected);
    }

    #[test]
    fn a_library_s_line_says_where_it_comes_from() {
        let lines = captured(Format::Text, || tracing::info!(target: "h2::client", "connected"));
        assert_eq!(&lines[25..], "INFO  connected target=h2::client\n");
    }
}
