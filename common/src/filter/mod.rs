//! A CEL expression over a point and its seed (`exclude`, `--where`), compiled once.
//!
//! The `cel` crate parses; what it parsed is lowered to a small tree whose types are checked by construction,
//! so that an evaluation can fail only by a number: a division by zero or more than 64 bits. The language is
//! CEL's integers, truth values, comparisons, arithmetic, `!`, `&&`, `||`, `?:` and `in [..]`; the rest of
//! CEL is refused by name. One difference: `&&` and `||` go from left to right and stop at the first answer
//! or error, where CEL would let a right side that answers hide an error on the left.

use std::collections::BTreeSet;
use std::fmt;

use cel::parser::{ParseErrors, Parser};

use self::lower::{Lowered, Lowering};
use self::tree::Bool;

mod lower;
mod tree;

/// A name that an expression may hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Name {
    /// Memory cells.
    Nodes,
    /// Rows trained side by side.
    BatchSize,
    /// Time steps between two updates.
    Unrollings,
    /// Units of training.
    Epochs,
    /// What decides the initial weights.
    Seed,
}

impl Name {
    /// All of them, in the order of the axes.
    pub const ALL: [Self; 5] = [Self::Nodes, Self::BatchSize, Self::Unrollings, Self::Epochs, Self::Seed];
    /// Those that a run has, which answers all its epochs.
    pub const OF_A_RUN: [Self; 4] = [Self::Nodes, Self::BatchSize, Self::Unrollings, Self::Seed];

    /// The name as it is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::BatchSize => "batch_size",
            Self::Unrollings => "unrollings",
            Self::Epochs => "epochs",
            Self::Seed => "seed",
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Where an expression is evaluated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct At {
    /// The value of `nodes`.
    pub nodes: u64,
    /// The value of `batch_size`.
    pub batch_size: u64,
    /// The value of `unrollings`.
    pub unrollings: u64,
    /// The value of `epochs`; of no effect on an expression compiled without that name.
    pub epochs: u64,
    /// The value of `seed`.
    pub seed: u64,
}

impl At {
    /// The value of `name`.
    ///
    /// # Errors
    /// The value is above 2^63 - 1: a CEL integer has a sign.
    fn value(&self, name: Name) -> Result<i64, EvalError> {
        let value = match name {
            Name::Nodes => self.nodes,
            Name::BatchSize => self.batch_size,
            Name::Unrollings => self.unrollings,
            Name::Epochs => self.epochs,
            Name::Seed => self.seed,
        };
        i64::try_from(value).map_err(|_| EvalError::TooLarge { name, value })
    }
}

/// An expression that is true of some points and false of others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    source: String,
    names: BTreeSet<Name>,
    tree: Bool,
}

/// Why a text is not a filter, and where in it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct FilterError {
    /// What is wrong.
    pub reason: Reason,
    /// The byte of the source that it is wrong at, from 0.
    pub offset: usize,
}

/// What is wrong with a text that is not a filter.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Reason {
    /// A source longer than [`Filter::SOURCE_MAX`].
    #[error("expression of {0} bytes, more than {max}", max = Filter::SOURCE_MAX)]
    TooLong(usize),
    /// Brackets or `?:` deeper than is parsed.
    #[error("expression nested more than {max} deep", max = Filter::NESTING_MAX)]
    TooDeep,
    /// A character that no filter has.
    #[error("character `{0}` in an expression")]
    Character(char),
    /// A bracket without its other half.
    #[error("bracket `{0}` without its other half")]
    Bracket(char),
    /// What the parser could not read, in its words.
    #[error("not an expression: {0}")]
    Syntax(String),
    /// A name that is none of those known.
    #[error("unknown name `{name}`")]
    UnknownName {
        /// The name as written.
        name: String,
        /// The known one that was probably meant.
        nearest: Option<Name>,
        /// All that are known here.
        known: Vec<Name>,
    },
    /// A part of CEL that a filter has no use for.
    #[error("{0} in an expression over whole numbers")]
    Unsupported(String),
    /// An operator on a type that it does not take.
    #[error("`{operator}` of {found}, where it takes {wanted}")]
    Operand {
        /// The operator as written.
        operator: &'static str,
        /// What it takes.
        wanted: Type,
        /// What it was given.
        found: Type,
    },
    /// A number where an answer is wanted.
    #[error("expression is a number, not true or false")]
    NotAnAnswer,
}

/// The type of a part of an expression.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// 64 bits and a sign.
    Int,
    /// True or false.
    Bool,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Int => "a number",
            Self::Bool => "true or false",
        })
    }
}

