//! A source of text made from a seed, of which everything is known: its exact entropy rate, and what a reader who
//! knows it scores on a given text. `docs/synthetic.md` states it apart from this code, figures included.
//!
//! It is a walk over words. Six topics each have an opener and a closer; the openers not yet answered form a stack,
//! at most three deep, and a closer answers the top one. What kind of word comes next depends on the depth, and
//! which words a topic offers depends on the top. So letters tell of the syllable, syllables of the word, words of
//! the topic, and what lies below the top can only be remembered: each longer context pays, and none pays all.

use std::array;

use crate::corpus::Text;
use crate::corpus::alphabet::{self, SPACE};

mod oracle;

/// The seed of the default corpus.
pub const SEED: u64 = 1;

/// The characters of the default corpus.
pub const CHARS: u64 = 1_000_000;

const TOPICS: usize = 6;
const COMMON_WORDS: usize = 16;
const TOPIC_WORDS: usize = 20;
/// A topic's words of this rank and above have three syllables, those below two: frequent words are short.
const LONG_FROM_RANK: usize = 16;
/// One for each common word, one for each stem, and the marks of openers and closers.
const SYLLABLES: usize = COMMON_WORDS + TOPICS + 2;
const CONSONANTS: usize = 14;
const VOWELS: usize = 5;
const DEPTH_MAX: usize = 3;

/// What the kinds of word weigh at each depth of the stack, in sixteenths. None opens at the deepest, none closes
/// at the shallowest, where no topic is open either. The rest is taste: a topic lasts about five words, so that a
/// context of some twenty letters sees it whole, and coming back to the one below is common.
const KINDS: [KindWeights; DEPTH_MAX + 1] = [
    KindWeights { open: 6, close: 0, common: 10, topic: 0 },
    KindWeights { open: 3, close: 3, common: 3, topic: 7 },
    KindWeights { open: 2, close: 4, common: 3, topic: 7 },
    KindWeights { open: 0, close: 5, common: 3, topic: 8 },
];
const SIXTEENTHS: u64 = 16;

struct KindWeights {
    open: u64,
    close: u64,
    common: u64,
    topic: u64,
}

/// The weight of the word of `rank` among its like: Zipf's law, shifted as by Mandelbrot so that the first do not
/// drown the rest.
const fn rank_weight(rank: usize) -> u64 {
    840 / (rank as u64 + 4)
}

/// Letters, as ids; the space that ends a word is not among them.
type Letters = Vec<u8>;

/// The source of one seed.
#[derive(Clone, Debug)]
pub struct Synthetic {
    openers: [Letters; TOPICS],
    closers: [Letters; TOPICS],
    common: [Letters; COMMON_WORDS],
    topics: [[Letters; TOPIC_WORDS]; TOPICS],
    /// Where the lexicon left off: every text of this source begins here.
    draws: SplitMix64,
}

impl Synthetic {
    /// The source of `seed`: its lexicon is drawn, its text is not yet.
    pub fn new(seed: u64) -> Self {
        let mut draws = SplitMix64(seed);
        let mut letters = |all: &[u8]| {
            let mut ids = alphabet::symbols(all).expect("letters have ids");
            draws.shuffle(&mut ids);
            ids
        };
        let (consonants, vowels) = (letters(b"bcdfghjklmnpqrstvwxz"), letters(b"aeiouy"));
        let mut syllables: Vec<[u8; 2]> = consonants[..CONSONANTS]
            .iter()
            .flat_map(|&consonant| vowels[..VOWELS].iter().map(move |&vowel| [consonant, vowel]))
            .collect();
        draws.shuffle(&mut syllables);
        syllables.truncate(SYLLABLES);

        let (common, rest) = syllables.split_at(COMMON_WORDS);
        let (marks, stems) = rest.split_at(2);
        let marked = |mark: usize| array::from_fn(|topic| [marks[mark], stems[topic]].concat());
        let openers: [Letters; TOPICS] = marked(0);
        let closers: [Letters; TOPICS] = marked(1);
        let common: [Letters; COMMON_WORDS] = array::from_fn(|rank| common[rank].to_vec());

        // Words must differ, or a word would not tell what it does to the stack.
        let mut taken: Vec<Letters> = [openers.as_slice(), &closers, &common].concat();
        let topics = array::from_fn(|_| {
            array::from_fn(|rank| {
                loop {
                    let count = if rank < LONG_FROM_RANK { 2 } else { 3 };
                    let word: Letters = (0..count).flat_map(|_| syllables[draws.index(SYLLABLES)]).collect();
                    if !taken.contains(&word) {
                        taken.push(word.clone());
                        break word;
                    }
                }
            })
        });
        Self { openers, closers, common, topics, draws }
    }

    /// The first `chars` characters of this source's text. A longer text begins with the shorter one.
    pub fn generate(&self, chars: u64) -> Text {
        let mut symbols = Vec::with_capacity(chars as usize);
        let mut draws = self.draws.clone();
        let mut stack = Stack::default();
        while (symbols.len() as u64) < chars {
            symbols.extend_from_slice(self.step(&mut stack, &mut draws));
            symbols.push(SPACE);
        }
        symbols.truncate(chars as usize);
        Text::from_symbols(symbols)
    }

