//! From what the parser read, which may be anything of CEL, to the typed tree; the rest is refused by name.

use std::collections::BTreeSet;

use cel::common::ast::{CallExpr, Expr, LiteralValue, SourceInfo, operators};
use cel::parser::Expression;

use super::tree::{Arithmetic, Bool, Comparison, Int};
use super::{FilterError, Name, Reason, Type};
use crate::nearest::nearest;

/// From the parser's tree, which may hold anything of CEL, to ours.
pub(super) struct Lowering<'a> {
    known: &'a [Name],
    places: &'a SourceInfo,
    names: BTreeSet<Name>,
}

/// What a part of an expression turned out to be.
pub(super) enum Lowered {
    Int(Int),
    Bool(Bool),
}

impl<'a> Lowering<'a> {
    /// `places` tells where in the source a part of it stands.
    pub(super) const fn new(known: &'a [Name], places: &'a SourceInfo) -> Self {
        Self { known, places, names: BTreeSet::new() }
    }

    /// The names that were met.
    pub(super) fn into_names(self) -> BTreeSet<Name> {
        self.names
    }

    pub(super) fn lower(&mut self, expression: &Expression) -> Result<Lowered, FilterError> {
        let unsupported = |what: &str| Err(self.refuse(expression, Reason::Unsupported(what.to_owned())));
        match &expression.expr {
            Expr::Ident(name) => self.name(expression, name),
            Expr::Call(call) => self.call(expression, call),
            Expr::Literal(LiteralValue::Int(value)) => Ok(Lowered::Int(Int::Literal(*value.inner()))),
            Expr::Literal(LiteralValue::Boolean(value)) => Ok(Lowered::Bool(Bool::Literal(*value.inner()))),
            Expr::Literal(LiteralValue::Double(_)) => unsupported("a number with a fraction"),
            Expr::Literal(LiteralValue::UInt(_)) => unsupported("a number with a `u`"),
            Expr::Literal(LiteralValue::Null) => unsupported("`null`"),
            Expr::Literal(LiteralValue::String(_) | LiteralValue::Bytes(_)) => unsupported("a text"),
            Expr::List(_) => unsupported("a list that is not to the right of `in`"),
            Expr::Map(_) | Expr::Struct(_) => unsupported("a map"),
            Expr::Select(_) => unsupported("a field"),
            Expr::Comprehension(_) => unsupported("a comprehension"),
            Expr::Unspecified => unsupported("nothing"),
        }
    }

    fn name(&mut self, expression: &Expression, written: &str) -> Result<Lowered, FilterError> {
        if let Some(&name) = self.known.iter().find(|name| name.word() == written) {
            self.names.insert(name);
            return Ok(Lowered::Int(Int::Name(name)));
        }
        let near = nearest(written, self.known.iter().map(|name| name.word()));
        Err(self.refuse(
            expression,
            Reason::UnknownName {
                name: written.to_owned(),
                nearest: self.known.iter().copied().find(|name| Some(name.word()) == near),
                known: self.known.to_vec(),
            },
        ))
    }

    fn call(&mut self, expression: &Expression, call: &CallExpr) -> Result<Lowered, FilterError> {
        if call.target.is_none() {
            match (call.func_name.as_str(), call.args.as_slice()) {
                (operators::LOGICAL_NOT, [operand]) => {
                    return Ok(Lowered::Bool(Bool::Not(Box::new(self.bool("!", operand)?))));
                }
                (operators::LOGICAL_AND, [left, right]) => {
                    let (left, right) = (self.bool("&&", left)?, self.bool("&&", right)?);
                    return Ok(Lowered::Bool(Bool::And(Box::new(left), Box::new(right))));
                }
                (operators::LOGICAL_OR, [left, right]) => {
                    let (left, right) = (self.bool("||", left)?, self.bool("||", right)?);
                    return Ok(Lowered::Bool(Bool::Or(Box::new(left), Box::new(right))));
                }
                (operators::NEGATE, [operand]) => {
                    return Ok(Lowered::Int(Int::Negate(Box::new(self.int("-", operand)?))));
                }
                (operators::CONDITIONAL, [condition, yes, no]) => return self.choice(condition, yes, no),
                (operators::IN, [item, list]) => return self.membership(item, list),
                (name, [left, right]) => {
                    if let Some(arithmetic) = Arithmetic::of_operator(name) {
                        let symbol = arithmetic.symbol();
                        let (left, right) = (self.int(symbol, left)?, self.int(symbol, right)?);
                        return Ok(Lowered::Int(Int::Compute(arithmetic, Box::new(left), Box::new(right))));
                    }
                    if let Some(comparison) = Comparison::of_operator(name) {
                        return self.comparison(comparison, left, right);
                    }
                }
                _ => (),
            }
        }
        let what = match call.func_name.as_str() {
            operators::INDEX => "an index".to_owned(),
            function => format!("function `{function}`"),
        };
        Err(self.refuse(expression, Reason::Unsupported(what)))
    }

