//! Configurations of images: of the wrong types, with what no process can be given, very large, and with text that would
//! steer a terminal. What a user, path, port or signal means is looked at where it is used; here none of it may become
//! something else.

use store::model::Image;

use crate::layout::reason;

fn parse(config: &str) -> Result<Image, store::Error> {
    Image::parse(format!(r#"{{"config":{config},"rootfs":{{"type":"layers"}}}}"#).as_bytes())
}

#[test]
fn refused() {
    let many = format!(r#"{{"Cmd":[{}]}}"#, vec![r#""argument""#; 1_000_000].join(","));
    let big = format!(r#"{{"Env":["A={}"]}}"#, "x".repeat(10 << 20));
    let labels = format!(r#"{{"Labels":{{"a":"{}"}}}}"#, "x".repeat(100 << 20));
    let deep = format!(r#"{{"Labels":{}"#, r#"{"a":"#.repeat(100_000));
    let rows = [
        ("a command as text", r#"{"Cmd":"sh"}"#, "invalid type"),
        ("an argument that is a number", r#"{"Cmd":[1]}"#, "invalid type"),
        ("an argument that is null", r#"{"Cmd":[null]}"#, "invalid type"),
        ("a million arguments", many.as_str(), "larger than"),
        ("an environment as an object", r#"{"Env":{"A":"b"}}"#, "invalid type"),
        ("a NUL in the environment", r#"{"Env":["A=\u0000"]}"#, "NUL"),
        ("a NUL in an argument", r#"{"Cmd":["\u0000"]}"#, "NUL"),
        ("a NUL in the shell", r#"{"Shell":["\u0000"]}"#, "NUL"),
        ("a NUL in the user", r#"{"User":"\u0000"}"#, "NUL"),
        ("a NUL in the directory", r#"{"WorkingDir":"/\u0000"}"#, "NUL"),
        ("10 MiB of environment", big.as_str(), "larger than"),
        ("a lone surrogate", r#"{"Cmd":["\ud800"]}"#, "hex escape"),
        ("a user as a number", r#"{"User":0}"#, "invalid type"),
        ("volumes as a list", r#"{"Volumes":["/"]}"#, "invalid type"),
        ("ports as a list", r#"{"ExposedPorts":[80]}"#, "invalid type"),
        ("a signal as a number", r#"{"StopSignal":-9}"#, "invalid type"),
        ("a probe's time as text", r#"{"Healthcheck":{"Interval":"1s"}}"#, "invalid type"),
        ("a probe's time that overflows", r#"{"Healthcheck":{"Interval":9223372036854775808}}"#, "invalid"),
        ("a timeout that overflows", r#"{"StopTimeout":9223372036854775808}"#, "invalid"),
        ("100 MiB of labels", labels.as_str(), "larger than"),
        ("labels that are no text", r#"{"Labels":{"a":1}}"#, "invalid type"),
        ("deep labels", deep.as_str(), "recursion limit"),
        ("a label twice", r#"{"Labels":{"a":"1","a":"2"}}"#, "duplicate key"),
        ("a command twice", r#"{"Cmd":["a"],"Cmd":["b"]}"#, "duplicate key"),
        ("a command in two cases", r#"{"Cmd":["a"],"cmd":["b"]}"#, "in case only"),
        ("a user in another case", r#"{"user":"0"}"#, "in case only"),
        ("a configuration that is a number", "1", "invalid type"),
    ];
    for (what, config, words) in rows {
        let reason = reason(parse(config)).unwrap_or_else(|| panic!("{what} was accepted"));
        assert!(
            reason.to_lowercase().contains(&words.to_lowercase()),
            "{what} was refused for another reason: {reason}"
        );
        assert!(reason.len() < 1024, "{what}: {} bytes of error", reason.len());
    }
    let whole = [
        ("a list", &b"[]"[..], "array"),
        ("nothing", b"", "EOF"),
        ("no layers", b"{}", "rootfs"),
        ("other layers", br#"{"rootfs":{"type":"other"}}"#, "not \"layers\""),
        ("a digest that is none", br#"{"rootfs":{"type":"layers","diff_ids":["sha256:../../x"]}}"#, "digest"),
        ("a key in another case", br#"{"rootfs":{"type":"layers","diff_ids":[],"Diff_IDs":["x"]}}"#, "in case only"),
    ];
    for (what, bytes, words) in whole {
        let reason = reason(Image::parse(bytes)).unwrap_or_else(|| panic!("{what} was accepted"));
        assert!(reason.contains(words), "{what} was refused for another reason: {reason}");
    }
}

#[test]
fn taken_as_they_are() {
    let env = parse(r#"{"Env":["PATH","HOME","=x","","A=b=c","B=\n","\u001b[2J=x"]}"#).unwrap().config.env.unwrap();
    assert_eq!(env, ["A=b=c", "B=\n", "\u{1b}[2J=x"], "an item without a name or value could bring the engine's own");
    for user in ["-1", "4294967296", "0x0", "root:../x", "../../etc/passwd"] {
        assert_eq!(parse(&format!(r#"{{"User":"{user}"}}"#)).unwrap().config.user, user, "no number yet");
    }
    for dir in ["relative", "../..", "/proc/self/fd/7", "\u{202e}"] {
        assert_eq!(parse(&format!(r#"{{"WorkingDir":"{dir}"}}"#)).unwrap().config.working_dir, dir);
    }
    let labels = parse(r#"{"Labels":{"user":"a","User":"b","com.docker.x":"\u001b]8;;x\u0007","":"\u202e"}}"#).unwrap();
    assert_eq!(labels.config.labels.unwrap().len(), 4, "labels are free, and mean nothing");
    let ports =
        parse(r#"{"ExposedPorts":{"0":{},"65536":{},"80-1":{},"x/y":{}},"Volumes":{"/":{},"/proc":{},"../x":{}}}"#);
    let config = ports.unwrap().config;
    assert_eq!((config.exposed_ports.unwrap().len(), config.volumes.unwrap().len()), (4, 3));
    let odd = r#"{"StopSignal":"KILL; x","Healthcheck":{"Interval":-1,"Retries":-1},"Shell":[],"Entrypoint":[]}"#;
    let config = parse(odd).unwrap().config;
    assert_eq!(
        (config.stop_signal.as_str(), config.shell, config.healthcheck.unwrap().retries),
        ("KILL; x", Some(vec![]), -1)
    );
}
