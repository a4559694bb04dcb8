//! Faults injected at each hop: what the caller gets, whether the request is sent again, and what is
//! recorded.

mod caller;

use serde_json::Value;

use crate::harness::{Gateway, get};

/// Returns the exchange with this id, as the access log and `/transactions/{id}` state it.
async fn recorded(gateway: &Gateway, id: &str) -> Value {
    let found = gateway.admin(get(&format!("/transactions/{id}"))).await;
    let found: Value = serde_json::from_slice(&found.body).unwrap();
    found["exchanges"][0].clone()
}
