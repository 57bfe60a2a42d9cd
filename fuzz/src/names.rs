//! Names: references of images, and names of members that may be whiteouts.

use layer::Whiteout;
use layer::whiteout::classify_path;
use types::Reference;

/// A reference as people and archives write it.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(reference) = Reference::parse(text) else { return };
    assert_eq!(Reference::parse(&reference.to_string()).expect("its full form"), reference);
    assert_eq!(Reference::parse(&reference.familiar()).expect("its short form"), reference);
    let path = reference.path();
    let out = path.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.contains(".."));
    assert!(!out && path.len() <= 255 && path.is_ascii() && !path.bytes().any(|byte| byte.is_ascii_uppercase()));
    assert!(reference.clone().with_default_tag().tag().is_some() || reference.digest().is_some());
}

/// The path of a member.
pub fn whiteout(data: &[u8]) {
    let parts = || data.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let Ok(found) = classify_path(parts()) else { return };
    let last = parts().next_back().unwrap_or_default();
    assert!(parts().rev().skip(1).all(|part| !part.starts_with(b".wh.")));
    match found {
        Whiteout::None => assert!(!last.starts_with(b".wh.")),
        Whiteout::Delete(name) => {
            assert!(!name.is_empty() && name != b"." && name != b".." && !name.starts_with(b".wh."));
            assert_eq!([b".wh.", name].concat(), last);
        }
        Whiteout::Opaque => assert_eq!(last, b".wh..wh..opq"),
        Whiteout::Ignored => assert!(last.starts_with(b".wh..wh.")),
    }
}
