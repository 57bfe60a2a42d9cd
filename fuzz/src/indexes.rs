//! The index of a layer: made within its bounds or refused, and the same for the same archive.

use erofs::{Options, Summary, Tree};
use layer::tar::Reader;

use crate::tars::{limits, sealed};

/// An archive to be indexed.
pub fn erofs_index(data: &[u8]) {
    let bytes = sealed(data);
    // Tables of names are keyed anew each time.
    let (one, other) = (index(&bytes), index(&bytes));
    assert!(one == other, "an index that is not the same every time");
}

const OPTIONS: Options = Options { memory_bytes: 8 << 20, index_bytes: 4 << 20 };

fn index(bytes: &[u8]) -> Option<(Vec<u8>, Summary)> {
    let mut reader = Reader::new(bytes, limits());
    let mut tree = Tree::new(OPTIONS);
    let mut members = 0;
    while let Some(entry) = reader.next_entry().ok()? {
        assert_eq!(reader.position() % 512, 0);
        tree.add(&entry, reader.position()).ok()?;
        members += 1;
    }
    let mut image = Vec::new();
    let summary = tree.finish(bytes.len() as u64, &mut image).ok()?;
    assert_eq!((summary.index_bytes, summary.entries), (image.len() as u64, members));
    assert!(summary.index_bytes <= OPTIONS.index_bytes && image[1024..1028] == 0xe0f5_e1e2_u32.to_le_bytes());
    Some((image, summary))
}
