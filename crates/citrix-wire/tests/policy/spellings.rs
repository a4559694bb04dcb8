//! Limits, logins and batches are found in every reading of a path.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

use citrix_wire::citrix::batch::BatchPath;
use citrix_wire::citrix::login::endpoint_in;
use citrix_wire::path::covers;
use citrix_wire::path_readings::PathReadings;
use testkit::path_table::{BATCH_LOOKALIKES, LIMITED_SPELLINGS, LOGIN_SPELLINGS};
use testkit::servers::{first_reading, is_batch, is_limited, is_login};

fn has_limit(path: &str) -> bool {
    let readings = PathReadings::of(path).unwrap();
    readings
        .with(path)
        .any(|reading| covers("/monitorodata", &reading.to_lowercase()))
}

fn has_login(path: &str) -> bool {
    endpoint_in(path, &PathReadings::of(path).unwrap()).is_some()
}

fn batch_path(path: &str) -> BatchPath {
    BatchPath::of(path, &PathReadings::of(path).unwrap())
}

#[test]
fn unusual_spelling_hides_no_limit_and_no_login() {
    for path in LIMITED_SPELLINGS {
        assert!(has_limit(path), "{path}");
    }
    for path in LOGIN_SPELLINGS {
        assert!(has_login(path), "{path}");
    }
    for path in ["/monitorodata2/x", "/x/monitorodata", "/cvad/manage/x%20y"] {
        assert!(!has_limit(path), "{path}");
    }
    for path in [
        "/acme/tokens/clients/x",
        "/acme/tokens/client;s",
        "/tokens/clients",
        "/acme/token%20s/clients",
    ] {
        assert!(!has_login(path), "{path}");
    }
}

#[test]
fn path_that_only_resembles_a_batch_is_a_lookalike() {
    for path in [
        "/cvad/manage/$batch",
        "/CVAD/Manage/%24Batch/",
        "/citrix/orchestration/api/acme/my%20site/$batch",
    ] {
        assert_eq!(batch_path(path), BatchPath::Api, "{path}");
    }
    for path in BATCH_LOOKALIKES {
        assert_eq!(batch_path(path), BatchPath::Lookalike, "{path}");
    }
    for path in [
        "/cvad/manage/Machines",
        "/cvad/manage/$batches",
        "/cvad/manage/$%62atch/x",
        "/monitorodata/$batch",
        "/x/%24batch",
        "/x//cvad/manage/$batch",
    ] {
        assert_eq!(batch_path(path), BatchPath::Other, "{path}");
    }
}

/// Parts of generated paths.
const PIECES: [&str; 50] = [
    "/",
    "/",
    "/",
    "/",
    "/",
    "/",
    "//",
    "\\",
    "%2f",
    "%5C",
    "%252F",
    "%c0%af",
    "%EF%BC%8F",
    ".",
    "..",
    "/..",
    "/../",
    "/./",
    "%2e",
    "%2E%2e",
    "%252e",
    "...",
    ";",
    ";x",
    "%3b",
    "?",
    "%3F",
    "%23",
    "%00",
    "+",
    "%20",
    "%",
    "x",
    "monitorodata",
    "%6donitorodata",
    "MonitorOData",
    "cvad",
    "manage",
    "cvad/manage",
    "/cvad/manage/",
    "$batch",
    "$%62atch",
    "%24Batch",
    "acme",
    "tokens",
    "clients",
    "tokens/clients",
    "/acme/tokens/",
    "%2563lients",
    "%EF%BD%83lients",
];

proptest! {
    // A fixed seed: the fuzz target explores, this test must not fail by chance.
    #![proptest_config(ProptestConfig {
        cases: 20_000,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn reading_of_every_server_is_found(pieces in vec(select(&PIECES[..]), 1..8)) {
        let path = format!("/{}", pieces.concat());
        let path = path.split('?').next().unwrap();
        if let Some(server) = first_reading(path, is_limited) {
            prop_assert!(has_limit(path), "{} {}", path, server);
        }
        if let Some(server) = first_reading(path, is_login) {
            prop_assert!(has_login(path), "{} {}", path, server);
        }
        if let Some(server) = first_reading(path, is_batch) {
            prop_assert!(batch_path(path) != BatchPath::Other, "{} {}", path, server);
        }
    }
}
