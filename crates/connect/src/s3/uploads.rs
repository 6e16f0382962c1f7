//! Uploads in parts: what the client can begin, fill, complete and abort, and here what it cannot: find them again.
//!
//! `object_store` asks for no listing of uploads and of their parts, so these two requests are made here, with its own
//! signature and its own HTTP. They only read, so each may be repeated.

use super::{Access, TRIES_MAX};
use crate::percent::encoded;
use millstream_core::{Error, Result};
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{ClientConfigKey, ClientOptions};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Pause before the second try, and the longest one.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// An upload that is neither complete nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upload {
    pub key: String,
    pub id: String,
}

/// A part of an upload, as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub number: usize,
    pub etag: String,
    pub size: u64,
}

impl Access {
    /// The uploads under way whose keys begin with `prefix`.
    pub(crate) fn uploads(&self, prefix: &str) -> Result<Vec<Upload>> {
        let root = Path::default();
        let (mut found, mut key_marker, mut id_marker) = (Vec::new(), String::new(), String::new());
        loop {
            let mut query = vec![("uploads", ""), ("prefix", prefix)];
            if !key_marker.is_empty() {
                query.extend([("key-marker", key_marker.as_str()), ("upload-id-marker", id_marker.as_str())]);
            }
            let page = self.ask(&root, &query).map_err(|e| self.failed("list the uploads of", &root, &e))?;
            for upload in elements(&page, "Upload") {
                if let (Some(key), Some(id)) = (element(upload, "Key"), element(upload, "UploadId")) {
                    found.push(Upload { key, id });
                }
            }
            let next = element(&page, "NextKeyMarker").filter(|next| !next.is_empty() && *next >= key_marker);
            match next {
                Some(next) if element(&page, "IsTruncated").as_deref() == Some("true") => {
                    let id = element(&page, "NextUploadIdMarker").unwrap_or_default();
                    if (&next, &id) == (&key_marker, &id_marker) {
                        return Ok(found);
                    }
                    (key_marker, id_marker) = (next, id);
                }
                _ => return Ok(found),
            }
        }
    }

    /// The parts of an upload in their order. `None`: there is no such upload, it is complete or was aborted.
    pub(crate) fn parts(&self, at: &Path, id: &str) -> Result<Option<Vec<Part>>> {
        let (mut found, mut marker) = (Vec::<Part>::new(), String::new());
        loop {
            let mut query = vec![("uploadId", id)];
            if !marker.is_empty() {
                query.push(("part-number-marker", &marker));
            }
            let page = match self.ask(at, &query) {
                Ok(page) => page,
                Err(e) if super::said(&e).0 == "NoSuchUpload" => return Ok(None),
                Err(e) => return Err(self.failed("list the parts of", at, &e)),
            };
            for part in elements(&page, "Part") {
                let number = element(part, "PartNumber").and_then(|n| n.parse().ok());
                let size = element(part, "Size").and_then(|n| n.parse().ok());
                let (Some(number), Some(size), Some(etag)) = (number, size, element(part, "ETag")) else {
                    return Err(Error::io("the server lists a part without number, size or ETag")
                        .at(self.place(at))
                        .remedy("use a server that knows ListParts of S3"));
                };
                found.push(Part { number, etag, size });
            }
            let next = element(&page, "NextPartNumberMarker").filter(|next| *next != marker);
            match next {
                Some(next) if element(&page, "IsTruncated").as_deref() == Some("true") => marker = next,
                _ => break,
            }
        }
        found.sort_by_key(|part| part.number);
        Ok(Some(found))
    }

    /// One request to read, tried again with back-off where that may help.
    fn ask(&self, at: &Path, query: &[(&str, &str)]) -> object_store::Result<String> {
        let (mut tries, mut pause, start) = (1, PAUSE_FIRST, std::time::Instant::now());
        loop {
            let (s3, region) = (self.client.s3.clone(), self.region.clone());
            let (http, to) = (self.http.clone(), at.clone());
            let query: Vec<String> = query.iter().map(|(k, v)| format!("{k}={}", encoded(v))).collect();
            let query = query.join("&");
            let answer = self.thread.wait(async move { get(&s3, &http, &region, &to, &query).await });
            let (error, again) = match answer {
                Ok((200..=299, text)) => return Ok(text),
                Ok((status, text)) => (refusal(at, status, &text), status == 429 || status >= 500),
                Err(Failure::Request(e)) => (e, false),
                Err(Failure::Way(e)) => (e, true),
            };
            if !again || tries >= TRIES_MAX || start.elapsed() >= self.client.trying {
                return Err(error);
            }
            // Between half of the pause and all of it: those who were refused together do not come again together.
            let dice = RandomState::new().hash_one(tries) % 1000;
            std::thread::sleep(pause.mul_f64(0.5 + dice as f64 / 2000.0));
            (tries, pause) = (tries + 1, (pause * 2).min(PAUSE_MAX));
        }
    }
}

