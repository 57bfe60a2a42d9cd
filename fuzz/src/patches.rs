//! Layers that are put together: a table of contents, the archive without contents, and what was fetched of the blob.

use std::io::{Cursor, Read};

use chunked::{Assembly, Part, Place, Plan, Split, Toc};
use types::Digest;

/// Bytes of an archive that are read.
const LIMIT: u64 = 4 << 20;

/// Three parts with zero bytes between them: the table, the tar-split, the blob. Compression and digests are made right,
/// so that what is behind them is reached; the blob is as it comes.
pub fn chunked(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (table, lines, blob) = (part(), part(), part());
    let compress = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap_or_default();
    let sha256 = |bytes: &[u8]| Digest::sha256(layer::digest::sha256(bytes));
    let lines_compressed = compress(lines);
    // A table names its tar-split, which only now has a digest.
    let table = String::from_utf8_lossy(table).replace("SPLIT", &sha256(&lines_compressed).to_string());
    let table_compressed = compress(table.as_bytes());
    let place = |offset: usize, compressed: &[u8], plain: usize| Part {
        offset: offset as u64,
        length: compressed.len() as u64,
        uncompressed: plain as u64,
    };
    let toc = place(blob.len(), &table_compressed, table.len());
    let split = place(blob.len() + table_compressed.len(), &lines_compressed, lines.len());
    let place = Place { toc, toc_digest: sha256(&table_compressed), split };
    let Ok(toc) = Toc::parse(&table_compressed, &place) else { return };
    let Ok(split) = Split::open(lines_compressed, &place, &toc) else { return };
    let mut number = 0_usize;
    let plan = Plan::new(toc, |_| {
        number += 1;
        (number % 3 == 0).then_some(number)
    });
    let mut last = 0;
    for range in plan.ranges() {
        assert!(range.start >= last && range.start < range.end && range.end <= blob.len() as u64, "{range:?}");
        last = range.end;
    }
    let bytes = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    let fetched: Vec<u8> =
        plan.ranges().iter().flat_map(|range| &blob[bytes(range.start)..bytes(range.end)]).copied().collect();
    assert_eq!(plan.bytes(), fetched.len() as u64);
    let open = |_: usize, file: &chunked::File| Ok(Cursor::new(vec![b'x'; bytes(file.size.min(1000))]));
    let mut archive = Assembly::new(plan, split, open, &fetched[..]).take(LIMIT);
    let _ = std::io::copy(&mut archive, &mut std::io::sink());
}
