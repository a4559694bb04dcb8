//! Citrix services behind one base URL: built-in routes, customers in paths, retired addresses
//! (interface §4.1, §4.3).

use crate::harness::{Cloud, Gateway, Message, OK, SITE, Upstream, get, get_with};

/// A gateway whose API gateway is `api`; the classic registry, the customer's own host and a region
/// are at `other`, each below its own path.
struct Fixture {
    api: Upstream,
    other: Upstream,
    gateway: Gateway,
}

impl Fixture {
    async fn start() -> Self {
        Self::start_with("").await
    }

    async fn start_with(toml: &str) -> Self {
        let (api, other) = (
            Upstream::responding(OK).await,
            Upstream::responding(OK).await,
        );
        let url = other.url();
        let route = |prefix: &str| {
            format!("[[route]]\nprefix = \"{prefix}\"\nupstream = \"{url}{prefix}\"\n")
        };
        let routes: String = ["/classic/registry", "/direct/acme", "/region/eu", "/adm"]
            .map(route)
            .concat();
        let gateway = Gateway::in_front_of(&api)
            .with(&format!("{routes}{toml}"))
            .start()
            .await;
        Self {
            api,
            other,
            gateway,
        }
    }

    /// Returns the upstream request of a request that succeeds.
    async fn forwarded_to(&self, upstream: &Upstream, request: String) -> Message {
        let response = self.gateway.raw(&request).await;
        assert_eq!(response.status(), 200, "{request}{}", response.text());
        upstream.request().await
    }

    async fn nothing_forwarded(&self) {
        self.api.assert_no_more_requests().await;
        self.other.assert_no_more_requests().await;
    }
}

#[tokio::test]
async fn interface_4_3_prefixes_that_select_a_host_are_stripped() {
    let fixture = Fixture::start().await;
    for (path, expected) in [
        (
            "/classic/registry/acme/resourcelocations?x=%27",
            "/classic/registry/acme/resourcelocations?x=%27",
        ),
        ("/Classic/REGISTRY/acme/x", "/classic/registry/acme/x"),
        ("/classic/registry", "/classic/registry/"),
        (
            "/direct/acme/citrix/orchestration/api/acme/s/Machines",
            "/direct/acme/citrix/orchestration/api/acme/s/Machines",
        ),
        ("/direct/ACME/x", "/direct/acme/x"),
        (
            "/region/eu/systemlog/records",
            "/region/eu/systemlog/records",
        ),
        (
            "/region/eu/monitorodata/Machines",
            "/region/eu/monitorodata/Machines",
        ),
        (
            "/region/eu/MonitorOData/Machines",
            "/region/eu/monitorodata/Machines",
        ),
    ] {
        let request = fixture.forwarded_to(&fixture.other, get(path)).await;
        assert_eq!(request.line(), format!("GET {expected} HTTP/1.1"), "{path}");
    }
    for path in [
        "/monitorodata/Machines",
        "/MonitorOData/Machines",
        "/cvad/manage/me",
        "/Cvad/Manage/me",
        "/accessSecurity/x",
        "/x",
    ] {
        let request = fixture.forwarded_to(&fixture.api, get(path)).await;
        assert_eq!(request.line(), format!("GET {path} HTTP/1.1"));
    }
    fixture.nothing_forwarded().await;
}

#[tokio::test]
async fn site_id_is_sent_by_the_forwarded_path() {
    let fixture = Fixture::start_with(&format!("[citrix]\ninstance_id = \"{SITE}\"")).await;
    for (path, upstream, has_site) in [
        ("/cvad/manage/Machines", &fixture.api, true),
        ("/CVAD/Manage/Machines", &fixture.api, true),
        ("/cvad/manage/Me", &fixture.api, false),
        ("/monitorodata/Machines", &fixture.api, false),
        (
            "/classic/registry/acme/cvad/manage/Machines",
            &fixture.other,
            false,
        ),
    ] {
        let request = fixture.forwarded_to(upstream, get(path)).await;
        assert_eq!(
            request.field("citrix-instanceid").as_deref(),
            has_site.then_some(SITE),
            "{path}"
        );
    }
}

