//! Rules applied to the items of a batch.

use citrix_wire::policy::batch::{batch_base, evaluate_items};
use citrix_wire::policy::path::Ambiguous;
use citrix_wire::policy::pattern::PathRules;
use citrix_wire::policy::{Decision, Restriction, Rules};

const SITE: &str = "61603f15-cdf9-4c7f-99ff-91636601a795";

fn rules(methods: &[&str], paths: &[&str]) -> Rules {
    let methods = methods
        .iter()
        .map(|method| method.parse().unwrap())
        .collect();
    Rules::new(
        methods,
        PathRules::new(paths.iter().copied()).unwrap(),
        Vec::new(),
    )
}

fn decision(rules: &Rules, method: &str, url: &str) -> Decision {
    evaluate_items(
        rules,
        "",
        "/cvad/manage",
        "acme",
        [("GET", "/Machines"), (method, url)],
    )
}

#[test]
fn last_segment_of_any_form_identifies_a_batch() {
    for (path, base) in [
        ("/cvad/manage/$batch", Some("/cvad/manage")),
        ("/cvad/manage/$batch/", Some("/cvad/manage")),
        ("/cvad/manage/%24batch", Some("/cvad/manage")),
        ("/CVAD/manage/$BATCH", Some("/CVAD/manage")),
        (
            "/region/eu/cvad/manage/$batch",
            Some("/region/eu/cvad/manage"),
        ),
        ("/monitorodata/$batch", Some("/monitorodata")),
        ("/$batch", Some("")),
        ("/cvad/manage/$batches", None),
        ("/cvad/manage/$batch/x", None),
        ("/cvad/manage/batch", None),
        ("/", None),
    ] {
        assert_eq!(batch_base(path), base, "{path}");
    }
}

#[test]
fn item_is_evaluated_like_a_request() {
    let rules = rules(
        &["GET", "POST"],
        &["/cvad/manage/Machines/**", "/cvad/manage/Machines"],
    );
    let (path, method) = (
        Decision::Denied(Restriction::Paths),
        Decision::Denied(Restriction::Methods),
    );
    for (item_method, url, expected) in [
        ("GET", "/Machines/1", Decision::Allowed),
        ("GET", "Machines/1", Decision::Allowed),
        ("POST", "/Machines/1/$reboot?async=true", Decision::Allowed),
        ("GET", "/Machines?limit=5&x=/../y", Decision::Allowed),
        ("DELETE", "/Machines/1", method),
        ("delete", "/Machines/1", method),
        ("GET", "/Administrators", path),
        ("GET", "", path),
        ("GET", "/", path),
        ("GET", "?x", path),
        // May resolve below the base or from the root; both must be allowed.
        ("GET", "/cvad/manage/Machines", path),
        (
            "GET",
            "/Machines/../Administrators",
            Decision::Ambiguous(Ambiguous::DotSegment),
        ),
        (
            "GET",
            "../Administrators",
            Decision::Ambiguous(Ambiguous::DotSegment),
        ),
        (
            "GET",
            "//api.cloud.com/x",
            Decision::Ambiguous(Ambiguous::EmptySegment),
        ),
        (
            "GET",
            "https://api.cloud.com/x",
            Decision::Ambiguous(Ambiguous::EmptySegment),
        ),
        (
            "GET",
            "https:/Machines",
            Decision::Ambiguous(Ambiguous::AbsoluteItem),
        ),
        (
            "GET",
            "\\Machines",
            Decision::Ambiguous(Ambiguous::Backslash),
        ),
        (
            "GET",
            "/Machines#/x",
            Decision::Ambiguous(Ambiguous::Unescaped),
        ),
        (
            "GET",
            "/machines",
            Decision::Ambiguous(Ambiguous::LetterCase),
        ),
        (
            "POST",
            "/$batch",
            Decision::Ambiguous(Ambiguous::NestedBatch),
        ),
        (
            "POST",
            "/Machines/%24Batch/?x",
            Decision::Ambiguous(Ambiguous::NestedBatch),
        ),
    ] {
        assert_eq!(
            decision(&rules, item_method, url),
            expected,
            "{item_method} {url}"
        );
    }
}

