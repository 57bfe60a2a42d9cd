//! Names for containers whose user gave none: an adjective and the surname of a seafarer,
//! navigator or astronomer. Called by container creation, which retries on a clash.

const ADJECTIVES: &[&str] = &[
    "able", "agile", "amber", "ample", "ancient", "ardent", "azure", "balmy", "blithe", "bold", "brave", "breezy",
    "bright", "brisk", "calm", "candid", "cheery", "clever", "coastal", "cool", "cosy", "crisp", "curious", "daring",
    "deft", "eager", "earnest", "fair", "fleet", "fond", "frank", "fresh", "gallant", "gentle", "glad", "golden",
    "grand", "hardy", "hearty", "honest", "humble", "jaunty", "jolly", "keen", "kind", "lively", "loyal", "lucid",
    "merry", "mighty", "modest", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite", "proud", "quick",
    "quiet", "ready", "robust", "rosy", "serene", "sharp", "silent", "silver", "sleek", "smart", "snug", "spry",
    "steady", "stoic", "sturdy", "subtle", "sunny", "swift", "tender", "tidal", "tidy", "trusty", "upbeat", "vivid",
    "warm", "wise", "witty", "zesty",
];

const SURNAMES: &[&str] = &[
    "amundsen",
    "anning",
    "baffin",
    "banks",
    "barents",
    "baret",
    "battuta",
    "beaufort",
    "bering",
    "bligh",
    "bode",
    "bougainville",
    "brahe",
    "burnell",
    "cabot",
    "cabral",
    "cannon",
    "cartier",
    "cassini",
    "chichester",
    "cook",
    "cousteau",
    "dampier",
    "dezhnev",
    "dias",
    "drake",
    "earle",
    "erikson",
    "eudoxus",
    "faxian",
    "fernandes",
    "fleming",
    "flinders",
    "franklin",
    "frobisher",
    "galilei",
    "gama",
    "halley",
    "hanno",
    "harrison",
    "hawkins",
    "henslow",
    "herschel",
    "hevelius",
    "hipparchus",
    "hubble",
    "hudson",
    "huygens",
    "hypatia",
    "idrisi",
    "ito",
    "joyon",
    "kepler",
    "knox",
    "krill",
    "laperouse",
    "leavitt",
    "lepaute",
    "magellan",
    "majid",
    "marco",
    "maury",
    "mawson",
    "mayer",
    "mercator",
    "mitchell",
    "nansen",
    "nicollet",
    "norgay",
    "nunes",
    "ortelius",
    "park",
    "payne",
    "peary",
    "perouse",
    "pinzon",
    "polo",
    "ptolemy",
    "pytheas",
    "raleigh",
    "roemer",
    "ross",
    "rubin",
    "sacagawea",
    "scott",
    "shackleton",
    "slocum",
    "somerville",
    "stark",
    "tasman",
    "tharp",
    "torres",
    "tupaia",
    "vespucci",
    "wallace",
    "weddell",
    "xu",
    "zheng",
];

/// A random name; from the third attempt on with a digit, so that a full house still finds one.
pub(crate) fn random(attempt: u32) -> String {
    let bits = random_u64();
    let adjective = ADJECTIVES[(bits & 0xffff) as usize % ADJECTIVES.len()];
    let surname = SURNAMES[((bits >> 16) & 0xffff) as usize % SURNAMES.len()];
    if attempt < 3 {
        format!("{adjective}_{surname}")
    } else {
        format!("{adjective}_{surname}{}", (bits >> 32) % 10000)
    }
}

/// 64 random bits from the kernel.
pub(crate) fn random_u64() -> u64 {
    getrandom::u64().expect("the kernel's random source answers once the system is up")
}

/// A fresh 64-digit lower-case hexadecimal id whose short form is not a number, so that a short id
/// is never mistaken for one in a port or pid position.
pub(crate) fn random_id() -> String {
    loop {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).expect("the kernel's random source answers once the system is up");
        let id = faster_hex::hex_string(&bytes);
        if id[..12].bytes().any(|b| b.is_ascii_alphabetic()) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_container_names() {
        for word in ADJECTIVES.iter().chain(SURNAMES) {
            assert!(word.bytes().all(|b| b.is_ascii_lowercase()) && word.len() > 1, "{word}");
        }
        assert!(random(5).bytes().last().unwrap().is_ascii_digit());
        assert_eq!(random_id().len(), 64);
        assert_ne!(random_id(), random_id());
    }
}
