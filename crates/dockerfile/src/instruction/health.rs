//! `HEALTHCHECK [flags] CMD command` and `HEALTHCHECK NONE`.

use types::GoDuration;

use super::Command;
use super::flags::Flags;
use crate::error::{Error, Problem};
use crate::word::{Rest, Word};

/// Shortest time that is taken (Docker Engine API, `HealthConfig`).
const SHORTEST: i64 = 1_000_000;

/// How containers are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// Not at all, whatever the base image says.
    None,
    /// By a command.
    Command {
        /// The command.
        command: Command,
        /// Between probes; zero is the engine's default, as for all of these.
        interval: GoDuration,
        /// What a probe may take.
        timeout: GoDuration,
        /// How long failures do not count.
        start_period: GoDuration,
        /// Between probes in that time.
        start_interval: GoDuration,
        /// Failures in a row that make a container unhealthy.
        retries: u32,
    },
}

pub(super) fn parse(flags: &mut Flags, rest: &Rest<'_>) -> Result<HealthCheck, Error> {
    let (kind, rest) = rest.first().ok_or_else(|| Error::parse(Problem::AtLeastOne("HEALTHCHECK")))?;
    let interval = duration(flags, "interval")?;
    let timeout = duration(flags, "timeout")?;
    let start_period = duration(flags, "start-period")?;
    let start_interval = duration(flags, "start-interval")?;
    let retries = flags.text("retries")?.map_or(Ok(0), |word| retries(&word))?;
    flags.end()?;
    match kind.text.to_ascii_uppercase() {
        name if name == "NONE" => match rest.whole() {
            Some(word) => Err(Error::parse(Problem::HealthNone).at(word.span)),
            None => Ok(HealthCheck::None),
        },
        name if name == "CMD" => {
            let command = Command::parse(&rest)?;
            if command.is_empty() {
                return Err(Error::parse(Problem::HealthCommand));
            }
            Ok(HealthCheck::Command { command, interval, timeout, start_period, start_interval, retries })
        }
        name => Err(Error::parse(Problem::HealthType(name)).at(kind.span)),
    }
}

fn duration(flags: &mut Flags, name: &'static str) -> Result<GoDuration, Error> {
    let Some(word) = flags.text(name)?.filter(|word| !word.text.is_empty()) else { return Ok(GoDuration(0)) };
    let duration: GoDuration = word.text.parse().map_err(|why| Error::parse(Problem::Duration(why)).at(word.span))?;
    if duration.nanos() != 0 && duration.nanos() < SHORTEST {
        return Err(Error::parse(Problem::ShortInterval(name)).at(word.span));
    }
    Ok(duration)
}

fn retries(word: &Word) -> Result<u32, Error> {
    let fail = |problem| Err(Error::parse(problem).at(word.span));
    let digits = word.text.strip_prefix(['+', '-']).unwrap_or(&word.text);
    if word.text.is_empty() {
        return Ok(0);
    }
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return fail(Problem::Number { text: word.text.clone(), why: "invalid syntax" });
    }
    match word.text.parse::<i32>() {
        Err(_) => fail(Problem::Number { text: word.text.clone(), why: "value out of range" }),
        Ok(number) => match u32::try_from(number) {
            Ok(number) => Ok(number),
            Err(_) => fail(Problem::Retries(number.into())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instruction;
    use crate::testing::{error, one};

    #[test]
    fn times_and_commands() {
        let Instruction::HealthCheck(HealthCheck::Command {
            interval, start_period, retries, command, timeout, ..
        }) = one("HEALTHCHECK --interval=5s --start-period=1h --retries=3 --timeout= cmd a  b")
        else {
            panic!()
        };
        assert_eq!((interval.0, start_period.0, retries, timeout.0), (5_000_000_000, 3_600_000_000_000, 3, 0));
        assert_eq!(command.arguments(&[]), ["a  b"]);
        assert_eq!(one("HEALTHCHECK none"), Instruction::HealthCheck(HealthCheck::None));
    }

    #[test]
    fn mistakes() {
        for (line, end) in [
            ("", "HEALTHCHECK requires at least one argument"),
            ("NONE x", "HEALTHCHECK NONE takes no arguments"),
            ("CMD []", "Missing command after HEALTHCHECK CMD"),
            ("foo x", "Unknown type \"FOO\" in HEALTHCHECK (try CMD)"),
            ("--interval=5 CMD x", "time: missing unit in duration \"5\""),
            ("--timeout=-1s CMD x", "Interval \"timeout\" cannot be less than 1ms"),
            ("--retries=x CMD x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("--retries=99999999999 CMD x", "strconv.ParseInt: parsing \"99999999999\": value out of range"),
            ("--retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ] {
            assert_eq!(error(&format!("HEALTHCHECK {line}")), format!("dockerfile parse error on line 2: {end}"));
        }
    }
}
