//! Global App Configuration: documents with an `ETag` (contract §3 and §4). It is one of the few
//! services that accept `Bearer` (contract §2).

use http::header::{CONTENT_TYPE, HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::json;

use super::call::Call;
use super::responses::{self, Response};
use super::trust::is_json;

const DOCUMENT_LIMIT: usize = 64 * 1024;

/// Responds to any path below `/aca`: one document per customer and path.
pub(super) async fn respond(call: Call<'_>) -> Response {
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
            return document.with_tag(responses::empty(StatusCode::NOT_MODIFIED));
        }
        let response = responses::text(StatusCode::OK, document.content.clone());
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        return document.with_tag(responses::with(response, CONTENT_TYPE, json));
    }
    if ![Method::PUT, Method::POST].contains(&call.parts.method) {
        return responses::method_not_allowed("GET, HEAD, PUT, POST");
    }
    if !is_json(&call.parts.headers) {
        return responses::unsupported_media_type();
    }
    let known = field(IF_MATCH).map(str::to_owned);
    let Ok(content) = Limited::new(call.body, DOCUMENT_LIMIT).collect().await else {
        return responses::empty(StatusCode::PAYLOAD_TOO_LARGE);
    };
    match call
        .state
        .documents
        .put(&key, known.as_deref(), content.to_bytes())
    {
        Ok(document) => document.with_tag(responses::empty(StatusCode::NO_CONTENT)),
        Err(StatusCode::CONFLICT) => {
            let detail = "The object has been changed meanwhile.";
            responses::standard_error(
                StatusCode::CONFLICT,
                "common/optimisticConcurrency",
                detail,
                json!([]),
            )
        }
        Err(status) => responses::empty(status),
    }
}
