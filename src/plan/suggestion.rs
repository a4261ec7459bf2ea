//! "Did you mean": the nearest of some known words to a word that is not known.

/// The candidate that `word` most likely stands for, if any is near: the same but for case, `-`
/// and `_`, or few typing errors away.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = bare(word);
    if word.len() > 100 {
        return None;
    }
    let allowed = (word.len() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &bare(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

fn bare(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// How many insertions, deletions, replacements and swaps of neighbours make `a` into `b`.
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut table = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = table[(i - 1) * width + j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = replaced.min(table[(i - 1) * width + j] + 1).min(table[i * width + j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best.min(table[(i - 2) * width + j - 2] + 1)
                } else {
                    best
                }
            };
        }
    }
    table[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["podCidrs", "serviceCidrs", "dnsDomain", "cni"];
        assert_eq!(nearest("podCIDRs", known), Some("podCidrs"));
        assert_eq!(nearest("pod_cidr", known), Some("podCidrs"));
        assert_eq!(nearest("sevriceCidrs", known), Some("serviceCidrs"));
        assert_eq!(nearest("cin", known), Some("cni"));
        assert_eq!(nearest("proxyMode", known), None);
        assert_eq!(nearest("", known), None);
    }
}
