//! Patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*` is any text, `?` any character, a backslash takes the next for
//! itself. Brackets mean nothing.
//!
//! A pattern is its pieces between stars. Each is looked for as far left as it goes, except for the last one when the
//! longest match is wanted, so nothing is tried twice for the same place and every comparison costs fuel.

use crate::error::Expansion;

/// A character of a pattern; nothing stands for any.
type Element = Option<char>;

#[derive(Debug)]
pub(super) struct Pattern {
    /// At least one; between each two is a star.
    pieces: Vec<Vec<Element>>,
}

type Result<T> = std::result::Result<T, Expansion>;

impl Pattern {
    /// Reads one. What a backslash may escape is punctuation.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut pieces = vec![Vec::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let element = match c {
                '*' => {
                    // Stars in a row are one.
                    if pieces.len() == 1 || pieces.last().is_some_and(|piece: &Vec<_>| !piece.is_empty()) {
                        pieces.push(Vec::new());
                    }
                    continue;
                }
                '?' => None,
                '\\' => match chars.next() {
                    Some(next) if next.is_ascii_punctuation() => Some(next),
                    Some(next) => {
                        let escape = format!("\\{next}");
                        return Err(Expansion::Pattern { pattern: text.to_owned(), escape });
                    }
                    None => Some('\\'),
                },
                c => Some(c),
            };
            if let Some(piece) = pieces.last_mut() {
                piece.push(element);
            }
        }
        Ok(Self { pieces })
    }

    /// How many characters at the beginning match; none when it does not.
    pub(super) fn prefix(&self, value: &[char], longest: bool, fuel: &mut u64) -> Result<usize> {
        let Some((first, rest)) = self.pieces.split_first() else { return Ok(0) };
        if !at(first, value, 0, fuel)? {
            return Ok(0);
        }
        Ok(tail(rest, value, first.len(), longest, fuel)?.unwrap_or(0))
    }

    /// The same at the end.
    pub(super) fn suffix(&self, value: &[char], longest: bool, fuel: &mut u64) -> Result<usize> {
        let value: Vec<char> = value.iter().rev().copied().collect();
        let reversed = |piece: &Vec<Element>| piece.iter().rev().copied().collect();
        let pieces = self.pieces.iter().rev().map(reversed).collect();
        Pattern { pieces }.prefix(&value, longest, fuel)
    }

    /// Puts a text in the place of the first match, or of all. A match that follows another one at once and is empty does
    /// not count.
    pub(super) fn replace(&self, value: &[char], by: &str, all: bool, fuel: &mut u64) -> Result<String> {
        let mut out = String::new();
        let mut from = 0;
        let mut last_end = None;
        while let Some((start, end)) = self.find(value, from, fuel)? {
            out.extend(&value[from..start]);
            if end > start || last_end != Some(start) {
                *fuel = fuel.checked_sub(by.len() as u64 + 1).ok_or(Expansion::Work)?;
                out.push_str(by);
                if out.len() > crate::limits::EXPANSION {
                    return Err(Expansion::Size);
                }
            }
            last_end = Some(end);
            from = end;
            if end == start {
                out.extend(value.get(start));
                from += 1;
            }
            if !all || from > value.len() {
                break;
            }
        }
        out.extend(value.get(from..).unwrap_or_default());
        Ok(out)
    }

    /// The leftmost match from a place on, as long as can be.
    fn find(&self, value: &[char], from: usize, fuel: &mut u64) -> Result<Option<(usize, usize)>> {
        let Some((first, rest)) = self.pieces.split_first() else { return Ok(None) };
        let Some(start) = leftmost(first, value, from, fuel)? else { return Ok(None) };
        Ok(tail(rest, value, start + first.len(), true, fuel)?.map(|end| (start, end)))
    }
}

/// Where the pieces behind stars end.
fn tail(
    pieces: &[Vec<Element>],
    value: &[char],
    mut place: usize,
    longest: bool,
    fuel: &mut u64,
) -> Result<Option<usize>> {
    let Some((last, between)) = pieces.split_last() else { return Ok(Some(place)) };
    for piece in between {
        match leftmost(piece, value, place, fuel)? {
            Some(found) => place = found + piece.len(),
            None => return Ok(None),
        }
    }
    if !longest {
        return Ok(leftmost(last, value, place, fuel)?.map(|found| found + last.len()));
    }
    let Some(mut found) = value.len().checked_sub(last.len()) else { return Ok(None) };
    while found >= place {
        if at(last, value, found, fuel)? {
            return Ok(Some(found + last.len()));
        }
        let Some(before) = found.checked_sub(1) else { break };
        found = before;
    }
    Ok(None)
}

fn leftmost(piece: &[Element], value: &[char], from: usize, fuel: &mut u64) -> Result<Option<usize>> {
    let Some(last) = value.len().checked_sub(piece.len()) else { return Ok(None) };
    for place in from..=last {
        if at(piece, value, place, fuel)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

fn at(piece: &[Element], value: &[char], place: usize, fuel: &mut u64) -> Result<bool> {
    let Some(part) = value.get(place..place + piece.len()) else { return Ok(false) };
    for (compared, (element, c)) in (1..).zip(piece.iter().zip(part)) {
        if element.is_some_and(|element| element != *c) {
            *fuel = fuel.checked_sub(compared).ok_or(Expansion::Work)?;
            return Ok(false);
        }
    }
    *fuel = fuel.checked_sub(piece.len() as u64 + 1).ok_or(Expansion::Work)?;
    Ok(true)
}
