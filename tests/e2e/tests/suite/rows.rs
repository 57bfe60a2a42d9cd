//! Tables of command lines with what each must answer. A table is gone through to its end before
//! it fails, because a runtime that breaks one row often breaks several.

use e2e::Output;

/// A command line as a shell would take it apart, the exit code, and a text that standard output
/// (of a success) or standard error (of a failure) must contain. `!text` must not be contained.
pub type Row<'a> = (&'a str, i32, &'a str);

/// Words between blanks; single quotes hold blanks.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted, mut open) = (String::new(), false, false);
    for letter in line.chars() {
        match letter {
            '\'' => (quoted, open) = (!quoted, true),
            ' ' if !quoted => {
                if open {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            _ => {
                word.push(letter);
                open = true;
            }
        }
    }
    if open {
        words.push(word);
    }
    words
}

/// Run every row, and fail with all that differ.
#[track_caller]
pub fn answers(rows: &[Row], run: impl Fn(&[&str]) -> Output) {
    let mut differing = Vec::new();
    for &(line, code, text) in rows {
        let words = words(line);
        let output = run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let said = if code == 0 { &output.stdout } else { &format!("{}{}", output.stdout, output.stderr) };
        let fits = text.strip_prefix('!').map_or_else(|| said.contains(text), |absent| !said.contains(absent));
        if output.code != code || !fits {
            differing.push(format!(
                "{line}\n  wanted {code} and {text:?}\n  got    {}: {:?} {:?}",
                output.code, output.stdout, output.stderr
            ));
        }
    }
    assert!(differing.is_empty(), "{} of {} rows differ:\n{}", differing.len(), rows.len(), differing.join("\n"));
}

#[test]
fn quotes_hold_blanks() {
    assert_eq!(words("a  'b c' d'e f' ''"), ["a", "b c", "de f", ""]);
}