    /// The exact entropy rate, in nats per character: entropy per word over mean length, its space included.
    ///
    /// A word tells what it does to the stack, and the stack is empty at the start, so knowing all words so far is
    /// knowing the stack, and nothing else of the past matters: the entropy per word is the stationary mean of
    /// H(word | stack). Of the stack only the depth and the top matter, and the depth is a chain by itself: it rises
    /// and falls by one, so its stationary distribution follows from detailed balance. The topics on the stack were
    /// drawn uniformly, whatever else happened, so the top is uniform at each depth.
    pub fn entropy_rate(&self) -> f64 {
        let per_word: f64 = depth_probabilities().zip(&KINDS).fold(0.0, |sum, (probability, kinds)| {
            let KindWeights { open, close, common, topic } = *kinds;
            let parts = [
                entropy([open, close, common, topic]),
                of_sixteenths(open) * libm::log(TOPICS as f64),
                of_sixteenths(common) * entropy((0..COMMON_WORDS).map(rank_weight)),
                of_sixteenths(topic) * entropy((0..TOPIC_WORDS).map(rank_weight)),
            ];
            sum + probability * parts.iter().fold(0.0, |sum, part| sum + part)
        });
        per_word / self.word_chars()
    }

    /// The mean length of a word in characters, its space included, at the stationary distribution.
    pub fn word_chars(&self) -> f64 {
        let opener = mean_chars(&self.openers, |_| 1);
        let closer = mean_chars(&self.closers, |_| 1);
        let common = mean_chars(&self.common, rank_weight);
        let topic =
            self.topics.iter().fold(0.0, |sum, words| sum + mean_chars(words, rank_weight)) / TOPICS as f64;
        depth_probabilities().zip(&KINDS).fold(1.0, |sum, (probability, kinds)| {
            let letters = of_sixteenths(kinds.open) * opener
                + of_sixteenths(kinds.close) * closer
                + of_sixteenths(kinds.common) * common
                + of_sixteenths(kinds.topic) * topic;
            sum + probability * letters
        })
    }

    /// Draws one word and does to the stack what it says.
    fn step(&self, stack: &mut Stack, draws: &mut SplitMix64) -> &[u8] {
        let KindWeights { open, close, common, topic } = KINDS[stack.depth()];
        match (draws.weighted([open, close, common, topic]), stack.top()) {
            (0, _) => {
                let topic = draws.index(TOPICS);
                stack.push(topic);
                &self.openers[topic]
            }
            (1, Some(top)) => {
                stack.pop();
                &self.closers[top]
            }
            (3, Some(top)) => &self.topics[top][draws.weighted((0..TOPIC_WORDS).map(rank_weight))],
            (2, _) => &self.common[draws.weighted((0..COMMON_WORDS).map(rank_weight))],
            (kind, top) => unreachable!("kind {kind} weighs nothing where the top is {top:?}"),
        }
    }
}

/// The topics opened and not yet closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Stack {
    topics: [usize; DEPTH_MAX],
    depth: usize,
}

impl Stack {
    fn depth(self) -> usize {
        self.depth
    }

    fn top(self) -> Option<usize> {
        self.topics[..self.depth].last().copied()
    }

    fn push(&mut self, topic: usize) {
        self.topics[self.depth] = topic;
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth -= 1;
    }
}

/// The stationary probability of each depth of the stack: going up from `d` is as frequent as coming down to it.
fn depth_probabilities() -> impl Iterator<Item = f64> {
    let mut weights = [1.0; DEPTH_MAX + 1];
    for depth in 1..=DEPTH_MAX {
        weights[depth] = weights[depth - 1] * KINDS[depth - 1].open as f64 / KINDS[depth].close as f64;
    }
    let total = weights.iter().fold(0.0, |sum, weight| sum + weight);
    weights.into_iter().map(move |weight| weight / total)
}

fn of_sixteenths(weight: u64) -> f64 {
    weight as f64 / SIXTEENTHS as f64
}

/// The entropy, in nats, of a draw by these weights.
fn entropy(weights: impl IntoIterator<Item = u64>) -> f64 {
    let (mut total, mut weighted_logs) = (0.0, 0.0);
    for weight in weights.into_iter().filter(|&weight| weight > 0) {
        let weight = weight as f64;
        total += weight;
        weighted_logs += weight * libm::log(weight);
    }
    libm::log(total) - weighted_logs / total
}

/// The mean number of letters in a draw from `words` by the weight of their ranks.
fn mean_chars(words: &[Letters], weight: impl Fn(usize) -> u64) -> f64 {
    let (mut total, mut chars) = (0, 0);
    for (rank, letters) in words.iter().enumerate() {
        total += weight(rank);
        chars += weight(rank) * letters.len() as u64;
    }
    chars as f64 / total as f64
}

