//! Files good and bad.

use super::*;

fn parsed(text: &str) -> Hosts {
    parse(Path::new("/c/reg/hosts.toml"), text).unwrap()
}

fn refused(text: &str) -> String {
    parse(Path::new("/c/reg/hosts.toml"), text).unwrap_err().to_string()
}

#[test]
fn every_key() {
    let hosts = parsed(
        r#"
server = "https://reg.example"
ca = "own.crt"

[host."https://z.example:5000"]
  capabilities = ["pull", "Resolve"]
  ca = ["a.crt", "/abs/b.crt"]
  client = [["c.cert", "c.key"]]
  skip_verify = true
  dial_timeout = "1.5s"
  [host."https://z.example:5000".header]
    x-one = "1"
    x-two = ["2", "3"]

[host."http://a.example/mirror"]
  client = "both.pem"

[host."b.example/v2/hub"]
  override_path = true
"#,
    );
    let [z, a, b] = hosts.hosts.as_slice() else { panic!("three hosts") };
    let shown = |host: &Host| host.url.as_ref().unwrap().to_string();
    assert_eq!(
        [shown(z), shown(a), shown(b)],
        ["https://z.example:5000/v2", "http://a.example/mirror/v2", "https://b.example/v2/hub"]
    );
    assert_eq!(z.capabilities, Capabilities::READ);
    assert_eq!(a.capabilities, Capabilities::ALL);
    assert_eq!(z.site.authorities, [PathBuf::from("/c/reg/a.crt"), PathBuf::from("/abs/b.crt")]);
    assert_eq!(z.site.identity, Some(("/c/reg/c.cert".into(), Some("/c/reg/c.key".into()))));
    assert_eq!(a.site.identity, Some(("/c/reg/both.pem".into(), None)));
    assert_eq!((z.site.skip_verify, z.site.dial_timeout), (Some(true), Some(Duration::from_millis(1500))));
    let headers: Vec<_> = z.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    assert_eq!(headers, [("x-one", "1"), ("x-two", "2"), ("x-two", "3")]);
    assert_eq!(shown(&hosts.server), "https://reg.example/v2");
    assert_eq!(hosts.server.site.authorities, [PathBuf::from("/c/reg/own.crt")]);
    // No file says nothing, and an empty one does not either.
    assert_eq!(parsed("").server.url, None);
    // A secret of a header is not shown.
    assert!(!format!("{z:?}").contains("\"2\""));
}

#[test]
fn what_cannot_be_followed_is_named() {
    for (text, place) in [
        ("server = \"https://a\"\nserver = \"https://b\"", "line 2"),
        ("\n\n[host", "line 3"),
        ("server = 5", "line 1, key server"),
        ("server = \"ftp://a\"", "line 1, key server"),
        ("server = \"https://user:pw@a\"", "line 1, key server"),
        ("server = \"https://a/?x=1\"", "line 1, key server"),
        ("\nskip_verfy = true", "line 2, key skip_verfy"),
        ("[host.\"https://a\"]\nskip_verify = \"yes\"", "line 2, key host.\"https://a\".skip_verify"),
        ("[host.\"https://a\"]\ncapabilities = [\"pull\", \"fly\"]", "line 2, key host.\"https://a\".capabilities"),
        ("[host.\"https://a\"]\nmirror = true", "line 2, key host.\"https://a\".mirror"),
        ("[host.\"https://a\"]\nclient = [\"a\", \"b\"]", "line 2, key host.\"https://a\".client"),
        ("[host.\"https://a\"]\nclient = [[\"a\", \"b\", \"c\"]]", "line 2, key host.\"https://a\".client"),
        ("[host.\"https://a\"]\nca = [1]", "line 2, key host.\"https://a\".ca"),
        ("[host.\"https://a\".header]\n\"x y\" = \"1\"", "line 2, key host.\"https://a\".header.x y"),
        ("[host.\"https://a\".header]\nx = \"1\\r\\nEvil: 2\"", "line 2, key host.\"https://a\".header.x"),
        ("[host.\"https://a\".header]\nHost = \"b\"", "line 2, key host.\"https://a\".header.Host"),
        ("[host.\"https://a\"]\ndial_timeout = \"soon\"", "line 2, key host.\"https://a\".dial_timeout"),
        ("[host.\"https://a\"]\ndial_timeout = \"-1s\"", "line 2, key host.\"https://a\".dial_timeout"),
        ("[[host.\"https://a\"]]", "line 1, key host.\"https://a\""),
        ("host = \"https://a\"", "line 1, key host"),
        ("\u{0}", "line 1"),
    ] {
        let error = refused(text);
        assert!(error.contains(&format!("/c/reg/hosts.toml, {place}: ")), "{text:?}: {error}");
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
    let many: String = (0..=HOSTS_MAX).map(|n| format!("[host.\"https://a{n}\"]\n")).collect();
    assert!(refused(&many).contains("more than 64 hosts"));
    refused(&format!("a = {}", "[".repeat(100_000)));
}

#[test]
fn where_files_are_looked_for() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    let dirs = [one.clone(), two.clone()];
    let server = |authority: &str| find(&dirs, authority).map(|h| h.and_then(|h| h.server.url).map(|u| u.origin.host));
    let write = |dir: &Path, host: &str| {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("hosts.toml"), format!("server = \"https://{host}\"")).unwrap();
    };
    assert_eq!(server("reg:5000").unwrap(), None);
    write(&two.join("_default"), "two-default");
    assert_eq!(server("reg:5000").unwrap().as_deref(), Some("two-default"));
    write(&one.join("_default"), "one-default");
    assert_eq!(server("reg:5000").unwrap().as_deref(), Some("one-default"));
    // A directory of certificates keeps the default away.
    std::fs::create_dir_all(two.join("certified")).unwrap();
    assert_eq!(server("certified").unwrap(), None);
    write(&two.join("reg_5000_"), "under");
    assert_eq!(server("reg:5000").unwrap().as_deref(), Some("under"));
    write(&two.join("reg:5000"), "colon");
    assert_eq!(server("reg:5000").unwrap().as_deref(), Some("colon"));
    write(&root.path().join("outside"), "outside");
    for walks in ["../outside", "..", ".", "a/../../outside"] {
        assert_ne!(server(walks).unwrap().as_deref(), Some("outside"), "{walks}");
    }

    let odd = one.join("odd");
    std::fs::create_dir_all(&odd).unwrap();
    let path = odd.join("hosts.toml");
    let error = || server("odd").unwrap_err().to_string();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert!(error().contains("hosts.toml"), "{}", error());
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(error().contains("not a file"), "{}", error());
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, vec![b'#'; 300 << 10]).unwrap();
    assert!(error().contains("more than 256 KiB"), "{}", error());
    std::fs::write(&path, b"# fine\nserver = \"\xff\"").unwrap();
    assert!(error().contains("line 2 is not UTF-8"), "{}", error());
    let pipe = std::process::Command::new("mkfifo").arg(odd.join("pipe")).status();
    if pipe.is_ok_and(|status| status.success()) {
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(odd.join("pipe"), &path).unwrap();
        assert!(error().contains("not a file"), "{}", error());
    }
}
