//! Rules and regions: `/region/{name}/p` is evaluated as `p` (interface §4.3), and a redirect is
//! followed only within the rules (interface §4.4).

use super::*;

const RULES: &str =
    "paths = ['/monitorodata/**', '/cvad/manage/**/Jobs/*', '/wem/**', '/accessSecurity/**']";

/// Returns the plan of a gateway whose region `eu` is `eu`.
fn between(api: &Upstream, eu: &Upstream, blocks: &str) -> Plan {
    let url = eu.url();
    in_front_of(api, blocks).with(&format!(
        "[[route]]\nprefix = '/region/eu'\nupstream = '{url}'\n\
         [[route]]\nprefix = '/region/eu/wem'\nupstream = '{url}/host-of-wem'\n\
         [[route]]\nprefix = '/systemlog'\nupstream = '{url}/own'\n"
    ))
}

#[tokio::test]
async fn next_page_in_a_region_is_permitted_like_the_first() {
    let eu = Upstream::responding(OK).await;
    let next = format!("{}/monitorodata/Machines?$skip=1000", eu.url());
    let page = format!("{{\"@odata.nextLink\":\"{next}\"}}");
    let api = Upstream::responding(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{page}",
        page.len()
    ))
    .await;
    let gateway = between(&api, &eu, &block("a", RULES)).start().await;
    let first = send_as(&gateway, "a", "GET /monitorodata/Machines", "").await;
    let link: serde_json::Value = serde_json::from_str(&first.text()).unwrap();
    let next = link["@odata.nextLink"].as_str().unwrap();
    let target = next.strip_prefix("http://localhost").unwrap();
    assert_eq!(target, "/region/eu/monitorodata/Machines?$skip=1000");
    let second = send_as(&gateway, "a", &format!("GET {target}"), "").await;
    assert_eq!(second.status(), 200, "{}", second.text());
    let expected = "GET /monitorodata/Machines?$skip=1000 HTTP/1.1";
    assert_eq!(eu.request().await.line(), expected);
}

#[tokio::test]
async fn location_of_a_job_in_a_region_is_permitted_like_the_job() {
    let eu = Upstream::responding(OK).await;
    let accepted = format!(
        "HTTP/1.1 202 Accepted\r\nLocation: {}/cvad/manage/Jobs/1\r\nContent-Length: 0\r\n\r\n",
        eu.url()
    );
    let api = Upstream::responding(accepted).await;
    let rules = "paths = ['/cvad/manage/Machines/*', '/cvad/manage/Jobs/**']";
    let gateway = between(&api, &eu, &block("a", rules)).start().await;
    let line = "DELETE /cvad/manage/Machines/1?async=true";
    let location = send_as(&gateway, "a", line, "").await.field("location");
    let target = location.unwrap().replace("http://localhost", "");
    assert_eq!(target, "/region/eu/cvad/manage/Jobs/1");
    let job = send_as(&gateway, "a", &format!("GET {target}"), "").await;
    assert_eq!(job.status(), 200, "{}", job.text());
    let job = eu.request().await;
    assert_eq!(job.line(), "GET /cvad/manage/Jobs/1 HTTP/1.1");
    assert_eq!(job.field("citrix-instanceid").as_deref(), Some(SITE));
}

