use http::StatusCode;

use super::*;
use crate::observe::summary::RequestFacts;

struct ExchangeValues {
    request_id: HeaderValue,
    sent: HeaderValue,
    citrix_ids: [Option<HeaderValue>; 3],
    began: Instant,
}

impl ExchangeValues {
    fn numbered(number: usize) -> Self {
        let id = |name: &str| HeaderValue::from_str(&format!("{name}-{number}")).unwrap();
        Self {
            request_id: id("request"),
            sent: id("sent"),
            citrix_ids: [Some(id("citrix")), Some(id("cws")), Some(id("cc"))],
            began: Instant::now() + Duration::from_millis(number as u64),
        }
    }

    fn summary(&self, status: u16, reason: Option<Reason>) -> ExchangeSummary<'_> {
        let sample = ExchangeSummary::sample();
        ExchangeSummary {
            request: RequestFacts {
                request_id: &self.request_id,
                transaction_id: &self.sent,
                ..sample.request
            },
            citrix_ids: &self.citrix_ids,
            began: self.began,
            total: Duration::from_millis(5),
            status: StatusCode::from_u16(status).unwrap(),
            reason,
            ..sample
        }
    }
}

fn find(recent: &Recent, id: &str, limit: usize) -> Vec<Record> {
    let search = Search {
        id: Some(id.to_owned()),
        ..Search::default()
    };
    recent.find(&search, limit)
}

#[test]
fn each_id_finds_its_exchange_case_insensitively() {
    let recent = Recent::new(2);
    for number in 0..10 {
        recent
            .worker(number)
            .record(&ExchangeValues::numbered(number).summary(200, None), None);
    }
    for id in [
        "request-7",
        "sent-7",
        "citrix-7",
        "cws-7",
        "cc-7",
        "CC-7",
        "Request-7",
    ] {
        let found = find(&recent, id, 10);
        assert_eq!(found.len(), 1, "{id}");
        assert_eq!(found[0].request_id.as_str(), "request-7", "{id}");
    }
    for id in ["", "request", "request-77", "10"] {
        assert!(find(&recent, id, 10).is_empty(), "{id}");
    }
}

#[test]
fn id_of_many_exchanges_finds_the_newest() {
    let recent = Recent::new(2);
    for number in 0..10 {
        let values = ExchangeValues {
            sent: HeaderValue::from_static("job"),
            ..ExchangeValues::numbered(number)
        };
        recent
            .worker(number)
            .record(&values.summary(502, Some(Reason::UpstreamConnect)), None);
    }
    let found: Vec<_> = find(&recent, "job", 3)
        .iter()
        .map(|one| one.request_id.as_str().into_owned())
        .collect();
    assert_eq!(found, ["request-9", "request-8", "request-7"]);
}

#[test]
fn successes_do_not_evict_failures() {
    let recent = Recent::new(2);
    recent.worker(0).record(
        &ExchangeValues::numbered(0).summary(502, Some(Reason::UpstreamConnect)),
        None,
    );
    recent.worker(0).record(
        &ExchangeValues::numbered(1).summary(404, Some(Reason::NoRoute)),
        None,
    );
    for number in 2..MAX_EXCHANGES + 2 {
        recent
            .worker(0)
            .record(&ExchangeValues::numbered(number).summary(200, None), None);
    }
    assert_eq!(recent.coverage().0, MAX_EXCHANGES / 2);
    assert!(
        find(&recent, "request-2", 1).is_empty(),
        "the oldest is evicted"
    );
    assert_eq!(find(&recent, "request-0", 1).len(), 1, "failures are kept");
    assert_eq!(
        (recent.failures(10).len(), recent.rejections(10).len()),
        (1, 1)
    );
    for number in 0..2 * MAX_FAILURES {
        recent.worker(0).record(
            &ExchangeValues::numbered(number).summary(404, Some(Reason::NoRoute)),
            None,
        );
    }
    assert_eq!(
        (recent.failures(10).len(), recent.rejections(1000).len()),
        (1, MAX_FAILURES / 2)
    );
}

#[test]
fn texts_in_records_are_truncated() {
    let recent = Recent::new(1);
    let long = "x".repeat(10_000);
    let values = ExchangeValues {
        sent: HeaderValue::from_str(&long[..128]).unwrap(),
        ..ExchangeValues::numbered(1)
    };
    let plain = values.summary(502, None);
    let summary = ExchangeSummary {
        request: RequestFacts {
            path: &long,
            caller: &long,
            ..plain.request
        },
        detail: &long,
        cause: &long,
        ..plain
    };
    recent.worker(0).record(&summary, None);
    let found = find(&recent, &long[..128], 1);
    assert_eq!(
        (found[0].path.as_bytes().len(), found[0].detail.len()),
        (128, MAX_DETAIL)
    );
    assert_eq!(
        (found[0].cause.len(), found[0].caller.as_bytes().len()),
        (MAX_DETAIL, 64)
    );
}

#[test]
fn reused_slot_keeps_no_earlier_value() {
    let mut record = Record::default();
    let values = ExchangeValues::numbered(1);
    let full = ExchangeSummary {
        detail: "d",
        cause: "c",
        retired: Some("/cvadapis"),
        ..values.summary(502, None)
    };
    record.set(&full);
    let bare = ExchangeValues {
        citrix_ids: [None, None, None],
        ..ExchangeValues::numbered(2)
    };
    record.set(&bare.summary(200, None));
    assert!(record.detail.is_empty() && record.cause.is_empty() && record.retired.is_none());
    assert!(record.citrix_ids.iter().all(BoundedText::is_empty));
}

