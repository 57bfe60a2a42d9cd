//! Counts the words of its arguments, the most frequent first.

use std::collections::BTreeMap;

fn count<'a>(words: impl Iterator<Item = &'a str>) -> Vec<(&'a str, usize)> {
    let mut counts = BTreeMap::new();
    words.for_each(|word| *counts.entry(word).or_insert(0) += 1);
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    sorted
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for (word, count) in count(arguments.iter().flat_map(|text| text.split_whitespace())) {
        println!("{count} {word}");
    }
}

#[test]
fn frequent_words_come_first() {
    assert_eq!(count("a b b".split(' ')), [("b", 2), ("a", 1)]);
}
