use http::StatusCode;

use super::*;
use crate::observe::summary::RequestFacts;

struct Given {
    request_id: HeaderValue,
    sent: HeaderValue,
    citrix_ids: [Option<HeaderValue>; 3],
    began: Instant,
}

impl Given {
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

#[test]
fn an_exchange_is_found_by_each_of_its_ids_on_whatever_worker_in_whatever_case() {
    let recent = Recent::new(2);
    for number in 0..10 {
        recent
            .worker(number)
            .record(&Given::numbered(number).summary(200, None), None);
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
        let found = recent.find(id, 10);
        assert_eq!(found.len(), 1, "{id}");
        assert_eq!(found[0].request_id.as_str(), "request-7", "{id}");
    }
    for id in ["", "request", "request-77", "10"] {
        assert!(recent.find(id, 10).is_empty(), "{id}");
    }
}

#[test]
fn an_id_of_many_exchanges_finds_the_newest_of_them_once_each() {
    let recent = Recent::new(2);
    for number in 0..10 {
        let given = Given {
            sent: HeaderValue::from_static("job"),
            ..Given::numbered(number)
        };
        recent
            .worker(number)
            .record(&given.summary(502, Some(Reason::UpstreamConnect)), None);
    }
    let found: Vec<_> = recent
        .find("job", 3)
        .iter()
        .map(|one| one.request_id.as_str().into_owned())
        .collect();
    assert_eq!(found, ["request-9", "request-8", "request-7"]);
}

#[test]
fn memory_is_bounded_and_success_drives_no_failure_out() {
    let recent = Recent::new(2);
    recent.worker(0).record(
        &Given::numbered(0).summary(502, Some(Reason::UpstreamConnect)),
        None,
    );
    recent.worker(0).record(
        &Given::numbered(1).summary(404, Some(Reason::NoRoute)),
        None,
    );
    for number in 2..MAX_EXCHANGES + 2 {
        recent
            .worker(0)
            .record(&Given::numbered(number).summary(200, None), None);
    }
    assert_eq!(recent.reach().0, MAX_EXCHANGES / 2);
    assert!(
        recent.find("request-2", 1).is_empty(),
        "the oldest make room"
    );
    assert_eq!(recent.find("request-0", 1).len(), 1, "but failures stay");
    assert_eq!(
        (recent.failures(10).len(), recent.refusals(10).len()),
        (1, 1)
    );
    for number in 0..2 * MAX_FAILURES {
        recent.worker(0).record(
            &Given::numbered(number).summary(404, Some(Reason::NoRoute)),
            None,
        );
    }
    assert_eq!(
        (recent.failures(10).len(), recent.refusals(1000).len()),
        (1, MAX_FAILURES / 2)
    );
}

#[test]
fn texts_in_records_are_bounded() {
    let recent = Recent::new(1);
    let long = "x".repeat(10_000);
    let given = Given {
        sent: HeaderValue::from_str(&long[..128]).unwrap(),
        ..Given::numbered(1)
    };
    let plain = given.summary(502, None);
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
    let found = recent.find(&long[..128], 1);
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
fn a_slot_keeps_nothing_of_what_was_there_before() {
    let mut record = Record::default();
    let given = Given::numbered(1);
    let full = ExchangeSummary {
        detail: "d",
        cause: "c",
        retired: Some("/cvadapis"),
        ..given.summary(502, None)
    };
    record.set(&full);
    let bare = Given {
        citrix_ids: [None, None, None],
        ..Given::numbered(2)
    };
    record.set(&bare.summary(200, None));
    assert!(record.detail.is_empty() && record.cause.is_empty() && record.retired.is_none());
    assert!(record.citrix_ids.iter().all(Text::is_empty));
}

#[tokio::test(start_paused = true)]
async fn callers_are_seen_last_where_they_were_seen_last() {
    let recent = Recent::new(2);
    let [one, other] = [0, 1].map(|worker| recent.worker(worker).caller("splunk"));
    let begin = Instant::now();
    recent
        .worker(0)
        .record(&Given::numbered(0).summary(200, None), Some(&one));
    tokio::time::advance(Duration::from_secs(60)).await;
    recent.worker(1).record(
        &Given::numbered(0).summary(403, Some(Reason::CallerForbidden)),
        Some(&other),
    );
    let seen = recent.callers()["splunk"];
    assert_eq!(seen.refused, 1);
    assert_eq!(
        seen.last,
        Some(begin + Duration::from_secs(60) + Duration::from_millis(5))
    );
}

#[test]
fn callers_of_a_configuration_that_is_gone_are_forgotten() {
    let recent = Recent::new(1);
    let kept = recent.worker(0).caller("kept");
    drop(recent.worker(0).caller("gone"));
    let again = recent.worker(0).caller("kept");
    assert!(Arc::ptr_eq(&kept, &again));
    assert_eq!(recent.callers().into_keys().collect::<Vec<_>>(), ["kept"]);
}
