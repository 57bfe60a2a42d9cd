//! `load`, `save` and `import`: images as archives.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use client::Request;

use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Kind, Parsed},
    session::Session,
    term::{
        output::{self, copy_raw},
        progress::{self, Show},
    },
};

pub(super) static LOAD: Command = Command {
    paths: &["image load", "load"],
    synopsis: "[OPTIONS]",
    about: "Load images from an archive",
    flags: &[&[
        Flag::text("input", "Archive to read instead of standard input").short('i'),
        Flag::text("platform", "Load only this platform; may be given several times").kind(Kind::Commas, "strings"),
        Flag::switch("quiet", "Do not show the progress").short('q'),
    ]],
    arity: Arity::None,
    interspersed: true,
    run: load,
};

pub(super) static SAVE: Command = Command {
    paths: &["image save", "save"],
    synopsis: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Write images to an archive",
    flags: &[&[
        Flag::text("output", "File to write instead of standard output").short('o'),
        Flag::text("platform", "Save only this platform; may be given several times").kind(Kind::Commas, "strings"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: save,
};

pub(super) static IMPORT: Command = Command {
    paths: &["image import", "import"],
    synopsis: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    about: "Make an image of an archive of a root filesystem",
    flags: &[&[
        Flag::list("change", "Dockerfile instruction to apply to the image").short('c'),
        Flag::text("message", "Message of the image's history").short('m'),
        Flag::text("platform", "Platform of the image"),
    ]],
    arity: Arity::Between(1, 2),
    interspersed: true,
    run: import,
};

/// Sends a stream as the body of a request.
pub(super) fn send(request: Request, from: &mut impl Read) -> Result<client::Response> {
    let mut upload = request.header("Content-Type", "application/x-tar").upload()?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(upload.finish()?),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Error::new(format!("cannot read the archive: {}", crate::error::os_text(&error))));
            }
        };
        if let Err(error) = upload.write_all(&buffer[..count]) {
            return Ok(upload.failed(error)?);
        }
    }
}

/// Adds a parameter for each platform asked for.
fn with_platforms(mut request: Request, parsed: &Parsed) -> Result<Request> {
    for text in parsed.list("platform") {
        let platform: types::Platform =
            text.parse().map_err(|error: types::PlatformError| Error::new(error.to_string()))?;
        let json = serde_json::to_string(&platform).map_err(|error| Error::new(error.to_string()))?;
        request = request.query("platform", &json);
    }
    Ok(request)
}

fn load(parsed: &Parsed, session: &Session) -> Result<u8> {
    // Without a terminal nobody watches a bar.
    let quiet = parsed.on("quiet") || !output::stdout_is_terminal();
    let request = session.client()?.post("/images/load").query("quiet", if quiet { "1" } else { "0" });
    let request = with_platforms(request, parsed)?;
    let answer = match parsed.opt("input") {
        Some(path) => {
            let path = Path::new(path);
            let mut file = File::open(path).map_err(Error::file("open", path))?;
            send(request, &mut file)?
        }
        None if output::stdin_is_terminal() => return Err(Error::new("requested load from stdin, but stdin is empty")),
        None => send(request, &mut io::stdin().lock())?,
    };
    progress::show(answer.into_body(), Show::Stdout, |_| {})?;
    Ok(0)
}

fn save(parsed: &Parsed, session: &Session) -> Result<u8> {
    let target = parsed.opt("output");
    if target.is_none() && output::stdout_is_terminal() {
        return Err(Error::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    let mut request = with_platforms(session.client()?.get("/images/get"), parsed)?;
    for name in &parsed.args {
        request = request.query("names", name);
    }
    to_file_or_stdout(request, target)
}

/// Writes the body of the answer to a file, which appears only once it is whole, or to standard output.
pub(super) fn to_file_or_stdout(request: Request, target: Option<&str>) -> Result<u8> {
    let mut body = request.send()?.into_body();
    let Some(path) = target.map(Path::new) else {
        copy_raw(&mut body)?;
        return Ok(0);
    };
    // Devices and pipes are written in place; only plain files can be replaced.
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        let mut file = fs::OpenOptions::new().write(true).open(path).map_err(Error::file("open", path))?;
        io::copy(&mut body, &mut file)?;
        return Ok(0);
    }
    let name = path
        .file_name()
        .ok_or_else(|| Error::new(format!("invalid output path: {} is no file name", path.display())))?;
    let staged = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let mut write = || -> io::Result<()> {
        let mut file = File::create_new(&staged)?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match body.read(&mut buffer)? {
                0 => break,
                count => file.write_all(&buffer[..count])?,
            }
        }
        fs::rename(&staged, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&staged);
        Error::file("cannot write", path)(error)
    })?;
    Ok(0)
}

fn import(parsed: &Parsed, session: &Session) -> Result<u8> {
    let source = parsed.first();
    let target = parsed.args.get(1);
    let reference = match target {
        Some(text) => Some(types::Reference::parse(text).map_err(|error| Error::new(error.to_string()))?),
        None => None,
    };
    let remote = source.starts_with("http://") || source.starts_with("https://");
    let mut request = session
        .client()?
        .post("/images/create")
        .query("fromSrc", if remote { source } else { "-" })
        .query_opt("repo", reference.as_ref().map(|name| name.familiar()).as_deref())
        .query_opt("message", parsed.opt("message"))
        .query_opt("platform", parsed.opt("platform"));
    for change in parsed.list("change") {
        request = request.query("changes", change);
    }
    let answer = if remote {
        request.send()?
    } else if source == "-" {
        send(request, &mut io::stdin().lock())?
    } else {
        let path = Path::new(source);
        let mut file = File::open(path).map_err(Error::file("open", path))?;
        send(request, &mut file)?
    };
    progress::show(answer.into_body(), Show::Stdout, |_| {})?;
    Ok(0)
}
