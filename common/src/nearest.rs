//! The known word that an unknown one was probably meant to be.

/// The word of `known` nearest to `word`, if near enough to be offered: at most a third of its letters wrong.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong_max = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|&(wrong, _)| wrong <= wrong_max)
        .min_by_key(|&(wrong, _)| wrong)
        .map(|(_, candidate)| candidate)
}

/// All of `known`, the nearest to `word` first.
pub fn by_nearness<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_by_cached_key(|candidate| strsim::osa_distance(word, candidate));
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_comes_first_and_none_is_left_out() {
        assert_eq!(by_nearness("ski-slop", ["wide", "ski-slope", "ski"]), ["ski-slope", "ski", "wide"]);
    }

    #[test]
    fn a_slip_is_offered_its_word_and_a_stranger_none() {
        let known = ["nodes", "batch_size", "unrollings", "epochs", "seed"];
        assert_eq!(nearest("unrolings", known), Some("unrollings"));
        assert_eq!(nearest("batchsize", known), Some("batch_size"));
        assert_eq!(nearest("ndoes", known), Some("nodes"));
        assert_eq!(nearest("seeds", known), Some("seed"));
        assert_eq!(nearest("momentum", known), None);
        assert_eq!(nearest("", known), None);
    }
}
