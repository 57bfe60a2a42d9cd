//! Runs every seed, and a hundred neighbours of each, through its target, on stable and without instrumentation.
//! What the fuzzer finds is added to the seeds, so that it is found again here should it come back.

use std::path::Path;

use fuzz::TARGETS;

/// xorshift64*: the same neighbours in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound.max(1) as u64) as usize
    }
}

#[test]
fn seeds_and_their_neighbours() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (name, target) in TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let mut paths: Vec<_> = std::fs::read_dir(&dir).expect(name).map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{name} has no seeds");
        target(b"");
        for path in paths {
            let seed = std::fs::read(&path).unwrap();
            target(&seed);
            for _ in 0..100 {
                let mut near = seed.clone();
                for _ in 0..1 + random.below(4) {
                    let (at, byte) = (random.below(near.len() + 1), random.below(256) as u8);
                    match random.below(4) {
                        0 => near.truncate(at),
                        1 if at < near.len() => drop(near.remove(at)),
                        2 => near.insert(at, byte),
                        _ => near.get_mut(at).into_iter().for_each(|place| *place = byte),
                    }
                }
                target(&near);
            }
        }
    }
}
