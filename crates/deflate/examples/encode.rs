//! Standard input to standard output as Go would compress it, with the speed on standard error:
//! `encode go127|classic LEVEL <FILE >FILE.gz`.

#![allow(clippy::print_stderr)]

use std::io::{Read, Write, stdin, stdout};
use std::time::Instant;

use deflate::{Dialect, gzip};

/// The header that Go writes.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dialect, level] = arguments.as_slice() else {
        return Err("usage: encode go127|classic LEVEL".into());
    };
    let dialect = match dialect.as_str() {
        "go127" => Dialect::Go127,
        "classic" => Dialect::GoClassic,
        other => return Err(format!("unknown dialect {other}").into()),
    };
    let mut header = HEADER;
    header[8] = match level.as_str() {
        "9" => 2,
        "1" => 4,
        _ => 0,
    };
    let header = gzip::Header::parse(&header)?;
    let mut encoder = gzip::Encoder::new(&header, dialect, level.parse()?)?;

    let mut input = Vec::new();
    stdin().read_to_end(&mut input)?;
    let mut out = Vec::with_capacity(input.len() + 1024);
    let began = Instant::now();
    for piece in input.chunks(32 << 10) {
        encoder.write(piece, &mut out);
    }
    encoder.finish(&mut out);
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("{:.1} MB/s", input.len() as f64 / 1e6 / seconds);
    stdout().write_all(&out)?;
    Ok(())
}
