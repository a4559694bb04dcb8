//! Redirects (307) of Citrix to another region, and redirects that must not be followed (interface
//! §4.4, contract §1.6).

use citrix_emulator::{Faults, Options, RedirectTarget};
use serde_json::{Value, json};

use crate::harness::{Cloud, Gateway, Message, OK, TOKEN, TokenEndpoint, Upstream, get, get_with};

const NOT_FOUND: &str =
    "HTTP/1.1 404 Not Found\r\nX-From: citrix\r\nContent-Length: 6\r\n\r\ncitrix";

fn to(location: &str) -> String {
    format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 6\r\n\r\nmoved!"
    )
}

/// Returns the path from its second segment, with the query.
fn rest(request: &Message) -> String {
    let line = request.line();
    let target = line.split(' ').nth(1).unwrap();
    let rest = target
        .match_indices('/')
        .nth(1)
        .map_or("", |(at, _)| &target[at..]);
    rest.to_owned()
}

/// Returns an upstream that redirects everything below `/accessSecurity` to `/feature-data` of
/// `other`.
async fn leading_to(other: &Upstream) -> Upstream {
    let base = other.url();
    Upstream::scripted_by_request(move |_, request| {
        to(&format!("{base}/feature-data{}", rest(request))).into()
    })
    .await
}

/// Returns a gateway for which `other` is a region.
async fn between(api: &Upstream, other: &Upstream) -> Gateway {
    let route = format!(
        "[[route]]\nprefix = '/region/eu'\nupstream = '{}'",
        other.url()
    );
    Gateway::in_front_of(api).with(&route).start().await
}

