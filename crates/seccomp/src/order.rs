//! In which order the rules of one call are tried when several hold. libseccomp, on which profiles have been
//! written and tested for a decade, does not go by their order in the document: it keeps the comparisons
//! in a tree and walks that. A profile must not allow more here than there, so the order is the same:
//!
//! - comparisons of an argument with a higher number come first;
//! - of one argument: equality, inequality and masked equality, then less, then greater;
//! - of one kind: the larger value first, for "less" the smaller;
//! - a rule that has all of another's comparisons and more comes after it;
//! - otherwise the document decides.
//!
//! 64-bit values are compared by halves, the upper one being a level of the tree of its own. Called by the
//! policy resolver for calls whose rules differ in action.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::policy::Conditional;
use crate::profile::{Arg, Op};

/// What one level of the tree compares. Equal nodes below one parent are one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Node {
    place: Place,
    test: Test,
    value: u32,
}

/// Where a node stands among others of its level; the greatest comes first.
type Place = (u32, u8, u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Test {
    Equal,
    Masked(u32),
    Greater,
    GreaterOrEqual,
}

/// Sorts `rules`, whose comparisons are in ascending order of argument.
pub(crate) fn sort(rules: &mut [Conditional], narrow: bool) {
    // Nodes are numbered as they appear, which makes the document decide where places are equal.
    let mut numbers = HashMap::<(usize, Node), usize>::new();
    rules.sort_by_cached_key(|rule| {
        let mut parent = 0;
        let mut key = Vec::with_capacity(rule.args.len() * 2);
        for arg in &rule.args {
            for high in [true, false] {
                if high && narrow {
                    continue;
                }
                let node = node(arg, high);
                let next = numbers.len() + 1;
                parent = *numbers.entry((parent, node)).or_insert(next);
                key.push((Reverse(node.place), parent));
            }
        }
        key
    });
}

fn node(arg: &Arg, high: bool) -> Node {
    let half = |word: u64| if high { (word >> 32) as u32 } else { word as u32 };
    let (test, value) = match arg.op {
        Op::Equal | Op::NotEqual => (Test::Equal, half(arg.value)),
        Op::MaskedEqual => (Test::Masked(half(arg.value)), half(arg.value_two)),
        // The upper half is either greater, or equal and the lower half decides.
        _ if high => (Test::Greater, half(arg.value)),
        Op::Greater | Op::LessOrEqual => (Test::Greater, half(arg.value)),
        Op::GreaterOrEqual | Op::Less => (Test::GreaterOrEqual, half(arg.value)),
    };
    let level = 2 * arg.index + u32::from(high);
    let place = match arg.op {
        Op::Equal | Op::NotEqual | Op::MaskedEqual => (level, 3, value),
        Op::Less | Op::LessOrEqual => (level, 2, !value),
        Op::Greater | Op::GreaterOrEqual => (level, 1, value),
    };
    Node { place, test, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(action: u32, args: &[(u32, Op, u64)]) -> Conditional {
        let arg = |&(index, op, value): &(u32, Op, u64)| Arg { index, op, value, value_two: 0 };
        Conditional { action, args: args.iter().map(arg).collect() }
    }

    #[test]
    fn the_tree_decides_then_the_document() {
        let mut rules = vec![
            rule(7, &[(0, Op::GreaterOrEqual, 5)]),
            rule(6, &[(0, Op::GreaterOrEqual, 9)]),
            rule(5, &[(0, Op::LessOrEqual, 9)]),
            rule(4, &[(0, Op::Less, 5)]),
            rule(2, &[(0, Op::Equal, 6), (2, Op::Equal, 1)]),
            rule(1, &[(0, Op::Equal, 6)]),
            rule(3, &[(0, Op::NotEqual, 4)]),
            rule(0, &[(1, Op::Greater, 0)]),
        ];
        for narrow in [true, false] {
            sort(&mut rules, narrow);
            let actions: Vec<u32> = rules.iter().map(|r| r.action).collect();
            assert_eq!(actions, [0, 1, 2, 3, 4, 5, 6, 7], "narrow: {narrow}");
            rules.reverse();
        }
        let mut same = vec![rule(1, &[(3, Op::Equal, 1)]), rule(2, &[(3, Op::Equal, 1)])];
        sort(&mut same, false);
        assert_eq!(same[0].action, 1);
    }
}