/// `SplitMix64` (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
///
/// Not the trainer's generator of `rng`: that one is addressed by counter because initial weights must not depend on
/// the order they are drawn in. Here a lexicon and a text are one sequence, and an outsider who wants the same text
/// should need no more than these three lines.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`: the high word of a product. No value is off its share by more than 2^-64.
    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// An index, each with the probability of its weight among all.
    fn weighted(&mut self, weights: impl IntoIterator<Item = u64, IntoIter: Clone>) -> usize {
        let weights = weights.into_iter();
        let mut rest = self.below(weights.clone().sum());
        for (index, weight) in weights.enumerate() {
            if rest < weight {
                return index;
            }
            rest -= weight;
        }
        unreachable!("the draw is below the sum of the weights")
    }

    /// Fisher and Yates, from the last place down.
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.index(last + 1);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Known answers of the published algorithm for seed 1234567.
    #[test]
    fn split_mix_64_is_the_published_one() {
        let mut draws = SplitMix64(1_234_567);
        let first: [u64; 3] = array::from_fn(|_| draws.next());
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn the_default_text_is_pinned() {
        let text = Synthetic::new(SEED).generate(CHARS);
        assert_eq!(text.chars(), CHARS);
        assert_eq!(
            text.sha256().to_string(),
            "41ba8a70a5ba9cd312ad5c3c5d611672260107cb31d25f1753cc75703f97aa7d",
            "another text under the same name: old results would be compared with new ones"
        );
    }

    #[test]
    fn a_longer_text_begins_with_the_shorter_and_other_seeds_give_other_texts() {
        let source = Synthetic::new(SEED);
        let (short, long) = (source.generate(997), source.generate(5000));
        assert_eq!(long.leading(997), Some(short));
        assert_ne!(long, Synthetic::new(2).generate(5000));
        assert_ne!(long, Synthetic::new(u64::MAX).generate(5000));
    }

    #[test]
    fn a_text_has_only_the_symbols_and_spaces_stand_alone() {
        let text = Synthetic::new(7).generate(100_000);
        assert!(text.symbols().iter().all(|&symbol| symbol <= 26));
        assert!(!text.symbols().windows(2).any(|pair| pair == [SPACE, SPACE]));
    }

    /// Reads the text by its words alone, without the walk that made it.
    #[test]
    fn every_closer_answers_the_last_opener_and_no_more_than_three_are_open() {
        for seed in [SEED, 2, 3] {
            let source = Synthetic::new(seed);
            let text = source.generate(200_000);
            let (mut open, mut deepest, mut answered) = (Vec::new(), 0, 0);
            let mut words: Vec<&[u8]> = text.symbols().split(|&symbol| symbol == SPACE).collect();
            words.pop().expect("the last word may be cut");
            for word in words {
                if let Some(topic) = source.openers.iter().position(|opener| opener == word) {
                    open.push(topic);
                    deepest = deepest.max(open.len());
                } else if let Some(topic) = source.closers.iter().position(|closer| closer == word) {
                    assert_eq!(open.pop(), Some(topic));
                    answered += 1;
                } else if let Some(topic) =
                    source.topics.iter().position(|words| words.iter().any(|letters| letters == word))
                {
                    assert_eq!(open.last(), Some(&topic), "a topic's words come only under it");
                } else {
                    assert!(source.common.iter().any(|letters| letters == word));
                }
            }
            assert_eq!(deepest, DEPTH_MAX);
            assert!(answered > 5000, "{answered}");
        }
    }

    /// The other way to the same number: all 259 stacks, their stationary distribution by iteration, and the mean
    /// of H(word | stack) and of the word's length. 1e-12 is the rounding of some 10^4 sums.
    #[test]
    fn the_closed_form_of_the_rate_is_that_of_the_whole_chain() {
        for seed in [SEED, 2, 3] {
            let source = Synthetic::new(seed);
            let key = |stack: Stack| stack.topics[..stack.depth()].to_vec();
            let mut stationary = BTreeMap::from([(key(Stack::default()), (Stack::default(), 1.0))]);
            for _ in 0..2000 {
                let mut next = BTreeMap::new();
                for &(stack, probability) in stationary.values() {
                    for word in source.next_words(stack) {
                        let (_, sum) = next.entry(key(word.after)).or_insert((word.after, 0.0));
                        *sum += probability * word.probability;
                    }
                }
                stationary = next;
            }
            assert_eq!(stationary.len(), 1 + 6 + 36 + 216);

            let (mut entropy, mut chars) = (0.0, 0.0);
            for &(stack, probability) in stationary.values() {
                for word in source.next_words(stack) {
                    let joint = probability * word.probability;
                    entropy -= joint * libm::log(word.probability);
                    chars += joint * (word.letters.len() + 1) as f64;
                }
            }
            assert!((source.word_chars() - chars).abs() < 1e-12 * chars);
            assert!((source.entropy_rate() - entropy / chars).abs() < 1e-12);
        }
    }
}