async fn regions(gateway: &Gateway) -> Value {
    serde_json::from_str(&gateway.admin(get("/regions")).await.text()).unwrap()
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn region_redirect_is_followed_and_remembered() {
    let eu = Upstream::responding(OK).await;
    let api = leading_to(&eu).await;
    let gateway = between(&api, &eu).await;
    let paths = ["/sessionPolicy?a=+%23:~/=", "/other/1", "", "?q"];
    assert_eq!(
        gateway
            .raw(get("/accessSecurity/sessionPolicy?a=+%23:~/="))
            .await
            .status(),
        200
    );
    let (first, second) = (api.request().await, eu.request().await);
    assert_eq!(
        second.line(),
        "GET /feature-data/sessionPolicy?a=+%23:~/= HTTP/1.1"
    );
    assert_eq!(second.field("host"), Some(eu.host()));
    let without_host = |message: &Message| {
        let fields = message
            .all_fields()
            .into_iter()
            .filter(|(name, _)| name != "host");
        fields.collect::<Vec<_>>()
    };
    assert_eq!(without_host(&first), without_host(&second));
    assert_eq!(
        second.field("authorization"),
        Some(format!("CwsAuth Bearer={TOKEN}1"))
    );
    for path in paths {
        assert_eq!(
            gateway
                .raw(get(&format!("/accessSecurity{path}")))
                .await
                .status(),
            200
        );
        assert_eq!(
            eu.request().await.line(),
            format!("GET /feature-data{path} HTTP/1.1")
        );
    }
    api.assert_no_more_requests().await;
    // Another service is not affected.
    gateway.raw(get("/systemlog/records")).await;
    assert_eq!(
        api.request().await.line(),
        "GET /systemlog/records HTTP/1.1"
    );
}

#[tokio::test]
async fn remembered_regions_are_listed_for_operators() {
    let eu = Upstream::responding(OK).await;
    let api = leading_to(&eu).await;
    let gateway = between(&api, &eu).await;
    assert_eq!(regions(&gateway).await, json!([]));
    gateway.raw(get("/accessSecurity/sessionPolicy")).await;
    let mut listed = regions(&gateway).await;
    let until = listed[0]["until"].take();
    assert!(
        until.as_str().is_some_and(|until| until.ends_with('Z')),
        "{until}"
    );
    let expected = json!([{
        "customer": "acme",
        "from": format!("{}/accessSecurity", api.url()),
        "to": format!("{}/feature-data", eu.url()),
        "until": null,
    }]);
    assert_eq!(listed, expected);
    let post = "POST /regions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(gateway.admin(post).await.status(), 405);
}

#[tokio::test]
async fn buffered_body_follows_a_redirect_and_the_region_is_always_learnt() {
    let eu = Upstream::responding(OK).await;
    let api = leading_to(&eu).await;
    let route = format!(
        "[[route]]\nprefix = '/region/eu'\nupstream = '{}'",
        eu.url()
    );
    let gateway = Gateway::in_front_of(&api)
        .with(&route)
        .set("CITRIX_AUTH_PROXY_LIMITS__REPLAY_BUFFER_BYTES", "10B")
        .start()
        .await;
    let too_large = gateway
        .raw(post("/accessSecurity/large", "eleven byte"))
        .await;
    assert_eq!(
        (too_large.status(), too_large.text().as_str()),
        (307, "moved!")
    );
    let expected = "http://localhost/region/eu/feature-data/large";
    assert_eq!(too_large.field("location").as_deref(), Some(expected));
    assert_eq!(
        gateway
            .raw(post("/accessSecurity/large", "eleven byte"))
            .await
            .status(),
        200
    );
    assert_eq!(eu.request().await.text(), "eleven byte");

    let gateway = between(&api, &eu).await;
    assert_eq!(
        gateway
            .raw(post("/accessSecurity/x", "what the caller sent"))
            .await
            .status(),
        200
    );
    let sent = eu.request().await;
    assert_eq!(
        (sent.line().as_str(), sent.text().as_str()),
        ("POST /feature-data/x HTTP/1.1", "what the caller sent")
    );
}

#[tokio::test]
async fn other_redirects_are_not_followed() {
    let unknown_host = Upstream::responding(OK).await;
    let eu = Upstream::responding(OK).await;
    for (response, case) in [
        (
            to(&format!("{}/feature-data/x", unknown_host.url())),
            "an unknown host",
        ),
        (
            to(&format!(
                "{}/feature-data/x",
                eu.url().replace("http:", "https:")
            )),
            "another scheme",
        ),
        (
            to(&format!(
                "{}/feature-data/x",
                eu.url().replace("http://", "http://me@")
            )),
            "a user name",
        ),
        (to("/feature-data/x"), "no host"),
        (to(&format!("//{}/feature-data/x", eu.host())), "no scheme"),
        (
            to(&format!("{}/catalogservice/contoso/x", eu.url())),
            "another customer",
        ),
        (
            to(&format!(
                "{0}/feature-data/x\r\nLocation: {0}/other/x",
                eu.url()
            )),
            "two locations",
        ),
        (
            to(&format!("{}/feature-data/x", eu.url())).replace("Location:", "X:"),
            "no location",
        ),
        (
            to(&format!("{}/feature-data/x", eu.url())).replace("307", "308"),
            "another status",
        ),
        (
            to(&format!("{}/feature-data/x", eu.url())).replace("307", "302"),
            "another status",
        ),
        (
            to(&format!("{}/feature-data/x", eu.url())).replace("307", "303"),
            "another status",
        ),
    ] {
        let status: u16 = response[9..12].parse().unwrap();
        let api = Upstream::responding(response).await;
        let gateway = between(&api, &eu).await;
        let response = gateway.raw(get("/accessSecurity/x")).await;
        assert_eq!(
            (response.status(), response.text().as_str()),
            (status, "moved!"),
            "{case}"
        );
        assert_eq!(regions(&gateway).await, json!([]), "{case}");
    }
    assert_eq!((eu.connections(), unknown_host.connections()), (0, 0));
}

#[tokio::test]
async fn second_redirect_is_returned_to_the_caller() {
    let us = Upstream::responding(OK).await;
    let base = us.url();
    let eu = Upstream::scripted(move |_| to(&format!("{base}/feature-us/x")).into()).await;
    let api = leading_to(&eu).await;
    let route = format!(
        "[[route]]\nprefix = '/region/eu'\nupstream = '{}'\n\
         [[route]]\nprefix = '/region/us'\nupstream = '{}'",
        eu.url(),
        us.url()
    );
    let gateway = Gateway::in_front_of(&api).with(&route).start().await;
    let response = gateway.raw(get("/accessSecurity/x")).await;
    let expected = "http://localhost/region/us/feature-us/x".to_owned();
    assert_eq!(
        (response.status(), response.field("location")),
        (307, Some(expected))
    );
    us.assert_no_more_requests().await;
}

#[tokio::test]
async fn redirect_on_the_same_gateway_is_returned_with_its_location_rewritten() {
    for (path, location) in [
        ("/accessSecurity/x", "/feature-data/x"),
        ("/accessSecurity/x", "/accessSecurity/x/"),
        ("/monitorodata/x", "/other/x?y"),
        ("/monitorodata/x", "/acme/tokens/clients"),
        ("/cvad/manage/me", "/cvad/manage/$batch"),
    ] {
        let api = Upstream::reflecting(move |url| to(&format!("{url}{location}")).into()).await;
        let gateway = Gateway::in_front_of(&api).start().await;
        for request in [get(path), post(path, "body")] {
            let response = gateway.raw(request).await;
            assert_eq!(
                (response.status(), response.field("location")),
                (307, Some(format!("http://localhost{location}"))),
                "{path}"
            );
            api.request().await;
        }
        api.assert_no_more_requests().await;
        assert_eq!(regions(&gateway).await, json!([]));
    }
    // The request's upstream is that of its region.
    let eu = Upstream::reflecting(|url| to(&format!("{url}/feature-data/x")).into()).await;
    let api = Upstream::responding(OK).await;
    let gateway = between(&api, &eu).await;
    let response = gateway.raw(get("/region/eu/accessSecurity/x")).await;
    let expected = "http://localhost/region/eu/feature-data/x".to_owned();
    assert_eq!(
        (response.status(), response.field("location")),
        (307, Some(expected))
    );
    eu.request().await;
    eu.assert_no_more_requests().await;
    assert_eq!(regions(&gateway).await, json!([]));
}

#[tokio::test]
async fn redirect_to_another_path_login_or_batch_is_not_followed() {
    let eu = Upstream::responding(OK).await;
    for (path, target) in [
        ("/accessSecurity/x", "/feature-data/y"),
        ("/accessSecurity/x", "/feature-data/v2/x"),
        ("/accessSecurity/x", "/x"),
        ("/accessSecurity/x", "/cctrustoauth2/acme/tokens/clients"),
        ("/cctrustoauth2/tokens", "/cctrustoauth2/tokens"),
        ("/x/tokens/clients/y", "/x/tokens/clients/y"),
        ("/cvad/manage/me", "/cvad/manage/$batch"),
        ("/monitorodata/$batch", "/monitorodata/$batch"),
        ("/x/%24batch", "/y/%24batch"),
    ] {
        let api = Upstream::responding(to(&format!("{}{target}", eu.url()))).await;
        let gateway = between(&api, &eu).await;
        let response = gateway.raw(get(path)).await;
        assert_eq!(
            (response.status(), response.field("location")),
            (307, Some(format!("http://localhost/region/eu{target}"))),
            "{path} {target}"
        );
        assert_eq!(regions(&gateway).await, json!([]), "{path}");
    }
    eu.assert_no_more_requests().await;
}

#[tokio::test]
async fn moved_back_data_is_requested_at_the_first_gateway_again() {
    let api = Upstream::manual().await;
    let (base, first) = (api.url(), std::sync::atomic::AtomicBool::new(true));
    let eu = Upstream::scripted(move |_| {
        if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            OK.into()
        } else {
            to(&format!("{base}/accessSecurity/x")).into()
        }
    })
    .await;
    let gateway = between(&api, &eu).await;
    let there = to(&format!("{}/feature-data/x", eu.url()));
    let citrix = async {
        let mut wire = api.connection().await;
        wire.request().await;
        wire.write(there).await;
        wire.request().await;
        wire.write(OK).await;
    };
    let caller = async {
        for _ in 0..2 {
            let response = gateway.raw(get("/accessSecurity/x")).await;
            assert_eq!(response.status(), 200, "{}", response.text());
        }
    };
    futures_util::future::join(citrix, caller).await;
    assert_eq!(regions(&gateway).await, json!([]));
}

