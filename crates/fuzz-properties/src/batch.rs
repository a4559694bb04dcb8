//! Bodies of `$batch` requests.

use bytes::Bytes;
use citrix_wire::citrix::AuthorizationScheme;
use citrix_wire::citrix::batch::BatchBody;
use http::HeaderValue;
use serde_json::Value;

/// Checks a body: a batch is JSON for another parser as well, its items are those that this one finds,
/// and the body with its tokens replaced differs in these alone.
pub fn batch_body(body: &[u8]) {
    let body = Bytes::copy_from_slice(body);
    let Ok(batch) = BatchBody::parse(&body) else {
        return;
    };
    // It may have numbers and surrogates that have no value, in members that do not matter.
    let Some(mut parsed) = json(&body) else {
        return;
    };
    let items = member(&parsed, "Items")
        .and_then(Value::as_array)
        .expect("a batch has items");
    assert_eq!(batch.items().len(), items.len());
    for (ours, item) in batch.items().iter().zip(items) {
        let text = |name| member(item, name).and_then(Value::as_str);
        assert_eq!(Some(&*ours.relative_url), text("RelativeUrl"));
        assert_eq!(ours.method, text("Method").unwrap_or("GET"));
    }
    let (cws, bearer) = ("CwsAuth Bearer=ours", "Bearer ours");
    let [cws, bearer] = [cws, bearer].map(HeaderValue::from_static);
    let filled = batch.into_template().fill(|scheme| match scheme {
        AuthorizationScheme::Cws => &cws,
        AuthorizationScheme::Bearer => &bearer,
    });
    let mut filled = json(&filled.concat()).expect("it is still JSON");
    remove_tokens(&mut filled);
    remove_tokens(&mut parsed);
    assert_eq!(filled, parsed);
}

/// Parses a body, which .NET may begin with a byte order mark.
fn json(body: &[u8]) -> Option<Value> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    serde_json::from_slice(body).ok()
}

/// Returns a member whatever the case of its name.
fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let members = value.as_object()?.iter();
    let mut named = members.filter(|(other, _)| other.eq_ignore_ascii_case(name));
    let (_, found) = named.next()?;
    assert!(named.next().is_none(), "{name} is ambiguous");
    Some(found)
}

/// Removes the values of the field `Authorization` of all items.
fn remove_tokens(batch: &mut Value) {
    fn elements<'v>(
        value: &'v mut Value,
        name: &'static str,
    ) -> impl Iterator<Item = &'v mut Value> {
        let members = value.as_object_mut().into_iter().flatten();
        let named = members.filter(move |(other, _)| other.eq_ignore_ascii_case(name));
        named.flat_map(|(_, value)| value.as_array_mut()).flatten()
    }
    for item in elements(batch, "Items") {
        for field in elements(item, "Headers") {
            let name = member(field, "Name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if !name.trim().eq_ignore_ascii_case("authorization") {
                continue;
            }
            let members = field.as_object_mut().into_iter().flatten();
            for (_, value) in members.filter(|(name, _)| name.eq_ignore_ascii_case("value")) {
                *value = Value::Null;
            }
        }
    }
}