#[tokio::test]
async fn interface_4_3_path_in_a_region_is_evaluated_without_and_with_the_region() {
    let (api, eu) = (
        Upstream::responding(OK).await,
        Upstream::responding(OK).await,
    );
    let blocks = block("page", RULES)
        + &block("region", "paths = ['/region/eu/monitorodata/**']")
        + &block(
            "other",
            "paths = ['/region/us/monitorodata/**', '/systemlog/**']",
        )
        + &block("classic", "paths = ['/classic/registry/**', '/region/eu']");
    let gateway = between(&api, &eu, &blocks).start().await;
    for (name, path, arrives) in [
        ("page", "/region/eu/monitorodata", Some("/monitorodata/")),
        (
            "page",
            "/region/eu/wem/services/x",
            Some("/host-of-wem/services/x"),
        ),
        ("page", "/region/EU/monitorodata/x", Some("/monitorodata/x")),
        ("page", "/region/eu/cvad/manage/Machines", None),
        ("page", "/region/eu", None),
        ("page", "/region/eu/MonitorOData/x", None),
        ("page", "/Region/eu/monitorodata/x", None),
        ("page", "/region/eu/monitorodata/../x", None),
        ("page", "/region/eu//monitorodata/x", None),
        ("page", "/region/eu/region/eu/monitorodata/x", None),
        (
            "region",
            "/region/eu/monitorodata/x",
            Some("/monitorodata/x"),
        ),
        ("region", "/monitorodata/x", None),
        ("region", "/region/eu/cvad/manage/x", None),
        ("other", "/region/eu/monitorodata/x", None),
        // The rest belongs to another route here, so that it is another resource.
        ("other", "/region/eu/systemlog/x", None),
        ("classic", "/region/eu/classic/registry/x", None),
        ("classic", "/region/eu", Some("/")),
    ] {
        let response = send_as(&gateway, name, &format!("GET {path}"), "").await;
        match arrives {
            Some(target) => {
                assert_eq!(response.status(), 200, "{name} {path} {}", response.text());
                let line = format!("GET {target} HTTP/1.1");
                assert_eq!(eu.request().await.line(), line, "{name} {path}");
            }
            None => drop(response.problem(403, "caller_forbidden")),
        }
    }
    let nothing = send_as(&gateway, "page", "GET /region/jp/monitorodata/x", "").await;
    nothing.problem(404, "no_route");
    for upstream in [&api, &eu] {
        upstream.assert_no_more_requests().await;
    }
}

#[tokio::test]
async fn items_of_a_batch_in_a_region_are_evaluated_like_those_of_a_batch() {
    let (api, eu) = (
        Upstream::responding(OK).await,
        Upstream::responding(OK).await,
    );
    let rules = "paths = ['/cvad/manage/Machines/**', '/cvad/manage/$batch']";
    let gateway = between(&api, &eu, &block("a", rules)).start().await;
    for (url, status) in [
        ("Machines/1", 200),
        ("/cvad/manage/Catalogs", 403),
        ("Catalogs", 403),
    ] {
        let body = format!("{{\"Items\":[{{\"Method\":\"GET\",\"RelativeUrl\":{url:?}}}]}}");
        let head = format!("Content-Length: {}\r\nX-Api-Key: a\r\n", body.len());
        let request = format!(
            "POST /region/eu/cvad/manage/$batch HTTP/1.1\r\nHost: localhost\r\n{head}\r\n{body}"
        );
        assert_eq!(gateway.raw(request).await.status(), status, "{url}");
    }
    assert_eq!(
        eu.request().await.line(),
        "POST /cvad/manage/$batch HTTP/1.1"
    );
    eu.assert_no_more_requests().await;
}

#[tokio::test]
async fn redirect_is_followed_only_within_the_callers_rules() {
    let eu = Upstream::responding(OK).await;
    let base = eu.url();
    let api = Upstream::scripted_by_request(move |_, _| {
        format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: {base}/feature-data/x\r\n\
             Content-Length: 0\r\n\r\n"
        )
        .into()
    })
    .await;
    let blocks = block("narrow", "paths = ['/accessSecurity/**']")
        + &block("wide", "paths = ['/accessSecurity/**', '/feature-data/**']")
        + &block("region", "paths = ['/accessSecurity/**', '/region/eu/**']")
        + &block("methods", "methods = ['GET']")
        + &block(
            "observed",
            "paths = ['/accessSecurity/**']\nmode = 'observe'",
        );
    let gateway = between(&api, &eu, &blocks).start().await;
    let line = "GET /accessSecurity/x";
    // Also once the region is remembered from another caller's request.
    for _ in 0..2 {
        let narrow = send_as(&gateway, "narrow", line, "").await;
        let location = narrow.field("location");
        let expected = "http://localhost/region/eu/feature-data/x";
        assert_eq!(
            (narrow.status(), location.as_deref()),
            (307, Some(expected))
        );
        eu.assert_no_more_requests().await;
        for name in ["wide", "region", "methods", "observed"] {
            assert_eq!(
                send_as(&gateway, name, line, "").await.status(),
                200,
                "{name}"
            );
            assert_eq!(eu.request().await.line(), "GET /feature-data/x HTTP/1.1");
        }
    }
}