#[tokio::test(start_paused = true)]
async fn last_activity_is_the_latest_of_all_workers() {
    let recent = Recent::new(2);
    let [one, other] = [0, 1].map(|worker| recent.worker(worker).caller("splunk"));
    let begin = Instant::now();
    recent
        .worker(0)
        .record(&ExchangeValues::numbered(0).summary(200, None), Some(&one));
    tokio::time::advance(Duration::from_secs(60)).await;
    recent.worker(1).record(
        &ExchangeValues::numbered(0).summary(403, Some(Reason::CallerForbidden)),
        Some(&other),
    );
    let total = recent.callers()["splunk"];
    assert_eq!(total.rejected, 1);
    assert_eq!(
        total.last,
        Some(begin + Duration::from_secs(60) + Duration::from_millis(5))
    );
}

#[test]
fn removed_caller_is_forgotten() {
    let recent = Recent::new(1);
    let kept = recent.worker(0).caller("kept");
    drop(recent.worker(0).caller("removed"));
    let again = recent.worker(0).caller("kept");
    assert!(Arc::ptr_eq(&kept, &again));
    assert_eq!(recent.callers().into_keys().collect::<Vec<_>>(), ["kept"]);
}

/// Records `count` exchanges of a kind, starting with this number.
fn record_many(recent: &Recent, numbers: std::ops::Range<usize>, status: u16, route: &str) {
    for number in numbers {
        let values = ExchangeValues::numbered(number);
        let summary = ExchangeSummary {
            route,
            ..values.summary(status, None)
        };
        recent.worker(number).record(&summary, None);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_one_kind_are_one_with_a_count() {
    let recent = Recent::new(2);
    let start = Instant::now();
    record_many(&recent, 0..1, 500, "/relevant");
    record_many(&recent, 1..1001, 502, "/down");
    record_many(&recent, 1001..1003, 200, "/down");
    let repeats = recent.repeated_failures();
    let kinds: Vec<_> = repeats
        .iter()
        .map(|one| (one.last.route.as_str(), one.last.status, one.count))
        .collect();
    assert_eq!(
        kinds,
        [("/down".into(), 502, 1000), ("/relevant".into(), 500, 1)]
    );
    let at = |number| Some(start + Duration::from_millis(number));
    assert_eq!((repeats[0].first, repeats[0].last.began), (at(1), at(1000)));
    assert_eq!(repeats[0].last.request_id.as_str(), "request-1000");
    assert!(recent.repeated_rejections().is_empty());
}

#[test]
fn least_recent_kind_of_failure_is_evicted() {
    let recent = Recent::new(1);
    for number in 0..100 {
        record_many(&recent, number..number + 1, 502, &format!("/{number}"));
        record_many(&recent, number..number + 1, 502, "/often");
    }
    let repeats = recent.repeated_failures();
    let find = |route: &str| repeats.iter().find(|one| one.last.route.as_str() == route);
    assert_eq!(repeats.len(), 64);
    assert_eq!(find("/often").map(|one| one.count), Some(100));
    assert!(find("/99").is_some() && find("/0").is_none());
}

fn search(conditions: &[(&str, &str)]) -> Search {
    let mut search = Search::default();
    for (name, value) in conditions {
        let text = Some((*value).to_owned());
        match *name {
            "id" => search.id = text,
            "caller" => search.caller = text,
            "customer" => search.customer = text,
            "route" => search.route = text,
            "path" => search.path = text,
            _ => search.status = StatusSearch::parse(value),
        }
    }
    search
}

#[test]
fn search_combines_its_conditions() {
    let recent = Recent::new(2);
    record_many(&recent, 0..3, 502, "/a");
    record_many(&recent, 3..6, 503, "/b");
    record_many(&recent, 6..9, 200, "/b");
    for (conditions, found) in [
        (&[][..], 9),
        (&[("route", "/b")], 6),
        (&[("route", "/")], 0),
        (&[("status", "5xx")], 6),
        (&[("status", "503"), ("route", "/b")], 3),
        (&[("status", "503"), ("route", "/a")], 0),
        (&[("path", "/cvad/m"), ("caller", "splunk")], 9),
        (&[("path", "/manage")], 0),
        (&[("customer", "acme")], 0),
        (&[("id", "SENT-4")], 1),
    ] {
        let number = recent.find(&search(conditions), 100).len();
        assert_eq!(number, found, "{conditions:?}");
    }
    let newest = recent.find(&Search::default(), 1);
    assert_eq!(newest[0].request_id.as_str(), "request-8");
}

#[test]
fn status_of_a_search_is_a_code_or_a_class() {
    for (text, expected) in [
        ("502", Some(StatusSearch::Exactly(502))),
        ("5xx", Some(StatusSearch::Class(5))),
        ("4XX", Some(StatusSearch::Class(4))),
        ("0xx", None),
        ("50x", None),
        ("5", None),
        ("+12", None),
        ("1+2", None),
        ("5020", None),
        ("", None),
    ] {
        assert_eq!(StatusSearch::parse(text), expected, "{text}");
    }
}