#[test]
fn item_is_evaluated_at_every_path_it_may_resolve_to() {
    let everything = rules(&[], &["/cvad/manage/**"]);
    let machines = rules(
        &[],
        &["/cvad/manage/Machines/**", "/cvad/manage/*/*/Machines/**"],
    );
    for (url, wide, narrow) in [
        // The direct hosts strip customer and site.
        (format!("acme/{SITE}/Machines/1"), true, true),
        (format!("/ACME/{SITE}/Administrators"), true, false),
        (format!("%61cme/{SITE}/Administrators"), true, false),
        ("/cvad/manage/Machines".to_owned(), true, true),
        ("/cvad/other/Machines".to_owned(), false, false),
        ("/%63vad/other/Machines".to_owned(), false, false),
        (
            format!("/cvadapis/{SITE}/Administrators/Machines"),
            true,
            false,
        ),
        (
            format!("/citrix/orchestration/api/acme/{SITE}/Machines"),
            true,
            false,
        ),
        (
            "/citrix/monitor/odata/v4/data/Machines".to_owned(),
            false,
            false,
        ),
    ] {
        assert_eq!(
            decision(&everything, "GET", &url) == Decision::Allowed,
            wide,
            "{url}"
        );
        assert_eq!(
            evaluate_items(&machines, "", "/cvad/manage", "acme", [("GET", &*url)])
                == Decision::Allowed,
            narrow,
            "{url}"
        );
    }
}

#[test]
fn contract_5_item_on_a_direct_host_may_name_customer_and_site() {
    let api = "/direct/acme/citrix/orchestration/api";
    let one_site = rules(&[], &[&format!("{api}/acme/s1/**")]);
    for base in [format!("{api}/acme/s1"), format!("{api}/%61cme/s1")] {
        for (url, expected) in [
            ("acme/s1/Machines", base.contains("/acme/s1")),
            ("acme/s2/Machines", false),
            ("/Acme/s2/Machines", false),
            ("%61cme/s2/Machines", false),
            ("contoso/s1/Machines", false),
        ] {
            let decision = evaluate_items(&one_site, "", &base, "acme", [("GET", url)]);
            assert_eq!(decision == Decision::Allowed, expected, "{base} {url}");
        }
    }
    let own = Rules::new(Vec::new(), PathRules::default(), vec!["acme".into()]);
    for base in [api.to_owned(), format!("{api}/acme/s1")] {
        assert_eq!(
            evaluate_items(&own, "", &base, "acme", [("GET", "acme/s2/x")]),
            Decision::Allowed
        );
        for url in ["contoso/s1/x", "%63ontoso/s1/x"] {
            let other = Decision::Denied(Restriction::Customers);
            assert_eq!(
                evaluate_items(&own, "", &base, "acme", [("GET", url)]),
                other,
                "{base} {url}"
            );
        }
    }
}

#[test]
fn item_url_with_another_customer_is_ambiguous() {
    let other = Decision::Ambiguous(Ambiguous::OtherCustomer);
    for url in [
        "/citrix/orchestration/api/contoso/s1/Machines",
        "citrix/orchestration/api/%63ontoso/s1/Machines",
        "/catalogservice/contoso/x",
    ] {
        assert_eq!(decision(&rules(&["GET"], &[]), "GET", url), other, "{url}");
    }
    assert_eq!(
        decision(&rules(&["GET"], &[]), "GET", "/catalogservice/ACME/x"),
        Decision::Allowed
    );
}

#[test]
fn every_item_is_allowed_without_rules() {
    assert_eq!(
        decision(&Rules::default(), "any", "https://x/../y"),
        Decision::Allowed
    );
    assert_eq!(
        evaluate_items(&rules(&["GET"], &[]), "", "/cvad/manage", "acme", []),
        Decision::Allowed
    );
}

#[test]
fn interface_4_3_item_of_a_regional_batch_is_evaluated_without_and_with_its_region() {
    for (rule, url, expected) in [
        ("/cvad/manage/Machines/**", "Machines/1", true),
        ("/cvad/manage/Machines/**", "/Machines/1", true),
        ("/region/eu/cvad/manage/Machines/**", "Machines/1", true),
        ("/region/us/cvad/manage/Machines/**", "Machines/1", false),
        ("/cvad/manage/Machines/**", "Applications", false),
        ("/region/eu/cvad/manage/Machines/**", "Applications", false),
        // Read from the root, it is another operation.
        (
            "/cvad/manage/*/manage/Machines",
            "cvad/manage/Machines",
            false,
        ),
    ] {
        let rules = rules(&[], &[rule]);
        let items = [("GET", url)];
        let decision = evaluate_items(&rules, "/region/eu", "/cvad/manage", "acme", items);
        assert_eq!(decision == Decision::Allowed, expected, "{rule} {url}");
    }
}