/// Why an expression has no answer at some point.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EvalError {
    /// `/` or `%` by zero.
    #[error("division by zero: {dividend} {operator} 0")]
    DivisionByZero {
        /// `/` or `%`.
        operator: &'static str,
        /// What was to be divided.
        dividend: i64,
    },
    /// A result of more than 64 bits.
    #[error("overflow: {left} {operator} {right}")]
    Overflow {
        /// The operator as written.
        operator: &'static str,
        /// Its left operand; 0 for a negation.
        left: i64,
        /// Its right operand.
        right: i64,
    },
    /// A value of more than 63 bits.
    #[error("overflow: {name} is {value}, above {}", i64::MAX)]
    TooLarge {
        /// What has this value.
        name: Name,
        /// The value.
        value: u64,
    },
}

impl Filter {
    /// The longest source, in bytes. With [`Self::NESTING_MAX`] it bounds how deep parser and tree recurse.
    pub const SOURCE_MAX: usize = 1024;
    /// The deepest nesting of brackets: the parser takes some 20 KiB of stack for each.
    pub const NESTING_MAX: usize = 16;

    /// Compiles an expression over all five names.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn compile(source: &str) -> Result<Self, FilterError> {
        Self::compile_for(source, &Name::ALL)
    }

    /// Compiles an expression over the names `known` alone.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn compile_for(source: &str, known: &[Name]) -> Result<Self, FilterError> {
        check_bounds(source)?;
        // On one line, the parser's columns are offsets.
        let line = source.replace(['\n', '\r', '\t'], " ");
        let (expression, places) =
            Parser::new().parse_with_source_info(&line).map_err(|errors| syntax_error(source, &errors))?;
        let mut lowering = Lowering::new(known, &places);
        match lowering.lower(&expression)? {
            Lowered::Bool(tree) => Ok(Self { source: source.to_owned(), names: lowering.into_names(), tree }),
            Lowered::Int(_) => Err(FilterError { reason: Reason::NotAnAnswer, offset: 0 }),
        }
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The names in it: its answer depends on no other.
    pub fn names(&self) -> &BTreeSet<Name> {
        &self.names
    }

    /// Whether the expression is true there.
    ///
    /// # Errors
    /// It has no answer there: a division by zero, or a number of more than 64 bits.
    pub fn matches(&self, at: &At) -> Result<bool, EvalError> {
        self.tree.evaluate(at)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.source)
    }
}

impl FilterError {
    /// What the writer of the expression can do about it.
    pub fn help(&self) -> String {
        match &self.reason {
            Reason::UnknownName { nearest, known, .. } => {
                let known: Vec<&str> = known.iter().map(|name| name.word()).collect();
                let known = format!("the names are {}", known.join(", "));
                match nearest {
                    Some(name) => format!("did you mean `{name}`? {known}"),
                    None => known,
                }
            }
            Reason::TooLong(_) | Reason::TooDeep => "`exclude` may hold several shorter ones".to_owned(),
            Reason::NotAnAnswer | Reason::Operand { .. } => {
                "compare it with something, as in `unrollings > nodes`".to_owned()
            }
            Reason::Character(_) | Reason::Bracket(_) | Reason::Syntax(_) | Reason::Unsupported(_) => {
                "expressions are such as `unrollings > nodes && batch_size == 16` or `nodes in [8, 64]`"
                    .to_owned()
            }
        }
    }
}

/// Refuses, before the parser recurses into it, what would take it too deep.
fn check_bounds(source: &str) -> Result<(), FilterError> {
    let refuse = |reason, offset| Err(FilterError { reason, offset });
    if source.len() > Filter::SOURCE_MAX {
        return refuse(Reason::TooLong(source.len()), 0);
    }
    let mut open = Vec::new();
    for (offset, character) in source.char_indices() {
        match character {
            _ if character.is_ascii_alphanumeric() || "_ \n\r\t+-*/%<>=!&|?:,.".contains(character) => (),
            '(' | '[' if open.len() == Filter::NESTING_MAX => return refuse(Reason::TooDeep, offset),
            '(' | '[' => open.push((character, offset)),
            ')' if matches!(open.last(), Some(('(', _))) => _ = open.pop(),
            ']' if matches!(open.last(), Some(('[', _))) => _ = open.pop(),
            ')' | ']' => return refuse(Reason::Bracket(character), offset),
            _ => return refuse(Reason::Character(character), offset),
        }
    }
    match open.pop() {
        Some((bracket, offset)) => refuse(Reason::Bracket(bracket), offset),
        None => Ok(()),
    }
}

