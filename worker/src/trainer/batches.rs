//! Which characters a step reads: B cursors into the training text, each going round it (SEMANTICS.md, Batches).

use slalom_common::id::Step;
use slalom_common::run::Shape;

use crate::lstm::OutOfMemory;

/// The cursors, the column read last, and the batch at hand.
pub(super) struct Batches {
    /// `[B]`: where each row reads next.
    cursors: Vec<u64>,
    /// `[B]`: each row's first input.
    last_column: Vec<u8>,
    /// `[T B]`.
    inputs: Vec<u8>,
    /// `[T B]`.
    labels: Vec<u8>,
    text_len: u64,
    unrollings: u64,
}

/// What a step trains on, `[T B]` symbols each.
pub(super) struct Batch<'a> {
    pub(super) inputs: &'a [u8],
    pub(super) labels: &'a [u8],
}

impl Batches {
    /// Room for batches of this shape from a text of `text_len` characters, at least one for each row.
    pub(super) fn new(text_len: u64, shape: &Shape) -> Result<Self, OutOfMemory> {
        let b = shape.batch_size as usize;
        let rows = b * shape.unrollings as usize;
        Ok(Self {
            cursors: filled(b, 0)?,
            last_column: filled(b, 0)?,
            inputs: filled(rows, 0)?,
            labels: filled(rows, 0)?,
            text_len,
            unrollings: shape.unrollings.into(),
        })
    }

    /// Goes to where `step` begins: row b has read one character at `b * segment`, and T more for each step.
    pub(super) fn rewind(&mut self, text: &[u8], step: Step) {
        let segment = self.text_len / self.cursors.len() as u64;
        // Below 2^40 steps of at most 2^16 characters, and a text below 2^63.
        let read = step.number() * self.unrollings % self.text_len;
        for (b, (cursor, last)) in self.cursors.iter_mut().zip(&mut self.last_column).enumerate() {
            let last_read = (b as u64 * segment + read) % self.text_len;
            *last = text[last_read as usize];
            *cursor = (last_read + 1) % self.text_len;
        }
    }

    /// The batch at the cursors, which stay: a step that diverges has read nothing.
    pub(super) fn read(&mut self, text: &[u8]) -> Batch<'_> {
        let b = self.cursors.len();
        for (row, &cursor) in self.cursors.iter().enumerate() {
            let mut at = cursor as usize;
            for label in self.labels[row..].iter_mut().step_by(b) {
                *label = text[at];
                at = if at + 1 == text.len() { 0 } else { at + 1 };
            }
        }
        let (first, rest) = self.inputs.split_at_mut(b);
        first.copy_from_slice(&self.last_column);
        rest.copy_from_slice(&self.labels[..rest.len()]);
        Batch { inputs: &self.inputs, labels: &self.labels }
    }

    /// Goes on past the batch that was read.
    pub(super) fn advance(&mut self) {
        let read = self.unrollings % self.text_len;
        for cursor in &mut self.cursors {
            *cursor = (*cursor + read) % self.text_len;
        }
        let last = self.labels.len() - self.last_column.len();
        self.last_column.copy_from_slice(&self.labels[last..]);
    }

    /// `[B]`.
    pub(super) fn cursors(&self) -> &[u64] {
        &self.cursors
    }

    /// `[B]`.
    pub(super) fn last_column(&self) -> &[u8] {
        &self.last_column
    }
}

fn filled<T: Clone>(len: usize, value: T) -> Result<Vec<T>, OutOfMemory> {
    let mut values = Vec::new();
    values.try_reserve_exact(len)?;
    values.resize(len, value);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule of SEMANTICS.md read literally: one character at a time.
    struct Literal {
        cursors: Vec<usize>,
        last: Vec<u8>,
    }

    impl Literal {
        fn new(text: &[u8], b: usize) -> Self {
            let cursors = (0..b).map(|row| row * (text.len() / b)).collect();
            let mut new = Self { cursors, last: Vec::new() };
            new.last = new.column(text);
            new
        }

        fn column(&mut self, text: &[u8]) -> Vec<u8> {
            let read = self.cursors.iter().map(|&cursor| text[cursor]).collect();
            for cursor in &mut self.cursors {
                *cursor = (*cursor + 1) % text.len();
            }
            read
        }

        fn step(&mut self, text: &[u8], t: usize) -> (Vec<u8>, Vec<u8>) {
            let mut columns = vec![self.last.clone()];
            columns.extend((0..t).map(|_| self.column(text)));
            self.last.clone_from(&columns[t]);
            (columns[..t].concat(), columns[1..].concat())
        }
    }

    #[test]
    fn batches_are_those_of_the_rule_and_can_be_entered_at_any_step() {
        let text: Vec<u8> = (0..23_u8).collect();
        for (batch_size, unrollings) in [(1, 1), (3, 5), (4, 50), (23, 2)] {
            let shape = Shape { nodes: 1, batch_size, unrollings };
            let mut literal = Literal::new(&text, batch_size as usize);
            let mut batches = Batches::new(23, &shape).expect("it fits");
            batches.rewind(&text, Step::new(0));
            for step in 0..40 {
                let mut entered = Batches::new(23, &shape).expect("it fits");
                entered.rewind(&text, Step::new(step));
                assert_eq!(entered.cursors(), batches.cursors(), "{shape:?}, step {step}");
                assert_eq!(entered.last_column(), batches.last_column(), "{shape:?}, step {step}");
                let (inputs, labels) = literal.step(&text, unrollings as usize);
                let batch = batches.read(&text);
                assert_eq!((batch.inputs, batch.labels), (&*inputs, &*labels), "{shape:?}, step {step}");
                batches.advance();
            }
        }
    }
}
