//! The word somebody may have meant. Fewer than three changes make a word similar, as in the builder.

use crate::error::Suggestion;

/// Changes from which on a word is another one.
const FAR: usize = 3;
/// Longer words are not compared: nobody mistypes them, and the comparison is quadratic.
const LONGEST: usize = 32;

/// The first of the options that is most similar, in the letter case of most of the word.
pub(crate) fn suggest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best = None;
    let mut nearest = FAR;
    for option in options {
        // Lengths alone put most options of a big environment out of question.
        if option.len().abs_diff(word.len()) >= nearest {
            continue;
        }
        let distance = distance(word, option);
        if distance < nearest {
            (nearest, best) = (distance, Some(option));
        }
    }
    best
}

/// The same, worded.
pub(crate) fn suggestion<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Suggestion {
    Suggestion(suggest(word, options).map(str::to_owned))
}

/// Characters to put in, take out or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    if a.len() > LONGEST || b.len() > LONGEST {
        return FAR;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let changed = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        assert_eq!(suggest("cach", ["bind", "cache"]), Some("cache"));
        assert_eq!(suggest("f", ["from"]), None);
        assert_eq!(suggest("fo", ["from"]), Some("from"));
        assert_eq!(suggest("xx", ["xy", "xz"]), Some("xy"));
        assert_eq!(suggest(&"x".repeat(33), [&*"x".repeat(32)]), None);
    }
}
