//! The corpus of the fuzz targets, replayed through the same properties (`fuzz/`, CONTRIBUTING.md).

use std::fs;
use std::path::Path;

fn replay(target: &str, property: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        property(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 10, "{target}: only {count} corpus entries");
}

#[test]
fn token_response_corpus_satisfies_its_property() {
    replay("token_response", fuzz_properties::token_response);
}

#[test]
fn retry_after_corpus_satisfies_its_property() {
    replay("retry_after", fuzz_properties::retry_after);
}

#[test]
fn link_rewrite_corpus_satisfies_its_property() {
    replay("link_rewrite", fuzz_properties::link_rewrite);
}

#[test]
fn login_request_corpus_satisfies_its_property() {
    replay("login_request", fuzz_properties::login_request);
}

#[test]
fn path_rules_corpus_satisfies_its_property() {
    replay("path_rules", fuzz_properties::path_rules);
}

#[test]
fn upstream_response_corpus_satisfies_its_property() {
    replay("upstream_response", fuzz_properties::upstream_response);
}

#[test]
fn inbound_connection_corpus_satisfies_its_property() {
    replay("inbound_connection", fuzz_properties::inbound_connection);
}

#[test]
fn inbound_frames_corpus_satisfies_its_property() {
    replay("inbound_frames", fuzz_properties::inbound_frames);
}

#[test]
fn proxy_header_corpus_satisfies_its_property() {
    replay("proxy_header", fuzz_properties::proxy_header);
}

#[test]
fn hosts_corpus_satisfies_its_property() {
    replay("hosts", fuzz_properties::hosts);
}

#[test]
fn batch_body_corpus_satisfies_its_property() {
    replay("batch_body", fuzz_properties::batch_body);
}

#[test]
fn request_fields_corpus_satisfies_its_property() {
    replay("request_fields", fuzz_properties::request_fields);
}

#[test]
fn response_fields_corpus_satisfies_its_property() {
    replay("response_fields", fuzz_properties::response_fields);
}

#[test]
fn odata_query_corpus_satisfies_its_property() {
    replay("odata_query", fuzz_properties::odata_query);
}

#[test]
fn configuration_corpus_satisfies_its_property() {
    replay("configuration", fuzz_properties::configuration);
}

#[test]
fn store_replies_corpus_satisfies_its_property() {
    replay("store_replies", fuzz_properties::store_replies);
}
