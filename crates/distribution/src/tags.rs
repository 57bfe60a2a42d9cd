//! The tags of a repository (distribution-spec 1.1, "Listing Tags"), page after page.

use crate::auth::Credentials;
use crate::client::Client;
use crate::endpoint::Purpose;
use crate::error::Error;
use crate::repository::Repository;
use http::header;
use serde::Deserialize;
use types::Reference;

/// Longest page.
const PAGE_MAX: u64 = 4 << 20;
/// Most tags taken of a repository, and with it the end of a registry that pages for ever.
const TAGS_MAX: usize = 100_000;
/// Most pages asked for.
const PAGES_MAX: usize = 10_000;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Client {
    /// Every tag of a reference's repository, in the registry's order.
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub async fn tags(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<Vec<String>, Error> {
        let listed = self.with_repository(reference, credentials, Purpose::Resolve, async |r| list(r).await).await?;
        Ok(listed.0)
    }
}

async fn list(repository: &Repository) -> Result<Vec<String>, Error> {
    let mut tags: Vec<String> = Vec::new();
    let mut rest = "tags/list".to_owned();
    for _ in 0..PAGES_MAX {
        let answer = repository.get(&rest, &[], &|_| ()).await?;
        let next = answer.response.headers().get(header::LINK).and_then(|v| next_page(v.to_str().ok()?));
        let bytes = repository.transport.read_capped(answer.response, PAGE_MAX, "GET", &answer.url).await?;
        let bad = |why| Error::Protocol { url: answer.url.to_string(), why };
        let page: Page = serde_json::from_slice(&bytes).map_err(|_| bad("it is not the expected JSON"))?;
        tags.extend(page.tags.unwrap_or_default());
        if tags.len() > TAGS_MAX {
            return Err(bad("it has more tags than are taken of one repository"));
        }
        match next {
            Some(next) => rest = format!("tags/list?{next}"),
            None => return Ok(tags),
        }
    }
    Ok(tags)
}

/// The query of the page after this one: `</v2/NAME/tags/list?last=x>; rel="next"`. Only the query is
/// used, so that a registry cannot send us elsewhere.
pub(crate) fn next_page(link: &str) -> Option<String> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let next = parameters.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
    let query = target.split('#').next()?.split_once('?')?.1;
    (next && !query.is_empty()).then(|| query.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        for (link, expected) in [
            ("</v2/a/tags/list?last=b&n=2>; rel=\"next\"", Some("last=b&n=2")),
            ("<https://other.example/v2/a/tags/list?n=2>; rel=next", Some("n=2")),
            ("</v2/a/tags/list>; rel=\"next\"", None),
            ("</v2/a/tags/list?n=2>; rel=\"prev\"", None),
            ("nonsense", None),
        ] {
            assert_eq!(next_page(link).as_deref(), expected, "{link}");
        }
    }
}