#[tokio::test]
async fn relative_link_resolves_to_the_responding_region() {
    let created =
        "HTTP/1.1 201 Created\r\nLocation: /feature-data/policies/1\r\nContent-Length: 0\r\n\r\n";
    let eu = Upstream::responding(created).await;
    let api = leading_to(&eu).await;
    let gateway = between(&api, &eu).await;
    for _ in 0..2 {
        let response = gateway.raw(post("/accessSecurity/policies", "{}")).await;
        let expected = "/region/eu/feature-data/policies/1".to_owned();
        assert_eq!(
            (response.status(), response.field("location")),
            (201, Some(expected))
        );
        eu.request().await;
    }
    gateway.raw(get("/region/eu/feature-data/policies/1")).await;
    assert_eq!(
        eu.request().await.line(),
        "GET /feature-data/policies/1 HTTP/1.1"
    );
}

#[tokio::test]
async fn redirect_loop_is_not_followed() {
    let api = Upstream::scripted_by_request(|_, request| {
        let host = request.field("host").unwrap();
        to(&format!("http://{host}/accessSecurity/x")).into()
    })
    .await;
    let gateway = Gateway::in_front_of(&api).start().await;
    assert_eq!(gateway.raw(get("/accessSecurity/x?y")).await.status(), 307);
    api.request().await;
    api.assert_no_more_requests().await;
    assert_eq!(regions(&gateway).await, json!([]));
}

