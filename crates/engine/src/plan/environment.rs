//! The environment of a process: what the engine supplies and what links tell, overridden by what the container says.
//! Pure. Called by start and exec.

/// `PATH` of containers that set none.
pub(crate) const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Engine's variables and those of links, then `own` over them: an entry without `=` removes the variable.
pub(crate) fn environment(hostname: &str, tty: bool, linked: Vec<String>, own: &[String]) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if tty {
        env.push("TERM=xterm".into());
    }
    env.extend(linked);
    overlay(&mut env, own);
    env
}

/// Put `own` over `env`, in place where a name is there already.
pub(crate) fn overlay(env: &mut Vec<String>, own: &[String]) {
    for entry in own {
        let name = entry.split('=').next().unwrap_or(entry);
        let same = |e: &String| e.split('=').next() == Some(name);
        if !entry.contains('=') {
            env.retain(|e| !same(e));
        } else if let Some(slot) = env.iter_mut().find(|e| same(e)) {
            slot.clone_from(entry);
        } else {
            env.push(entry.clone());
        }
    }
}

/// Add `HOME` where nothing set it.
pub(crate) fn with_home(mut env: Vec<String>, home: &str) -> Vec<Vec<u8>> {
    match env.iter_mut().find(|e| e.starts_with("HOME=")) {
        Some(entry) if entry == "HOME=" => *entry = format!("HOME={home}"),
        Some(_) => {}
        None => env.push(format!("HOME={home}")),
    }
    env.into_iter().map(String::into_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_entries_replace_remove_and_add() {
        let own = ["PATH=/x".to_owned(), "TERM".into(), "B=".into(), "B=2".into()];
        assert_eq!(
            environment("h", true, vec!["L=1".into(), "B=1".into()], &own),
            ["PATH=/x", "HOSTNAME=h", "L=1", "B=2"]
        );
        assert_eq!(with_home(vec!["A=1".into()], "/root"), [b"A=1".to_vec(), b"HOME=/root".to_vec()]);
    }
}
