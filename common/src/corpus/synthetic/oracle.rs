//! The source as its best reader: the exact probability of each next character, and the score that this earns.

use super::{KINDS, KindWeights, Letters, Stack, Synthetic, TOPICS, of_sixteenths, rank_weight};
use crate::corpus::alphabet::SPACE;

impl Synthetic {
    /// What a predictor that knows this source scores on `valid`, the leading part of its text, by the rules of
    /// SEMANTICS.md (Validation perplexity); `None` if this source cannot have made it, or it is empty.
    ///
    /// The last prediction wraps to the first character, which tells nothing of the source. The oracle knows that
    /// rule too and is charged nothing for it, so that its score is a floor.
    pub fn oracle_perplexity(&self, valid: &[u8]) -> Option<f64> {
        let mut filter = Filter::new(self);
        let (&first, rest) = valid.split_first()?;
        // Fed, not predicted.
        if filter.admit(first) == 0.0 {
            return None;
        }
        let mut log_sum = 0.0;
        for &symbol in rest {
            let probability = filter.admit(symbol);
            if probability == 0.0 {
                return None;
            }
            log_sum += libm::log(probability.max(1e-10));
        }
        Some(libm::exp(-log_sum / valid.len() as f64))
    }

    /// Every word that may come next, with its probability.
    pub(super) fn next_words<'a>(&'a self, stack: Stack) -> Vec<Candidate<'a>> {
        let KindWeights { open, close, common, topic } = KINDS[stack.depth()];
        let mut words = Vec::new();
        if open > 0 {
            for (topic, letters) in self.openers.iter().enumerate() {
                let mut after = stack;
                after.push(topic);
                words.push(Candidate { letters, after, probability: of_sixteenths(open) / TOPICS as f64 });
            }
        }
        let mut ranked = |share: u64, like: &'a [Letters]| {
            let total = (0..like.len()).map(rank_weight).sum::<u64>() as f64;
            for (rank, letters) in like.iter().enumerate() {
                let probability = of_sixteenths(share) * rank_weight(rank) as f64 / total;
                words.push(Candidate { letters, after: stack, probability });
            }
        };
        ranked(common, &self.common);
        if let Some(top) = stack.top() {
            ranked(topic, &self.topics[top]);
            let mut after = stack;
            after.pop();
            words.push(Candidate { letters: &self.closers[top], after, probability: of_sixteenths(close) });
        }
        words
    }
}

/// A word that may be the one being read, the stack once it has been, and its probability when it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) letters: &'a [u8],
    pub(super) after: Stack,
    pub(super) probability: f64,
}

impl Candidate<'_> {
    /// The character at `position` of the word and its space.
    fn at(&self, position: usize) -> u8 {
        self.letters.get(position).copied().unwrap_or(SPACE)
    }
}

/// What a reader who knows the source knows after some characters: the stack at the start of the present word
/// exactly, since words differ and end in spaces, and of that word the candidates that its letters so far leave.
struct Filter<'a> {
    source: &'a Synthetic,
    candidates: Vec<Candidate<'a>>,
    /// Characters of the present word read so far.
    position: usize,
}

impl<'a> Filter<'a> {
    /// Before the first character of the text.
    fn new(source: &'a Synthetic) -> Self {
        Self { source, candidates: source.next_words(Stack::default()), position: 0 }
    }

    /// The probability that the next character is `symbol`.
    fn predict(&self, symbol: u8) -> f64 {
        let (mut all, mut admitted) = (0.0, 0.0);
        for candidate in &self.candidates {
            all += candidate.probability;
            if candidate.at(self.position) == symbol {
                admitted += candidate.probability;
            }
        }
        if admitted > 0.0 { admitted / all } else { 0.0 }
    }

    /// The probability of `symbol` as the next character, which it now is. After an impossible one (0.0) all are.
    fn admit(&mut self, symbol: u8) -> f64 {
        let probability = self.predict(symbol);
        self.candidates.retain(|candidate| candidate.at(self.position) == symbol);
        self.position += 1;
        if symbol == SPACE
            && let Some(word) = self.candidates.first()
        {
            self.candidates = self.source.next_words(word.after);
            self.position = 0;
        }
        probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Text;
    use crate::corpus::synthetic::{CHARS, SEED};

    /// ln P(character | all before it), character by character.
    fn log_probabilities<'a>(source: &'a Synthetic, text: &'a Text) -> impl Iterator<Item = f64> + 'a {
        let mut filter = Filter::new(source);
        text.symbols().iter().map(move |&symbol| libm::log(filter.admit(symbol)))
    }

    /// The tolerance is five standard errors of the mean, estimated from the text's own hundred blocks of 10,000
    /// characters; a topic lasts some twenty, so blocks are as good as independent.
    #[test]
    fn the_log_probability_of_a_million_characters_meets_the_exact_rate() {
        for seed in [SEED, 2, 3] {
            let source = Synthetic::new(seed);
            let surprise: Vec<f64> = log_probabilities(&source, &source.generate(CHARS))
                .map(|log_probability| -log_probability)
                .collect();
            let blocks: Vec<f64> =
                surprise.chunks(10_000).map(|block| block.iter().sum::<f64>() / block.len() as f64).collect();
            let count = blocks.len() as f64;
            let mean = blocks.iter().sum::<f64>() / count;
            let variance = blocks.iter().map(|block| (block - mean).powi(2)).sum::<f64>() / (count - 1.0);
            let standard_error = (variance / count).sqrt();
            let exact = source.entropy_rate();
            assert!(standard_error < 0.002, "the test would be blunt: {standard_error}");
            assert!((mean - exact).abs() < 5.0 * standard_error, "{mean} for {exact}, +- {standard_error}");
        }
    }

    #[test]
    fn the_filter_shares_out_one_whole_at_every_character() {
        let source = Synthetic::new(5);
        let mut filter = Filter::new(&source);
        for &symbol in source.generate(5000).symbols().iter() {
            let total: f64 = (0..27).map(|symbol| filter.predict(symbol)).sum();
            assert!((total - 1.0).abs() < 1e-12, "{total}");
            assert!(filter.admit(symbol) > 0.0);
        }
    }

    #[test]
    fn the_oracle_is_charged_for_every_character_after_the_first_and_not_for_the_wrap() {
        let source = Synthetic::new(SEED);
        let text = source.generate(1000);
        let predicted: f64 = log_probabilities(&source, &text).skip(1).sum();
        let score = source.oracle_perplexity(text.symbols()).expect("the source made it");
        assert!((libm::log(score) + predicted / 1000.0).abs() < 1e-12, "{score}");
        assert_eq!(source.oracle_perplexity(&text.symbols()[..1]), Some(1.0));
    }

    #[test]
    fn the_oracle_does_not_score_what_its_source_cannot_have_made() {
        let source = Synthetic::new(SEED);
        let text = source.generate(1000);
        assert_eq!(source.oracle_perplexity(&[]), None);
        assert_eq!(source.oracle_perplexity(&[SPACE]), None, "a text begins with a word");
        assert_eq!(source.oracle_perplexity(&[255]), None);
        assert_eq!(Synthetic::new(2).oracle_perplexity(text.symbols()), None);
    }
}
