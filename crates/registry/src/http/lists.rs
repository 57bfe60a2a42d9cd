//! Lists: tags, repositories, referrers (distribution-spec, "Content Discovery"). Every answer is bounded; where there
//! is more, a `Link` leads on (RFC 8288).

use std::sync::Arc;

use http::header;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use types::Digest;

use super::{Answer, FILTERS_APPLIED, Service, blocking, document, route, set};
use crate::auth::{Right, Visitor};
use crate::error::{Code, Error, Result};
use crate::manifest::OCI_INDEX;
use crate::name::RepositoryName;

/// Most names in an answer.
const PAGE_MAX: usize = 10_000;
/// Referrers looked at for an answer, and bytes of descriptors after which it ends.
const REFERRERS_PAGE: (usize, usize) = (1000, 2 << 20);

/// What a client asks of a list.
struct Page {
    count: usize,
    /// Whether the client named the count.
    asked: bool,
    last: String,
}

impl Page {
    fn parse(query: Option<&str>) -> Result<Self> {
        let asked = route::query(query, "n");
        let count = match &asked {
            None => PAGE_MAX,
            Some(text) if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) => {
                text.parse().unwrap_or(PAGE_MAX).min(PAGE_MAX)
            }
            Some(_) => {
                let error = Error::new(Code::Unsupported, "n must be a whole number, 0 or more");
                return Err(error.with_status(StatusCode::BAD_REQUEST));
            }
        };
        Ok(Self { count, asked: asked.is_some(), last: route::query(query, "last").unwrap_or_default() })
    }

    /// The names of this page of a sorted list, and whether there are more.
    fn cut(&self, names: impl Iterator<Item = Result<String>>) -> Result<(Vec<String>, bool)> {
        let mut out = Vec::new();
        if self.count == 0 {
            return Ok((out, false));
        }
        for name in names {
            if out.len() == self.count {
                return Ok((out, true));
            }
            out.push(name?);
        }
        Ok((out, false))
    }

    fn answer(&self, path: &str, value: &Value, last: Option<&String>) -> Answer {
        let text = value.to_string();
        let mut answer = document(StatusCode::OK, "application/json", text.into(), &Method::GET);
        if let Some(last) = last {
            let count = if self.asked { self.count } else { PAGE_MAX };
            let link = format!("<{path}?n={count}&last={}>; rel=\"next\"", route::encode(last));
            set(answer.headers_mut(), header::LINK, &link);
        }
        answer
    }
}

pub(super) async fn tags(service: &Arc<Service>, name: RepositoryName, query: Option<&str>) -> Result<Answer> {
    let page = Page::parse(query)?;
    blocking(service, move |service| {
        let all = service.storage.tags(&name).map_err(Error::io("list tags"))?.ok_or_else(|| {
            Error::new(Code::NameUnknown, format!("there is no repository {}: push to it first", name.as_str()))
        })?;
        let (tags, more) = page.cut(all.into_iter().filter(|tag| *tag > page.last).map(Ok))?;
        let path = format!("/v2/{}/tags/list", name.as_str());
        let last = tags.last().filter(|_| more).cloned();
        Ok(page.answer(&path, &json!({"name": name.as_str(), "tags": tags}), last.as_ref()))
    })
    .await
}

pub(super) async fn catalog(service: &Arc<Service>, visitor: Visitor, query: Option<&str>) -> Result<Answer> {
    let page = Page::parse(query)?;
    blocking(service, move |service| {
        let all = service.storage.repositories().map_err(Error::io("list repositories"))?;
        let later = all.into_iter().filter(|name| name.as_str() > page.last.as_str());
        // What one may not pull one is not told of.
        let later = later.filter(|name| visitor.may(name, Right::Pull));
        let filled = later.filter_map(|name| match service.storage.has_manifests(&name) {
            Ok(true) => Some(Ok(name.as_str().to_owned())),
            Ok(false) => None,
            Err(e) => Some(Err(Error::io("list repositories")(e))),
        });
        let (names, more) = page.cut(filled)?;
        let last = names.last().filter(|_| more).cloned();
        Ok(page.answer("/v2/_catalog", &json!({"repositories": names}), last.as_ref()))
    })
    .await
}

pub(super) async fn referrers(
    service: &Arc<Service>,
    name: RepositoryName,
    subject: Digest,
    query: Option<&str>,
) -> Result<Answer> {
    let wanted = route::query(query, "artifactType").filter(|text| !text.is_empty());
    let last = route::query(query, "last").and_then(|last| last.parse::<Digest>().ok());
    blocking(service, move |service| {
        let fail = || Error::io("list referrers");
        let all = service.storage.referrers(&name, &subject).map_err(fail())?;
        let mut later = all.into_iter().filter(|digest| last.is_none_or(|last| *digest > last)).peekable();
        let (mut list, mut looked, mut reached) = (String::new(), 0, None);
        while looked < REFERRERS_PAGE.0 && list.len() < REFERRERS_PAGE.1 {
            let Some(digest) = later.next() else { break };
            (looked, reached) = (looked + 1, Some(digest));
            let Some(text) = service.storage.referrer(&name, &subject, &digest).map_err(fail())? else { continue };
            if let Some(wanted) = &wanted {
                let descriptor: Value = serde_json::from_str(&text).unwrap_or_default();
                if descriptor["artifactType"] != **wanted {
                    continue;
                }
            }
            if !list.is_empty() {
                list.push(',');
            }
            list.push_str(&text);
        }
        let text = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{list}]}}"#);
        let mut answer = document(StatusCode::OK, OCI_INDEX, text.into(), &Method::GET);
        let headers = answer.headers_mut();
        if wanted.is_some() {
            set(headers, FILTERS_APPLIED, "artifactType");
        }
        if let (Some(reached), true) = (reached, later.peek().is_some()) {
            let filter = wanted.map(|wanted| format!("artifactType={}&", route::encode(&wanted))).unwrap_or_default();
            let link = format!("</v2/{}/referrers/{subject}?{filter}last={reached}>; rel=\"next\"", name.as_str());
            set(headers, header::LINK, &link);
        }
        Ok(answer)
    })
    .await
}