enum Failure {
    /// It cannot be made.
    Request(object_store::Error),
    /// It was lost on the way.
    Way(object_store::Error),
}

async fn get(
    s3: &object_store::aws::AmazonS3,
    http: &HttpClient,
    region: &str,
    at: &Path,
    query: &str,
) -> Result<(u16, String), Failure> {
    let generic = |e: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic { store: "S3", source: e };
    // The client alone knows where the bucket stands in a URL; what it has signed there is not ours.
    let method = "GET".parse().expect("GET is a method");
    let signed = s3.signed_url(method, at, Duration::from_secs(60)).await.map_err(Failure::Request)?;
    let url = signed.as_str().split('?').next().unwrap_or_default();
    let credential = s3.credentials().get_credential().await.map_err(Failure::Request)?;
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.uri_mut() = format!("{url}?{query}").parse().map_err(|e| Failure::Request(generic(Box::new(e))))?;
    AwsAuthorizer::new(&credential, "s3", region).authorize(&mut request, None);
    let response = http.execute(request).await.map_err(|e| Failure::Way(generic(Box::new(e))))?;
    let status = response.status().as_u16();
    let body = response.into_body().bytes().await.map_err(|e| Failure::Way(generic(Box::new(e))))?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

fn refusal(at: &Path, status: u16, text: &str) -> object_store::Error {
    let (path, source) = (at.to_string(), format!("{status}: {text}").into());
    match status {
        401 => object_store::Error::Unauthenticated { path, source },
        403 => object_store::Error::PermissionDenied { path, source },
        404 => object_store::Error::NotFound { path, source },
        501 => object_store::Error::NotSupported { source },
        _ => object_store::Error::Generic { store: "S3", source },
    }
}

/// HTTP as the client of the bucket speaks it.
pub(super) fn http(
    value: impl Fn(ClientConfigKey) -> Option<String>,
    timeout: Duration,
) -> object_store::Result<HttpClient> {
    use ClientConfigKey as K;
    let mut options = ClientOptions::new().with_timeout(timeout).with_allow_http(true);
    for key in [K::AllowInvalidCertificates, K::ConnectTimeout, K::ProxyUrl, K::ProxyCaCertificate, K::ProxyExcludes] {
        if let Some(set) = value(key) {
            options = options.with_config(key, set);
        }
    }
    ReqwestConnector::default().connect(&options)
}

/// The insides of all elements of a name, none of which holds another of the same.
fn elements<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = xml;
    while let Some(from) = rest.find(&open) {
        rest = &rest[from + open.len()..];
        let Some(to) = rest.find(&close) else { break };
        found.push(&rest[..to]);
        rest = &rest[to + close.len()..];
    }
    found
}

/// The text of the first element of a name.
fn element(xml: &str, name: &str) -> Option<String> {
    elements(xml, name).first().map(|text| unescaped(text.trim()))
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(end) = rest.find(';') else { break };
        let name = &rest[1..end];
        let number = name.strip_prefix('#').and_then(|n| match n.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => n.parse().ok(),
        });
        let known = match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => number.and_then(char::from_u32),
        };
        match known {
            Some(c) => out.push(c),
            None => out.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_they_are_written() {
        let xml = "<R><IsTruncated>false</IsTruncated><Upload><Key>a&amp;b/&#x20;c</Key><UploadId>u&quot;1</UploadId>\
                   </Upload><Upload><Key>d</Key><UploadId>2</UploadId></Upload></R>";
        let uploads = elements(xml, "Upload");
        assert_eq!(uploads.len(), 2);
        assert_eq!(element(uploads[0], "Key").as_deref(), Some("a&b/ c"));
        assert_eq!(element(uploads[0], "UploadId").as_deref(), Some("u\"1"));
        assert_eq!(element(uploads[1], "Key").as_deref(), Some("d"));
        assert_eq!(element(xml, "NextKeyMarker"), None);
        assert_eq!(unescaped("a & b &unknown; &amp"), "a & b &unknown; &amp");
        assert_eq!(encoded("a/ä=1~"), "a%2F%C3%A4%3D1~");
    }
}
