//! The nearest right spelling of a wrong word.

/// Longest word that is compared, in characters: the comparison is quadratic.
const WORD_CHARS_MAX: usize = 64;

/// The candidate with the smallest edit distance, if it is near enough to be meant: at most a
/// third of the letters differ. Case is worth half an edit, so `httproute` finds `HTTPRoute`.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let letters: Vec<char> = word.chars().take(WORD_CHARS_MAX + 1).collect();
    if letters.is_empty() || letters.len() > WORD_CHARS_MAX {
        return None;
    }
    candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count() <= WORD_CHARS_MAX && *candidate != word)
        .map(|candidate| (distance(&letters, &candidate.chars().collect::<Vec<_>>()), candidate))
        .filter(|(distance, candidate)| near_enough(*distance, &letters, candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn near_enough(distance: usize, word: &[char], candidate: &str) -> bool {
    let length = word.len().max(candidate.chars().count());
    let lower = |text: &str| text.to_lowercase();
    lower(candidate) == lower(&word.iter().collect::<String>())
        || distance <= 2 * length.div_ceil(3)
}

/// Twice the number of edits (insert, delete, replace, swap of neighbours); a difference in case
/// only counts one.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).map(|i| 2 * i).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![2 * (i + 1); b.len() + 1];
        for (j, &y) in b.iter().enumerate() {
            let swap = i > 0 && j > 0 && x == b[j - 1] && y == a[i - 1] && x != y;
            row[j + 1] = (last[j] + replace_cost(x, y)).min(last[j + 1] + 2).min(row[j] + 2);
            if swap {
                row[j + 1] = row[j + 1].min(before[j - 1] + 2);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

fn replace_cost(x: char, y: char) -> usize {
    if x == y {
        0
    } else if x.eq_ignore_ascii_case(&y) {
        1
    } else {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_word_is_found_when_it_is_near_enough() {
        let fields = ["backendRefs", "filters", "matches", "name", "timeouts"];
        let cases = [
            // word           meant
            ("matchs", Some("matches")),
            ("macthes", Some("matches")),
            ("Matches", Some("matches")),
            ("backendRef", Some("backendRefs")),
            ("backend_refs", Some("backendRefs")),
            ("timeout", Some("timeouts")),
            ("nmae", Some("name")),
            ("NAME", Some("name")),
            ("retries", None),
            ("x", None),
            ("", None),
        ];
        for (word, meant) in cases {
            assert_eq!(nearest(word, fields), meant, "{word}");
        }
        assert_eq!(nearest("edg", ["edge", "edgy", "hedge"]), Some("edge"));
        assert_eq!(nearest(&"a".repeat(10_000), ["aaa"]), None);
    }
}
