//! Random profiles: the compiled program against the naive reading.

use crate::machine::Program;
use crate::profiles::{NATIVE, OPS, calls, context, mixed_profile, uniform_profile};
use crate::reading::expect;
use proptest::prelude::*;
use seccomp::{Profile, compile};

fn agrees(profile: &Profile) {
    for arch in NATIVE {
        let context = context(arch, 0);
        let program = Program::new(&compile(profile, &context).unwrap(), arch);
        calls(profile, &context, |call| {
            let (got, want) = (program.answer(&call), expect(profile, &context, &call));
            assert_eq!(got, want, "{context:x?} {call:x?}: got {got:#x}, want {want:#x}");
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn uniform_profiles_agree(profile in uniform_profile()) {
        agrees(&profile);
    }

    #[test]
    fn mixed_profiles_agree(profile in mixed_profile(OPS)) {
        agrees(&profile);
    }
}