    fn comparison(
        &mut self,
        comparison: Comparison,
        left: &Expression,
        right: &Expression,
    ) -> Result<Lowered, FilterError> {
        let symbol = comparison.symbol();
        let lowered = match (self.lower(left)?, comparison) {
            (Lowered::Int(left), _) => Bool::Compare(comparison, left, self.int(symbol, right)?),
            (Lowered::Bool(left), Comparison::Equal) => {
                Bool::Same(Box::new(left), Box::new(self.bool(symbol, right)?))
            }
            (Lowered::Bool(left), Comparison::NotEqual) => {
                Bool::Not(Box::new(Bool::Same(Box::new(left), Box::new(self.bool(symbol, right)?))))
            }
            (Lowered::Bool(_), _) => return Err(self.operand(symbol, Type::Int, left)),
        };
        Ok(Lowered::Bool(lowered))
    }

    fn choice(
        &mut self,
        condition: &Expression,
        yes: &Expression,
        no: &Expression,
    ) -> Result<Lowered, FilterError> {
        let condition = Box::new(self.bool("?:", condition)?);
        Ok(match self.lower(yes)? {
            Lowered::Int(yes) => {
                Lowered::Int(Int::Choose(condition, Box::new(yes), Box::new(self.int("?:", no)?)))
            }
            Lowered::Bool(yes) => {
                Lowered::Bool(Bool::Choose(condition, Box::new(yes), Box::new(self.bool("?:", no)?)))
            }
        })
    }

    fn membership(&mut self, item: &Expression, list: &Expression) -> Result<Lowered, FilterError> {
        let Expr::List(elements) = &list.expr else {
            return Err(self.refuse(list, Reason::Unsupported("`in` without a list".to_owned())));
        };
        let item = self.int("in", item)?;
        let elements =
            elements.elements.iter().map(|element| self.int("in", element)).collect::<Result<_, _>>()?;
        Ok(Lowered::Bool(Bool::In(item, elements)))
    }

    fn int(&mut self, operator: &'static str, operand: &Expression) -> Result<Int, FilterError> {
        match self.lower(operand)? {
            Lowered::Int(int) => Ok(int),
            Lowered::Bool(_) => Err(self.operand(operator, Type::Int, operand)),
        }
    }

    fn bool(&mut self, operator: &'static str, operand: &Expression) -> Result<Bool, FilterError> {
        match self.lower(operand)? {
            Lowered::Bool(bool) => Ok(bool),
            Lowered::Int(_) => Err(self.operand(operator, Type::Bool, operand)),
        }
    }

    fn operand(&self, operator: &'static str, wanted: Type, operand: &Expression) -> FilterError {
        let found = match wanted {
            Type::Int => Type::Bool,
            Type::Bool => Type::Int,
        };
        self.refuse(operand, Reason::Operand { operator, wanted, found })
    }

    fn refuse(&self, expression: &Expression, reason: Reason) -> FilterError {
        let offset = self.places.offset_for(expression.id).map_or(0, |(start, _)| start as usize);
        FilterError { reason, offset }
    }
}
