//! `image verify`: what the trust policy says of an image, without pulling it.

use client::escape_segment;
use types::Reference;

use super::pull::registry_auth;
use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Parsed},
    format::Value,
    session::Session,
    term::output::print_line,
};

pub(super) static VERIFY: Command = Command {
    paths: &["image verify"],
    synopsis: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "Show what the trust policy says of an image at its registry",
    flags: &[&[
        Flag::text("platform", "Platform of a multi-platform image"),
        Flag::text("policy", "File of a policy to try instead of the daemon's").value("file"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: verify,
};

/// Exit code 1 says that the image is not as the policy asks, also where that is only tried out.
fn verify(parsed: &Parsed, session: &Session) -> Result<u8> {
    let name = Reference::parse(parsed.first()).map_err(|error| Error::new(error.to_string()))?;
    let mut request = session
        .client()?
        .post(format!("/images/{}/verify", escape_segment(parsed.first())))
        .query_opt("platform", parsed.opt("platform"));
    if let Some(auth) = registry_auth(session, &name)? {
        request = request.header("X-Registry-Auth", &auth);
    }
    if let Some(path) = parsed.opt("policy") {
        let text = std::fs::read_to_string(path).map_err(|error| Error::new(format!("{path}: {error}")))?;
        let body = std::collections::BTreeMap::from([("Policy", text.as_str()), ("Source", path)]);
        request = request.json(&body)?;
    }
    let answer: Value = request.send()?.json()?;
    show(&answer)?;
    Ok(u8::from(answer.str("Outcome") != "accepted"))
}

fn show(answer: &Value) -> Result<()> {
    print_line(&format!("Image:   {}", answer.str("Name")))?;
    print_line(&format!("Digest:  {}", answer.str("Digest")))?;
    if answer.str("Policy").is_empty() {
        return print_line("Policy:  none: every image is accepted");
    }
    print_line(&format!("Policy:  {}", answer.str("Policy")))?;
    print_line(&format!("Rule:    {} ({})", answer.str("Rule"), answer.str("Mode")))?;
    for check in answer.get("Signatures").items() {
        let sign = if check.bool("Accepted") { "good" } else { "no good" };
        let signer = match check.str("Signer") {
            "" => String::new(),
            signer => format!(" for {signer}"),
        };
        let place = check.str("Place");
        print_line(&format!("Signature ({}, on the {}){signer}: {sign}", check.str("Form"), check.str("Document")))?;
        print_line(&format!("  {place}"))?;
        print_line(&format!("  {}", check.str("Detail")))?;
        for warning in check.get("Warnings").items() {
            print_line(&format!("  note: {}", warning.as_str()))?;
        }
    }
    print_line(&format!("Verdict: {}", answer.str("Outcome")))?;
    match answer.str("Reason") {
        "" => Ok(()),
        reason => print_line(&format!("  {reason}")),
    }
}
