//! Global App Configuration: documents with an `ETag` (contract §3 and §4). It is one of the few services that take
//! the standard scheme (contract §2).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{
    CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::json;

use super::answers::{self, Response};
use super::call::Call;
use super::trust::is_json;

const DOCUMENT_LIMIT: usize = 64 * 1024;
const CAPACITY: usize = 100;

/// The documents that were changed; all others have their first content.
#[derive(Default)]
pub(super) struct Documents(Mutex<BTreeMap<String, Document>>);

#[derive(Clone)]
struct Document {
    version: u32,
    content: Bytes,
}

impl Documents {
    fn get(&self, key: &str) -> Document {
        present(&self.lock(), key)
    }

    /// Stores a new content over the version that the caller knows, or any; else 409, and 507 without room.
    fn put(&self, key: &str, known: Option<&str>, content: Bytes) -> Result<Document, StatusCode> {
        let mut documents = self.lock();
        let present = present(&documents, key);
        if known.is_some_and(|known| known != "*" && known != present.tag()) {
            return Err(StatusCode::CONFLICT);
        }
        if documents.len() >= CAPACITY && !documents.contains_key(key) {
            return Err(StatusCode::INSUFFICIENT_STORAGE);
        }
        let document = Document {
            version: present.version + 1,
            content,
        };
        documents.insert(key.to_owned(), document.clone());
        Ok(document)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Document>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn present(documents: &BTreeMap<String, Document>, key: &str) -> Document {
    let first = Bytes::from_static(br#"{"items":[],"count":0,"nextPageToken":null}"#);
    documents.get(key).cloned().unwrap_or(Document {
        version: 1,
        content: first,
    })
}

impl Document {
    fn tag(&self) -> String {
        format!("\"{}\"", self.version)
    }

    fn with_tag(&self, response: Response) -> Response {
        let response = answers::with_text(response, ETAG, &self.tag());
        answers::with(
            response,
            X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        )
    }
}

/// `GET` or `PUT` of any path below `/aca`, one document for each customer and path.
pub(super) async fn answer(call: Call<'_>) -> Response {
    let key = format!("{}/{}", call.tenant().id(), call.rest.join("/"));
    let field = |name: HeaderName| {
        call.parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    if call.is_get() {
        let document = call.state.documents.get(&key);
        if field(IF_NONE_MATCH).is_some_and(|known| known == document.tag()) {
            return document.with_tag(answers::empty(StatusCode::NOT_MODIFIED));
        }
        let response = answers::text(StatusCode::OK, document.content.clone());
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        return document.with_tag(answers::with(response, CONTENT_TYPE, json));
    }
    if ![Method::PUT, Method::POST].contains(&call.parts.method) {
        return answers::method_not_allowed("GET, HEAD, PUT, POST");
    }
    if !is_json(&call.parts.headers) {
        return answers::unsupported_media_type();
    }
    let known = field(IF_MATCH).map(str::to_owned);
    let Ok(content) = Limited::new(call.body, DOCUMENT_LIMIT).collect().await else {
        return answers::empty(StatusCode::PAYLOAD_TOO_LARGE);
    };
    match call
        .state
        .documents
        .put(&key, known.as_deref(), content.to_bytes())
    {
        Ok(document) => document.with_tag(answers::empty(StatusCode::NO_CONTENT)),
        Err(StatusCode::CONFLICT) => {
            let detail = "The object has been changed meanwhile.";
            answers::standard_error(
                StatusCode::CONFLICT,
                "common/optimisticConcurrency",
                detail,
                json!([]),
            )
        }
        Err(status) => answers::empty(status),
    }
}
