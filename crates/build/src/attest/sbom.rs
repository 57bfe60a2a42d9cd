//! What a result is made of, in the form of SPDX 2.3: the packages that its databases name.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sys::path::Root;

use super::packages::{Installed, Package, installed};
use super::statement::{Statement, escaped};

const TYPE: &str = "https://spdx.dev/Document";
const ROOT: &str = "SPDXRef-Image";

/// The statement; `created` is when the result was made.
pub(super) fn make(filename: &str, root: &Root, created: Option<&str>) -> Statement {
    let found = installed(root);
    Statement { filename: filename.to_owned(), predicate_type: TYPE, predicate: document(&found, created) }
}

fn document(found: &Installed, created: Option<&str>) -> Value {
    let mut packages = vec![json!({
        "SPDXID": ROOT, "name": "image", "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
        "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION",
    })];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", ROOT)];
    for one in &found.packages {
        let (id, package) = package(one, &found.distribution);
        relations.push(relation(ROOT, "CONTAINS", &id));
        packages.push(package);
    }
    let mut comment = String::from("Packages are those that the databases of dpkg and apk in the image name.");
    if found.rpm {
        comment
            .push_str(" The image has a database of rpm, which was not read: packages installed with rpm are missing.");
    }
    if found.cut {
        comment.push_str(" The databases name more packages than are listed.");
    }
    // SPDX wants seconds, without a fraction.
    let seconds = created.and_then(|text| text.parse::<jiff::Timestamp>().ok()).map_or(0, jiff::Timestamp::as_second);
    let created = jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default();
    let content = json!([packages, created]).to_string();
    let own = faster_hex::hex_string(&Sha256::digest(content.as_bytes()));
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": "image",
        "documentNamespace": format!("urn:sha256:{own}"),
        "comment": comment,
        "creationInfo": { "creators": [concat!("Tool: dhow-", env!("CARGO_PKG_VERSION"))], "created": created },
        "packages": packages,
        "relationships": relations,
    })
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

fn package(one: &Package, (distribution, release): &(String, String)) -> (String, Value) {
    // Ids have letters, digits, dots and hyphens only; the end keeps apart what those make the same.
    let plain: String = one.name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let text = [one.kind, &one.name, &one.version, &one.architecture].join("\0");
    let hash = faster_hex::hex_string(&Sha256::digest(text.as_bytes()));
    let id = format!("SPDXRef-Package-{}-{plain}-{}", one.kind, hash.get(..12).unwrap_or_default());
    let mut qualifiers = Vec::new();
    if !one.architecture.is_empty() {
        qualifiers.push(format!("arch={}", escaped(&one.architecture)));
    }
    if !distribution.is_empty() {
        let release = if release.is_empty() { String::new() } else { format!("-{}", escaped(release)) };
        qualifiers.push(format!("distro={}{release}", escaped(distribution)));
    }
    let qualifiers = if qualifiers.is_empty() { String::new() } else { format!("?{}", qualifiers.join("&")) };
    let vendor = match (one.kind, distribution.as_str()) {
        ("deb", "") => "debian",
        ("apk", "") => "alpine",
        (_, distribution) => distribution,
    };
    let (vendor, name, version) = (escaped(vendor), escaped(&one.name), escaped(&one.version));
    let purl = format!("pkg:{}/{vendor}/{name}@{version}{qualifiers}", one.kind);
    let mut package = json!({
        "SPDXID": id, "name": one.name, "versionInfo": one.version,
        "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION",
        "externalRefs": [{ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl }],
    });
    if let Some(object) = package.as_object_mut() {
        if !one.license.is_empty() {
            object.insert("licenseComments".to_owned(), format!("The package declares: {}", one.license).into());
        }
        if !one.supplier.is_empty() {
            // Addresses are in round brackets there.
            let supplier = one.supplier.replace('<', "(").replace('>', ")");
            object.insert("supplier".to_owned(), format!("Organization: {supplier}").into());
        }
    }
    (id, package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_have_ids_of_their_own_and_addresses() {
        let package = |name: &str, version: &str| Package {
            kind: "deb",
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            ..Package::default()
        };
        let found = Installed {
            packages: [package("libstdc++6", "12.2.0-14"), package("libstdc--6", "1"), package("a", "1:2+b")].into(),
            distribution: ("debian".into(), "12".into()),
            rpm: true,
            cut: false,
        };
        let document = document(&found, Some("2023-11-14T22:13:20.5Z"));
        assert_eq!(document["creationInfo"]["created"], "2023-11-14T22:13:20Z");
        assert!(document["comment"].as_str().unwrap().contains("rpm"));
        let packages = document["packages"].as_array().unwrap();
        let ids: std::collections::HashSet<_> = packages.iter().map(|p| p["SPDXID"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 4);
        assert!(ids.iter().all(|id| id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))));
        let locator = |at: usize| packages[at]["externalRefs"][0]["referenceLocator"].as_str().unwrap();
        assert_eq!(locator(1), "pkg:deb/debian/a@1:2%2Bb?arch=amd64&distro=debian-12");
        assert_eq!(document["relationships"].as_array().unwrap().len(), 4);
        assert_eq!(super::document(&found, Some("2023-11-14T22:13:20.7Z")), document);
    }
}
