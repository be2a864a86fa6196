//! The tree that is evaluated: an integer expression is an [`Int`], a condition a [`Bool`], and no other tree
//! can be built.

use cel::common::ast::operators;

use super::{At, EvalError, Name};

/// An expression whose value is an integer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Int {
    Literal(i64),
    Name(Name),
    Negate(Box<Int>),
    Compute(Arithmetic, Box<Int>, Box<Int>),
    Choose(Box<Bool>, Box<Int>, Box<Int>),
}

/// An expression whose value is true or false.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Bool {
    Literal(bool),
    Not(Box<Bool>),
    And(Box<Bool>, Box<Bool>),
    Or(Box<Bool>, Box<Bool>),
    Compare(Comparison, Int, Int),
    Same(Box<Bool>, Box<Bool>),
    In(Int, Vec<Int>),
    Choose(Box<Bool>, Box<Bool>, Box<Bool>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

impl Int {
    pub(super) fn evaluate(&self, at: &At) -> Result<i64, EvalError> {
        match self {
            Self::Literal(value) => Ok(*value),
            Self::Name(name) => at.value(*name),
            Self::Negate(operand) => {
                let right = operand.evaluate(at)?;
                right.checked_neg().ok_or(EvalError::Overflow { operator: "-", left: 0, right })
            }
            Self::Compute(arithmetic, left, right) => {
                arithmetic.compute(left.evaluate(at)?, right.evaluate(at)?)
            }
            Self::Choose(condition, yes, no) => if condition.evaluate(at)? { yes } else { no }.evaluate(at),
        }
    }
}

impl Bool {
    pub(super) fn evaluate(&self, at: &At) -> Result<bool, EvalError> {
        match self {
            Self::Literal(value) => Ok(*value),
            Self::Not(operand) => Ok(!operand.evaluate(at)?),
            Self::And(left, right) => Ok(left.evaluate(at)? && right.evaluate(at)?),
            Self::Or(left, right) => Ok(left.evaluate(at)? || right.evaluate(at)?),
            Self::Compare(comparison, left, right) => {
                Ok(comparison.holds(left.evaluate(at)?, right.evaluate(at)?))
            }
            Self::Same(left, right) => Ok(left.evaluate(at)? == right.evaluate(at)?),
            Self::In(item, list) => {
                let item = item.evaluate(at)?;
                for element in list {
                    if element.evaluate(at)? == item {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Choose(condition, yes, no) => if condition.evaluate(at)? { yes } else { no }.evaluate(at),
        }
    }
}

impl Arithmetic {
    pub(super) fn of_operator(name: &str) -> Option<Self> {
        match name {
            operators::ADD => Some(Self::Add),
            operators::SUBSTRACT => Some(Self::Subtract),
            operators::MULTIPLY => Some(Self::Multiply),
            operators::DIVIDE => Some(Self::Divide),
            operators::MODULO => Some(Self::Remainder),
            _ => None,
        }
    }

    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    /// As CEL has it: division truncates towards zero, a remainder has the sign of its dividend.
    fn compute(self, left: i64, right: i64) -> Result<i64, EvalError> {
        let operator = self.symbol();
        let result = match self {
            Self::Divide | Self::Remainder if right == 0 => {
                return Err(EvalError::DivisionByZero { operator, dividend: left });
            }
            Self::Add => left.checked_add(right),
            Self::Subtract => left.checked_sub(right),
            Self::Multiply => left.checked_mul(right),
            Self::Divide => left.checked_div(right),
            Self::Remainder => left.checked_rem(right),
        };
        result.ok_or(EvalError::Overflow { operator, left, right })
    }
}

impl Comparison {
    pub(super) fn of_operator(name: &str) -> Option<Self> {
        match name {
            operators::LESS => Some(Self::Less),
            operators::LESS_EQUALS => Some(Self::LessOrEqual),
            operators::EQUALS => Some(Self::Equal),
            operators::NOT_EQUALS => Some(Self::NotEqual),
            operators::GREATER_EQUALS => Some(Self::GreaterOrEqual),
            operators::GREATER => Some(Self::Greater),
            _ => None,
        }
    }

    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">",
        }
    }

    const fn holds(self, left: i64, right: i64) -> bool {
        match self {
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::GreaterOrEqual => left >= right,
            Self::Greater => left > right,
        }
    }
}
