//! Which files BuildKit leaves out of a context for a `.dockerignore` file, and which we do.

use dockerfile::ignore::Ignore;

fn unescaped(text: &str) -> String {
    let text = text.replace("\\u{feff}", "\u{feff}");
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                other => other.unwrap(),
            }),
            c => out.push(c),
        }
    }
    out
}

#[test]
fn files_are_left_out_as_the_builder_does() {
    let mut lines = include_str!("cases/ignore.txt").lines().filter(|line| !line.starts_with("# "));
    let files: Vec<&str> = lines.next().unwrap().strip_prefix("files ").unwrap().split('|').collect();
    let (mut cases, mut wrong) = (0, Vec::new());
    while let Some(line) = lines.next() {
        let text = unescaped(line.strip_prefix('<').unwrap());
        let expected = lines.next().unwrap();
        let ignore = Ignore::parse(text.as_bytes());
        let said = match &ignore {
            Err(_) => "!".to_owned(),
            Ok(ignore) => {
                let out: Vec<_> = files.iter().copied().filter(|file| ignore.excludes(file)).collect();
                format!(">{}", out.join("|"))
            }
        };
        if said != expected {
            wrong.push(format!("{line}\n  expected {expected}\n  said     {said}"));
        }
        // A directory that is skipped has nothing that belongs to the context, and one without exceptions below is skipped.
        if let Ok(ignore) = ignore {
            for directory in files.iter().flat_map(|file| file.match_indices('/').map(|(at, _)| &file[..at])) {
                let below = files.iter().filter(|file| file.starts_with(&format!("{directory}/")));
                assert!(
                    !ignore.skips(directory) || below.clone().all(|file| ignore.excludes(file)),
                    "{line} {directory}"
                );
                assert!(
                    text.contains('!') || !ignore.excludes(directory) || ignore.skips(directory),
                    "{line} {directory}"
                );
            }
        }
        cases += 1;
    }
    assert!(cases > 90 && wrong.is_empty(), "{cases} cases, {} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