#[tokio::test]
async fn unrouted_service_is_reported_before_other_problems() {
    let fixture = Fixture::start().await;
    for path in [
        "/classic",
        "/classic/",
        "/classic/unknown",
        "/classic/unknown/acme/x",
        "/classic/trust/root/x",
        "/classic//registry/x",
        "/direct",
        "/direct/contoso/x",
        "/direct/acm/x",
        "/direct/acmee",
        "/region",
        "/region/mars/cvad/manage/me",
        "/region/japan/x",
    ] {
        fixture
            .gateway
            .raw(get(path))
            .await
            .problem(404, "no_route");
    }
    fixture.nothing_forwarded().await;
}

#[tokio::test]
async fn service_absent_from_the_cloud_is_reported() {
    let api = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&api)
        .with("[citrix]\ncloud = \"gov\"")
        .start()
        .await;
    for path in [
        "/wem/services/wem/x",
        "/gac/aca/x",
        "/region/us/cvad/manage/me",
    ] {
        gateway.raw(get(path)).await.problem(404, "no_route");
    }
    api.assert_no_more_requests().await;
}

#[tokio::test]
async fn interface_4_1_customer_in_the_path_must_match_the_request() {
    let fixture = Fixture::start().await;
    for path in [
        "/classic/registry/contoso/resourcelocations",
        "/Classic/Registry/contoso/resourcelocations",
        "/direct/acme/citrix/orchestration/api/contoso/site/Machines",
        "/direct/acme/Citrix/Orchestration/API/techpreview/contoso/site/Machines",
        "/region/eu/catalogservice/contoso/x",
        "/region/eu/citrix/orchestration/api/contoso/site/x",
        "/catalogservice/contoso/x",
        "/quickcreateservice/contoso/x",
        "/resourceprovider/contoso/site/activation",
        "/citrix/orchestration/api/contoso/site/Machines",
        "/adm/massvc/contoso/nitro/v2/config/x",
    ] {
        fixture
            .gateway
            .raw(get(path))
            .await
            .problem(403, "customer_forbidden");
    }
    let named = "Citrix-CustomerId: contoso\r\n";
    for path in [
        "/classic/registry/acme/x",
        "/direct/acme/x",
        "/citrix/orchestration/api/acme/site/Machines",
    ] {
        fixture
            .gateway
            .raw(get_with(path, named))
            .await
            .problem(403, "customer_forbidden");
    }
    fixture.nothing_forwarded().await;
    for path in [
        "/classic/registry/ACME/x",
        "/classic/registry/swagger/docs/v1",
        "/region/eu/catalogservice/acme/x",
    ] {
        let request = fixture.forwarded_to(&fixture.other, get(path)).await;
        assert_eq!(
            request.field("citrix-customerid").as_deref(),
            Some("acme"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn interface_4_3_retired_addresses_are_translated_and_counted() {
    let fixture = Fixture::start().await;
    let site = |path: &str| path.replace("SITE", SITE);
    for (path, expected, with_site) in [
        (
            "/Citrix/Monitor/OData/v4/Data/Machines?$top=1&$filter=a%20eq+b",
            "/monitorodata/Machines?$top=1&$filter=a%20eq+b",
            false,
        ),
        (
            "/citrix/monitor/odata/v4/data/Machines",
            "/monitorodata/Machines",
            false,
        ),
        (
            "/citrix/orchestration/api/acme/SITE/Machines?limit=2",
            "/cvad/manage/Machines?limit=2",
            true,
        ),
        (
            "/Citrix/Orchestration/Api/TechPreview/ACME/SITE/x%2Fy",
            "/cvad/manage/x%2Fy",
            true,
        ),
        ("/citrix/orchestration/api/me", "/cvad/manage/me", false),
        (
            "/cvadapis/SITE/MachineCatalogs/a",
            "/cvad/manage/MachineCatalogs/a",
            true,
        ),
        ("/CvadApis/me", "/cvad/manage/me", false),
    ] {
        let request = fixture
            .forwarded_to(&fixture.api, get_with(&site(path), "Customer: acme\r\n"))
            .await;
        assert_eq!(request.line(), format!("GET {expected} HTTP/1.1"), "{path}");
        assert_eq!(
            request.field("citrix-customerid").as_deref(),
            Some("acme"),
            "{path}"
        );
        assert_eq!(
            request.field("citrix-instanceid").as_deref(),
            with_site.then_some(SITE),
            "{path}"
        );
        assert!(!request.has("customer"), "{path}");
    }
    let metrics = fixture.gateway.metrics().await;
    for (family, count) in [
        ("/Citrix/Monitor/OData", 2),
        ("/citrix/orchestration/api", 3),
        ("/cvadapis", 2),
    ] {
        let line =
            format!("citrix_auth_proxy_retired_addresses_total{{route=\"{family}\"}} {count}\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
    for route in ["/monitorodata", "/cvad/manage"] {
        assert!(
            metrics.contains(&format!("code=\"200\",method=\"GET\",route=\"{route}\"")),
            "{metrics}"
        );
    }
    // Unused addresses are not listed.
    assert!(!metrics.contains("route=\"/classic/core\""), "{metrics}");
}

#[tokio::test]
async fn requests_of_old_tools_are_translated_to_current_addresses() {
    let cloud = Cloud::start().await;
    let gateway = Gateway::in_front_of_cloud(&cloud).start().await;
    let (customer, site) = (cloud.emulator.customer_id(), cloud.emulator.site_id());
    for path in [
        "/Citrix/Monitor/OData/v4/Data/Machines?$top=1".to_owned(),
        "/citrix/orchestration/api/me".to_owned(),
        format!("/citrix/orchestration/api/{customer}/{site}/Machines?limit=1"),
        format!("/citrix/orchestration/api/techpreview/{customer}/{site}/Machines?limit=1"),
        format!("/cvadapis/{site}/Machines?limit=1"),
        "/CvadApis/Me".to_owned(),
    ] {
        let response = gateway
            .raw(get_with(&path, &format!("Customer: {customer}\r\n")))
            .await;
        assert_eq!(response.status(), 200, "{path} {}", response.text());
    }
    assert_eq!(cloud.emulator.stats().missing_instance_id, 0);
}

#[tokio::test]
async fn conflicting_sites_of_retired_address_and_header_are_rejected() {
    let fixture = Fixture::start().await;
    let path = format!("/cvadapis/{SITE}/Machines");
    let same = get_with(
        &path,
        &format!("Citrix-InstanceId: {}\r\n", SITE.to_uppercase()),
    );
    fixture.forwarded_to(&fixture.api, same).await;
    let other = get_with(
        &path,
        "Citrix-InstanceId: 00000000-0000-0000-0000-000000000000\r\n",
    );
    fixture
        .gateway
        .raw(other)
        .await
        .problem(403, "customer_forbidden");
    fixture.nothing_forwarded().await;
}

#[tokio::test]
async fn configured_route_overrides_the_translation() {
    let own = Upstream::responding(OK).await;
    let toml = format!(
        "[[route]]\nprefix = \"/citrix\"\nupstream = \"{}\"\nstrip_prefix = false",
        own.url()
    );
    let fixture = Fixture::start_with(&toml).await;
    let request = fixture
        .forwarded_to(&own, get("/citrix/orchestration/api/acme/s/x"))
        .await;
    assert_eq!(
        request.line(),
        "GET /citrix/orchestration/api/acme/s/x HTTP/1.1"
    );
    fixture.nothing_forwarded().await;
}

/// Names that a careless gateway would use as a host.
const HOSTILE_PATHS: [&str; 44] = [
    "/classic/evil.com",
    "/classic/evil.com%2f",
    "/classic/evil.com/",
    "/classic/evil.com%23",
    "/classic/evil.com?",
    "/classic/registry@evil.com/x",
    "/classic/registry%40evil.com/x",
    "/classic/evil.com@registry/x",
    "/classic/registry.evil.com/x",
    "/classic/registry:443/x",
    "/classic/registry:443@evil.com/x",
    "/classic/registry%2eevil%2ecom/x",
    "/classic/registry%00/x",
    "/classic/registry%0d%0aHost:%20evil.com/x",
    "/classic/registry\\evil.com/x",
    "/classic/registry;evil.com/x",
    "/classic/registry%2f..%2f/x",
    "/classic/./registry/x",
    "/classic/../evil.com/x",
    "/classic//evil.com/x",
    "/classic/%72egistry/x",
    "/classic/registry./x",
    "/classic/.registry/x",
    "/classic/-registry/x",
    "/classic/127.0.0.1:1/x",
    "/classic/[::1]/x",
    "/classic/localhost%3a1/x",
    "/classic/http://evil.com/x",
    "/direct/a.b/x",
    "/direct/acme.evil.com/x",
    "/direct/acme@evil.com/x",
    "/direct/acme%40evil.com/x",
    "/direct/evil.com%23.acme/x",
    "/direct/evil.com/acme",
    "/direct/acme:443/x",
    "/direct//acme/x",
    "/direct/%61cme/x",
    "/direct/acme./x",
    "/direct/xn--evil/x",
    "/region/evil.com/x",
    "/region/eu.evil.com/x",
    "/region/eu@evil.com/x",
    "/region/../eu/x",
    "/region/%65u/x",
];

#[tokio::test]
async fn hostile_names_in_paths_select_no_host() {
    let fixture = Fixture::start_with("[listen]\nhosts = [\"*\"]").await;
    for path in HOSTILE_PATHS {
        fixture
            .gateway
            .raw(get(path))
            .await
            .problem(404, "no_route");
    }
    fixture.nothing_forwarded().await;
}

#[tokio::test]
async fn hostile_characters_in_a_path_remain_in_the_path() {
    let fixture = Fixture::start_with("[listen]\nhosts = [\"*\"]").await;
    for path in [
        "//evil.com/x",
        "///evil.com",
        "/\\evil.com",
        "/@evil.com",
        "/.evil.com",
        "/:80@evil.com",
        "/%2f%2fevil.com",
        "/http://evil.com/",
        "/classic%2fevil.com/x",
        "/%63lassic/evil.com/x",
        "/x/../classic/evil.com",
        "//classic/evil.com",
        "/?//evil.com",
        "/regional/evil.com",
        "/directory/evil.com",
    ] {
        let request = fixture.forwarded_to(&fixture.api, get(path)).await;
        assert_eq!(request.line(), format!("GET {path} HTTP/1.1"));
        assert!(
            request.field("host").unwrap().starts_with("127.0.0.1:"),
            "{path}"
        );
    }
    // After a valid prefix, the rest is a path of that host.
    for (path, expected) in [
        ("/direct/acme//evil.com/x", "/direct/acme//evil.com/x"),
        ("/direct/acme/@evil.com", "/direct/acme/@evil.com"),
        ("/region/eu/http://evil.com", "/region/eu/http://evil.com"),
        ("/direct/acme/../evil.com", "/direct/acme/../evil.com"),
        ("/direct/acme?@evil.com", "/direct/acme/?@evil.com"),
    ] {
        let request = fixture.forwarded_to(&fixture.other, get(path)).await;
        assert_eq!(request.line(), format!("GET {expected} HTTP/1.1"), "{path}");
    }
    fixture.nothing_forwarded().await;
}

#[tokio::test]
async fn host_and_absolute_target_select_no_upstream() {
    let fixture = Fixture::start_with("[listen]\nhosts = [\"*\"]").await;
    for host in [
        "evil.com",
        "evil.com:443",
        "registry.citrixworkspacesapi.net",
        "169.254.169.254",
        "[::1]:1",
        "localhost",
        "acme.xendesktop.net",
        "a,evil.com",
        "evil.com.",
        "%65vil.com",
    ] {
        let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let request = fixture.forwarded_to(&fixture.api, request).await;
        assert!(
            request.field("host").unwrap().starts_with("127.0.0.1:"),
            "{host}"
        );
    }
    for (target, expected) in [
        ("http://evil.com/x", "/x"),
        ("https://evil.com:443/x", "/x"),
        ("http://evil.com", "/"),
        ("http://evil.com?x", "/?x"),
        ("HTTP://EVIL.COM/x", "/x"),
        ("http://[::1]:1/x", "/x"),
        ("http://evil.com//registry/x", "//registry/x"),
    ] {
        let request = fixture.forwarded_to(&fixture.api, get(target)).await;
        assert_eq!(
            request.line(),
            format!("GET {expected} HTTP/1.1"),
            "{target}"
        );
        assert!(
            request.field("host").unwrap().starts_with("127.0.0.1:"),
            "{target}"
        );
    }
    for (target, status) in [
        ("ftp://evil.com/x", 400),
        ("http://user@evil.com/x", 400),
        ("http://evil.com@localhost/x", 400),
        ("http://evil.com:99999/x", 400),
        ("http:///evil.com/x", 400),
        ("http://evil.com/classic/evil.com/x", 404),
        (
            "http://registry.citrixworkspacesapi.net/classic/core.evil.com/x",
            404,
        ),
        ("evil.com:443", 400),
        ("*", 400),
        ("x", 400),
        ("", 400),
    ] {
        let response = fixture.gateway.raw(get(target)).await;
        assert_eq!(response.status(), status, "{target}");
    }
    fixture.nothing_forwarded().await;
}