/// The first of the parser's complaints, without the list of tokens it would have liked better.
fn syntax_error(source: &str, errors: &ParseErrors) -> FilterError {
    let Some(first) = errors.errors.first() else {
        return FilterError { reason: Reason::Syntax("unreadable".to_owned()), offset: 0 };
    };
    let offset = usize::try_from(first.pos.1 - 1).unwrap_or(0).min(source.len());
    let message = first.msg.trim_start_matches("Syntax error: ");
    let reason = if message.contains("Recursion limit") {
        Reason::TooDeep
    } else {
        let message = message.split(" expecting ").next().unwrap_or(message);
        Reason::Syntax(message.replace("'<EOF>'", "end of expression"))
    };
    FilterError { reason, offset }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: At = At { nodes: 8, batch_size: 16, unrollings: 10, epochs: 500, seed: 2 };

    fn answer(source: &str) -> Result<bool, EvalError> {
        Filter::compile(source).unwrap_or_else(|error| panic!("{source}: {error}")).matches(&AT)
    }

    fn refusal(source: &str) -> (String, usize) {
        let error = Filter::compile(source).expect_err(source);
        (error.to_string(), error.offset)
    }

    #[test]
    fn an_expression_answers_as_cel_would() {
        let cases = [
            ("unrollings > nodes && batch_size == 16", true),
            ("unrollings > nodes && batch_size != 16", false),
            ("nodes * unrollings + batch_size >= 97 || false", false),
            ("nodes - unrollings == -2", true),
            ("-7 / 2 == -3 && -7 % 2 == -1", true),
            ("2 + 3 * 4 == 14 && (2 + 3) * 4 == 20", true),
            ("!(seed < 2) && seed <= 2", true),
            ("nodes in [8, 2 * nodes] && !(nodes in [])", true),
            ("(nodes > 8 ? epochs : seed) == 2", true),
            ("nodes > 8 ? true : seed == 3", false),
            ("(nodes == 8) == (seed == 2)", true),
            ("(nodes == 8) != (seed == 2)", false),
            ("0x10 == batch_size", true),
            ("nodes\n  < unrollings", true),
            ("true && false || true && true", true),
        ];
        for (source, expected) in cases {
            assert_eq!(answer(source), Ok(expected), "{source}");
        }
    }

    #[test]
    fn and_and_or_stop_at_the_first_answer() {
        assert_eq!(answer("nodes > 8 && 1 / 0 == 1"), Ok(false));
        assert_eq!(answer("nodes == 8 || 1 / 0 == 1"), Ok(true));
        let divided = Err(EvalError::DivisionByZero { operator: "/", dividend: 1 });
        assert_eq!(answer("1 / 0 == 1 && nodes > 8"), divided);
        assert_eq!(answer("nodes > 9 && seed == 0 && 1 / 0 == 1 && true"), Ok(false));
    }

    #[test]
    fn a_number_without_a_value_is_an_error_that_shows_it() {
        let message = |source| answer(source).expect_err("no value").to_string();
        assert_eq!(message("epochs / (nodes - 8) > 1"), "division by zero: 500 / 0");
        assert_eq!(message("epochs % (nodes - 8) > 1"), "division by zero: 500 % 0");
        assert_eq!(message("9223372036854775807 + seed > 1"), "overflow: 9223372036854775807 + 2");
        assert_eq!(message("-9223372036854775808 / -1 > 1"), "overflow: -9223372036854775808 / -1");
        assert_eq!(message("-(-9223372036854775808) > 1"), "overflow: 0 - -9223372036854775808");
        let far = At { seed: u64::MAX, ..AT };
        let by_seed = Filter::compile("seed > 1").expect("compiles");
        assert_eq!(
            by_seed.matches(&far).expect_err("too large").to_string(),
            "overflow: seed is 18446744073709551615, above 9223372036854775807"
        );
        let by_nodes = Filter::compile("nodes > 1").expect("compiles");
        assert_eq!(by_nodes.matches(&far), Ok(true), "a seed that is not asked for does no harm");
    }

    #[test]
    fn the_names_in_it_are_known() {
        let filter = Filter::compile("nodes > 8 && (nodes < 9 || seed == 1)").expect("compiles");
        assert_eq!(filter.names(), &BTreeSet::from([Name::Nodes, Name::Seed]));
        assert_eq!(filter.source(), "nodes > 8 && (nodes < 9 || seed == 1)");
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_known_one() {
        let error = Filter::compile("nodes > 1 && unrolings > nodes").expect_err("unknown name");
        assert_eq!((error.to_string().as_str(), error.offset), ("unknown name `unrolings`", 13));
        let help = "did you mean `unrollings`? the names are nodes, batch_size, unrollings, epochs, seed";
        assert_eq!(error.help(), help);
        let error = Filter::compile_for("epochs > 500", &Name::OF_A_RUN).expect_err("a run has no epochs");
        assert_eq!(error.to_string(), "unknown name `epochs`");
        assert_eq!(error.help(), "the names are nodes, batch_size, unrollings, seed");
    }

    #[test]
    fn what_is_not_a_filter_is_refused_by_what_is_wrong() {
        let cases: [(&str, &str, usize); 22] = [
            ("nodes", "expression is a number, not true or false", 0),
            ("", "not an expression: mismatched input end of expression", 0),
            ("nodes >", "not an expression: mismatched input end of expression", 7),
            ("nodes > 8 8", "not an expression: extraneous input '8'", 10),
            ("nodes = 8", "not an expression: token recognition error at: '= '", 6),
            ("nodes > 99999999999999999999", "not an expression: invalid int literal", 8),
            ("nodes > 8.5", "a number with a fraction in an expression over whole numbers", 8),
            ("nodes > 8u", "a number with a `u` in an expression over whole numbers", 8),
            ("nodes > null", "`null` in an expression over whole numbers", 8),
            ("nodes > \"8\"", "character `\"` in an expression", 8),
            ("größe > 8", "character `ö` in an expression", 2),
            ("size(nodes) > 8", "function `size` in an expression over whole numbers", 4),
            ("nodes.size() > 8", "function `size` in an expression over whole numbers", 10),
            ("nodes.size > 8", "a field in an expression over whole numbers", 5),
            ("nodes[0] > 8", "an index in an expression over whole numbers", 5),
            ("[8].all(x, x > 8)", "a comprehension in an expression over whole numbers", 7),
            ("nodes in seed", "`in` without a list in an expression over whole numbers", 9),
            ("[8] == [8]", "a list that is not to the right of `in` in an expression over whole numbers", 0),
            ("nodes && true", "`&&` of a number, where it takes true or false", 0),
            ("1 + (nodes > 8) == 2", "`+` of true or false, where it takes a number", 11),
            ("true < false", "`<` of true or false, where it takes a number", 0),
            ("nodes > (8", "bracket `(` without its other half", 8),
        ];
        for (source, message, offset) in cases {
            assert_eq!(refusal(source), (message.to_owned(), offset), "{source}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded_before_the_parser_recurses() {
        let nested = |levels: usize| format!("{}nodes > 8{}", "(".repeat(levels), ")".repeat(levels));
        assert_eq!(answer(&nested(Filter::NESTING_MAX)), Ok(false));
        assert_eq!(
            refusal(&nested(Filter::NESTING_MAX + 1)),
            ("expression nested more than 16 deep".to_owned(), Filter::NESTING_MAX)
        );
        assert_eq!(refusal(&nested(100_000)).0, "expression of 200009 bytes, more than 1024");
    }

    /// The worst that the bounds let through, on half the stack of a thread that serves requests.
    #[test]
    fn no_source_within_the_bounds_needs_much_stack() {
        const LENGTH: usize = Filter::SOURCE_MAX - 2 * Filter::NESTING_MAX;
        let fill = |unit: &str, end: &str| unit.repeat((LENGTH - end.len()) / unit.len()) + end;
        let bodies = [
            fill("!", "true"),
            fill("-", "nodes>1"),
            fill("1+", "1>1"),
            fill("1<", "1"),
            fill("true?true:", "true"),
            fill("true&&", "true"),
            fill("true||", "true"),
            fill("a.", "a"),
            fill("a.a().", "a"),
            fill("a[0]", ""),
            fill("1?", "1"),
            fill("[[1].map(x,x)]", ""),
        ];
        let (open, close) = ("(".repeat(Filter::NESTING_MAX), ")".repeat(Filter::NESTING_MAX));
        let (each, end) = ("(nodes>1?true:!".repeat(16), "true".to_owned() + &close);
        let sources: Vec<String> = bodies
            .iter()
            .map(|body| format!("{open}{body}{close}"))
            .chain([each + &end, "[1].all(x,".repeat(8) + "true" + &")".repeat(8)])
            .collect();
        assert!(sources.iter().all(|source| source.len() <= Filter::SOURCE_MAX));
        let half_a_stack = std::thread::Builder::new().stack_size(1 << 20);
        let compile_all = move || sources.iter().filter_map(|source| Filter::compile(source).ok()).count();
        let compiled = half_a_stack.spawn(compile_all).expect("a thread").join().expect("no panic");
        assert_eq!(compiled, 6, "`!`, `-`, `1+`, `&&`, `||`, and `?:` at each bracket");
    }

    proptest! {
        #[test]
        fn no_text_panics(source in "\\PC{0,60}") {
            // The outcome is free; the property is that there is one.
            let _ = Filter::compile(&source);
        }

        #[test]
        fn no_text_of_the_language_panics(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "nodes", "seed", "8", "0", "9223372036854775807", "true", "(", ")", "[", "]", ",", "&&", "||",
                    "!", "-", "+", "*", "/", "%", "<", "==", "!=", "?", ":", "in", ".", "x.all(x,", "1u", "1e9",
                ]),
                0..25,
            )
        ) {
            if let Ok(filter) = Filter::compile(&words.join(" ")) {
                let _ = filter.matches(&AT);
            }
        }
    }
}
