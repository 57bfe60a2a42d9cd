//! Shell patterns as Go's `path.Match` has them: `*` and `?` stop at a slash, `[a-z]`, `[^a]`, `\x`.

/// Whether all of `text` matches; a malformed pattern matches nothing.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on after the last star: backtracking to one star is enough within a component.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() || p < pattern.len() {
        if p < pattern.len() {
            if pattern[p] == '*' {
                star = Some((p, t));
                p += 1;
                continue;
            }
            if t < text.len()
                && let Some(next) = one(&pattern, p, text[t])
            {
                (p, t) = (next, t + 1);
                continue;
            }
        }
        match star {
            Some((at, from)) if from < text.len() && text[from] != '/' => {
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
            _ => return false,
        }
    }
    true
}

/// Match one character at `p`; gives where the pattern goes on.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match pattern[p] {
        '?' => (c != '/').then_some(p + 1),
        '\\' => (*pattern.get(p + 1)? == c).then_some(p + 2),
        '[' => {
            let mut at = p + 1;
            let negated = pattern.get(at) == Some(&'^');
            at += usize::from(negated);
            let mut inside = false;
            let mut first = true;
            loop {
                if *pattern.get(at)? == ']' && !first {
                    break;
                }
                first = false;
                let (low, next) = class_member(pattern, at)?;
                let (high, next) = match pattern.get(next) {
                    Some('-') => class_member(pattern, next + 1)?,
                    _ => (low, next),
                };
                inside |= (low..=high).contains(&c);
                at = next;
            }
            (inside != negated).then_some(at + 1)
        }
        literal => (literal == c).then_some(p + 1),
    }
}

fn class_member(pattern: &[char], at: usize) -> Option<(char, usize)> {
    match pattern.get(at)? {
        '\\' => Some((*pattern.get(at + 1)?, at + 2)),
        '-' | ']' => None,
        c => Some((*c, at + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn as_go_does() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*", "a/b", false),
            ("a*", "ab/c", false),
            ("a*/b", "a/b", true),
            ("a*b*c*", "abxbbxdbxebxczzy", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^e-g]", "abc", true),
            ("ab[^b-d]", "abc", false),
            ("a\\*b", "a*b", true),
            ("a?c", "a/c", false),
            ("busy*:*", "busybox:latest", true),
            ("*/*/app", "reg.example/team/app", true),
            ("[", "a", false),
            ("[]a]", "]", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn hostile_patterns_end() {
        assert!(!matches(&"*a".repeat(5000), &"a".repeat(4000)));
        assert!(!matches(&"[".repeat(5000), "a"));
    }
}
