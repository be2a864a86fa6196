//! Every figure on `docs/synthetic.md`, computed anew and looked for on the page.

use std::collections::BTreeMap;
use std::path::Path;

use slalom_common::corpus::Text;
use slalom_common::corpus::synthetic::{CHARS, SEED, Synthetic};

/// The longest context of the table: longer ones are too rare in this much text to count. 5 bits a character fit a `u64`.
const ORDER_MAX: usize = 8;
/// The table's predictors count over this leading part of the text and are scored on the rest.
const COUNTED: usize = 900_000;

#[test]
fn the_page_on_the_synthetic_source_states_the_figures_that_the_code_gives() {
    let source = Synthetic::new(SEED);
    let text = source.generate(CHARS);
    let rate = source.entropy_rate();
    let oracle = source.oracle_perplexity(&text.symbols()[..1000]).expect("the source made it");
    let ascii = text.to_ascii();
    let opening = str::from_utf8(&ascii[..90]).expect("ASCII");
    let mut figures = vec![
        format!("`{}`", text.sha256()),
        format!("    {opening}"),
        format!("**{rate:.4}** nats per character"),
        format!("**{:.4}** in perplexity", libm::exp(rate)),
        format!("{:.4} characters", source.word_chars()),
        format!("**{oracle:.4}** on the first 1,000 characters"),
    ];
    for (order, perplexity) in perplexity_by_order(&text).into_iter().enumerate() {
        figures.push(format!("| {order} | {perplexity:.2} |"));
    }

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/synthetic.md");
    let page = std::fs::read_to_string(&path).expect("the page is part of the project");
    let missing: Vec<&String> = figures.iter().filter(|figure| !page.contains(figure.as_str())).collect();
    assert!(missing.is_empty(), "docs/synthetic.md lacks\n{missing:#?}\nof\n{figures:#?}");
}

/// The perplexity of a predictor that sees the last `k` characters, for k = 0 to `ORDER_MAX`, by interpolation
/// after Witten and Bell: `p_k = (n(c, x) + d(c) p_{k-1}(x)) / (n(c) + d(c))`, where the context c was seen n(c)
/// times with d(c) different successors; `p_{-1} = 1/27`.
fn perplexity_by_order(text: &Text) -> Vec<f64> {
    let symbols = text.symbols();
    let mut probabilities = vec![1.0 / 27.0; symbols.len() - COUNTED];
    let mut perplexities = Vec::new();
    for order in 0..=ORDER_MAX {
        let mut successors: BTreeMap<u64, [u32; 27]> = BTreeMap::new();
        for at in order..COUNTED {
            let context = key(&symbols[at - order..at]);
            successors.entry(context).or_insert([0; 27])[usize::from(symbols[at])] += 1;
        }
        let mut log_sum = 0.0;
        for (offset, probability) in probabilities.iter_mut().enumerate() {
            let at = COUNTED + offset;
            if let Some(counts) = successors.get(&key(&symbols[at - order..at])) {
                let seen = f64::from(counts.iter().sum::<u32>());
                let different = counts.iter().filter(|&&count| count > 0).count() as f64;
                let count = f64::from(counts[usize::from(symbols[at])]);
                *probability = (count + different * *probability) / (seen + different);
            }
            log_sum += libm::log(*probability);
        }
        perplexities.push(libm::exp(-log_sum / probabilities.len() as f64));
    }
    perplexities
}

fn key(context: &[u8]) -> u64 {
    context.iter().fold(0, |key, &symbol| key << 5 | u64::from(symbol))
}