#[tokio::test]
async fn citrix_404_passes_unchanged() {
    let api = Upstream::responding(NOT_FOUND).await;
    let gateway = Gateway::in_front_of(&api).start().await;
    let response = gateway.raw(get("/accessSecurity/x")).await;
    assert_eq!(
        (response.status(), response.text().as_str()),
        (404, "citrix")
    );
    assert_eq!(response.field("x-from").as_deref(), Some("citrix"));
    assert!(!response.has("x-proxy-error"));
    api.request().await;
    api.assert_no_more_requests().await;
}

#[tokio::test]
async fn remembered_region_404_is_verified_at_the_original_address() {
    let eu = Upstream::scripted_by_request(|_, request| {
        if request.line().contains("/known") {
            OK.into()
        } else {
            NOT_FOUND.into()
        }
    })
    .await;
    let base = eu.url();
    // Only a part of the service is in the other region.
    let api = Upstream::scripted_by_request(move |_, request| {
        if request.line().contains("/here") {
            OK.into()
        } else {
            to(&format!("{base}/feature-data{}", rest(request))).into()
        }
    })
    .await;
    let gateway = between(&api, &eu).await;
    gateway.raw(get("/accessSecurity/known")).await;
    assert_eq!(gateway.raw(get("/accessSecurity/here")).await.status(), 200);
    assert_eq!(
        regions(&gateway).await,
        json!([]),
        "the remembered region was wrong"
    );
}

#[tokio::test]
async fn confirmed_404_of_a_region_is_not_verified_again() {
    let eu = Upstream::scripted_by_request(|_, request| {
        if request.line().contains("/known") {
            OK.into()
        } else {
            NOT_FOUND.into()
        }
    })
    .await;
    let api = leading_to(&eu).await;
    let gateway = between(&api, &eu).await;
    gateway.raw(get("/accessSecurity/known")).await;
    api.request().await;
    eu.request().await;
    for round in 1..=3 {
        let response = gateway.raw(get("/accessSecurity/gone")).await;
        assert_eq!(
            (response.status(), response.text().as_str()),
            (404, "citrix")
        );
        eu.request().await;
        if round == 1 {
            api.request().await;
            eu.request().await;
        }
        api.assert_no_more_requests().await;
        eu.assert_no_more_requests().await;
    }
}

#[tokio::test]
async fn unreachable_region_is_forgotten() {
    let eu = Upstream::refusing();
    let base = eu.url();
    let api = Upstream::scripted(move |number| {
        if number == 1 {
            to(&format!("{base}/b/x")).into()
        } else {
            OK.into()
        }
    })
    .await;
    let gateway = between(&api, &eu).await;
    gateway
        .raw(get("/a/x"))
        .await
        .problem(502, "upstream_connect");
    gateway
        .raw(get("/a/x"))
        .await
        .problem(502, "upstream_connect");
    assert_eq!(gateway.raw(get("/a/x")).await.status(), 200);
}

#[tokio::test]
async fn region_401_is_replayed_in_the_same_region() {
    let eu = Upstream::scripted_by_request(|_, request| {
        let stale = request.field("authorization") == Some(format!("CwsAuth Bearer={TOKEN}1"));
        if stale {
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".into()
        } else {
            OK.into()
        }
    })
    .await;
    let api = leading_to(&eu).await;
    let gateway = between(&api, &eu).await;
    assert_eq!(
        gateway
            .raw(post("/accessSecurity/x", "body"))
            .await
            .status(),
        200
    );
    let (first, second) = (eu.request().await, eu.request().await);
    assert_eq!((first.line(), first.text()), (second.line(), second.text()));
    assert_eq!(second.line(), "POST /feature-data/x HTTP/1.1");
}

