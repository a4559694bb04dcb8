//! Storage of the documents of Global App Configuration.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{ETAG, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};

use super::responses::{self, Response};

const CAPACITY: usize = 100;

/// Documents that were changed; all others have their initial content.
#[derive(Default)]
pub(super) struct Documents(Mutex<BTreeMap<String, Document>>);

#[derive(Clone)]
pub(super) struct Document {
    version: u32,
    pub(super) content: Bytes,
}

impl Documents {
    pub(super) fn get(&self, key: &str) -> Document {
        present(&self.lock(), key)
    }

    /// Stores new content if `known` is `*`, absent, or the current version; returns 409 otherwise,
    /// and 507 at capacity.
    pub(super) fn put(
        &self,
        key: &str,
        known: Option<&str>,
        content: Bytes,
    ) -> Result<Document, StatusCode> {
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
    pub(super) fn tag(&self) -> String {
        format!("\"{}\"", self.version)
    }

    pub(super) fn with_tag(&self, response: Response) -> Response {
        let response = responses::with_text(response, ETAG, &self.tag());
        responses::with(
            response,
            X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        )
    }
}
