//! Paths by their letters, as in the image: no file system is asked, and `..` at the root stays there.

/// An absolute path without `.`, `..`, doubled or trailing slashes.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A path seen from a directory.
pub(super) fn resolve(directory: &str, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("{directory}/{path}")) }
}

/// The same for a destination, whose last slash says that it is a directory.
pub(super) fn destination(directory: &str, path: &str) -> String {
    let written = if path.is_empty() || path == "." { "./" } else { path };
    let mut found = resolve(directory, written);
    if written.ends_with('/') {
        if !found.ends_with('/') {
            found.push('/');
        }
    } else if written.ends_with("/.") {
        if !found.ends_with('/') {
            found.push('/');
        }
        found.push('.');
    }
    found
}

/// The last part, if there is one.
pub(super) fn base(path: &str) -> Option<&str> {
    path.trim_end_matches('/').rsplit('/').next().filter(|part| !part.is_empty() && *part != ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_keep_what_says_directory() {
        for (directory, path, expected) in [
            ("/", "x", "/x"),
            ("/app", ".", "/app/"),
            ("/app", "", "/app/"),
            ("/app", "./", "/app/"),
            ("/app", "../b/", "/b/"),
            ("/app", "/", "/"),
            ("/app", "/x/.", "/x/."),
            ("/app", "../../..", "/"),
        ] {
            assert_eq!(destination(directory, path), expected, "{directory} {path}");
        }
    }
}