#[tokio::test]
async fn regions_and_tokens_are_separate_for_each_customer() {
    let eu = Upstream::responding(OK).await;
    let api = leading_to(&eu).await;
    let (acme, contoso) = (
        TokenEndpoint::granting().await,
        TokenEndpoint::granting().await,
    );
    let block = |id: &str, api: &Upstream, logins: &TokenEndpoint| {
        format!(
            "[[customer]]\ncustomer_id = '{id}'\nclient_id = 'c'\nclient_secret = {{ env = 'SECRET' }}\n\
             api_url = '{}'\ntoken_url = '{}'\n",
            api.url(),
            logins.url()
        )
    };
    let blocks = block("acme", &api, &acme) + &block("contoso", &eu, &contoso);
    let route = format!(
        "[[route]]\nprefix = '/region/eu'\nupstream = '{}'",
        eu.url()
    );
    // The API gateway of another customer is not followed to, unless it is a region.
    for (route, status) in [("", 307), (&*route, 200)] {
        let gateway = Gateway::for_customers(&(blocks.clone() + route))
            .set("SECRET", "s3cret")
            .start()
            .await;
        let request = get_with("/accessSecurity/x", "Citrix-CustomerId: acme\r\n");
        assert_eq!(gateway.raw(request).await.status(), status, "{route}");
    }
    eu.request().await;
    let gateway = Gateway::for_customers(&(blocks + &route))
        .set("SECRET", "s3cret")
        .start()
        .await;
    let of = |customer: &str| {
        get_with(
            "/accessSecurity/x",
            &format!("Citrix-CustomerId: {customer}\r\n"),
        )
    };
    assert_eq!(gateway.raw(of("acme")).await.status(), 200);
    let moved = eu.request().await;
    assert_eq!(moved.line(), "GET /feature-data/x HTTP/1.1");
    assert_eq!(moved.field("citrix-customerid").as_deref(), Some("acme"));
    assert_eq!(gateway.raw(of("contoso")).await.status(), 200);
    assert_eq!(eu.request().await.line(), "GET /accessSecurity/x HTTP/1.1");
    let listed = regions(&gateway).await;
    assert_eq!(
        (listed.as_array().unwrap().len(), &listed[0]["customer"]),
        (1, &json!("acme"))
    );
}

#[tokio::test]
async fn region_list_requires_the_admin_secret() {
    let api = Upstream::responding(OK).await;
    let hash = "107b4a7857be75269640d3541c2ec7eb2f44d648e7b741017e0752e9387756c2";
    let gateway = Gateway::in_front_of(&api)
        .with(&format!("[admin]\nsecret_sha256 = '{hash}'"))
        .start()
        .await;
    assert_eq!(gateway.admin(get("/regions")).await.status(), 401);
    assert_eq!(
        gateway
            .admin(get_with("/regions", "X-Api-Key: CANARY-admin\r\n"))
            .await
            .status(),
        200
    );
}

#[tokio::test]
async fn emulated_region_redirect_is_followed_over_tls() {
    let faults = Faults {
        region_redirect: Some(RedirectTarget::Other),
        ..Faults::default()
    };
    let region_listen = Some("127.0.0.1:0".parse().unwrap());
    let cloud = Cloud::with(Options {
        faults,
        region_listen,
        ..Options::default()
    })
    .await;
    let route = format!(
        "[[route]]\nprefix = '/region/eu'\nupstream = '{}'",
        cloud.emulator.region_url().unwrap()
    );
    let gateway = Gateway::in_front_of_cloud(&cloud)
        .with(&route)
        .start()
        .await;
    for _ in 0..2 {
        let response = gateway
            .raw(get("/accessSecurity/sessionPolicy?limit=1"))
            .await;
        assert_eq!(response.status(), 200, "{}", response.text());
    }
    let listed = regions(&gateway).await;
    assert!(
        listed[0]["from"]
            .as_str()
            .unwrap()
            .ends_with("/accessSecurity"),
        "{listed}"
    );
}

#[tokio::test]
async fn redirect_by_an_upstream_outside_citrix_is_passed() {
    let api = Upstream::responding(OK).await;
    let base = api.url();
    let other = Upstream::scripted_by_request(move |_, request| {
        to(&format!("{base}/feature-data{}", rest(request))).into()
    })
    .await;
    let route = format!("[[route]]\nprefix = '/other'\nupstream = '{}'", other.url());
    let gateway = Gateway::in_front_of(&api).with(&route).start().await;
    for request in [get("/other/a/x"), post("/other/a/x", "{}")] {
        let response = gateway.raw(request).await;
        assert_eq!(response.status(), 307);
        assert!(
            response
                .field("location")
                .unwrap()
                .ends_with("/feature-data/x")
        );
    }
    assert_eq!(regions(&gateway).await, serde_json::json!([]));
    assert_eq!(api.connections(), 0);
}
