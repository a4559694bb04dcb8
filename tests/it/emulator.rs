//! Tests of the emulator itself.

mod batch;
mod customers;
mod docs;
mod faults;
mod limits;
mod links;
mod odata;
mod platform;
mod services;
mod trust;

use std::time::Duration;

use citrix_emulator::{Emulator, EmulatorError, Faults, Options, Tls, start};
use reqwest::{Client, RequestBuilder, Response, Version};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::tls_client;

/// Returns a client that trusts only `ca`.
fn client(ca: Option<&str>, alpn: &[&str]) -> Client {
    Client::builder()
        .tls_backend_preconfigured(tls_client(ca, alpn))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap()
}

/// A running emulator, a client, and a token.
struct Lab {
    emulator: Emulator,
    client: Client,
    token: String,
}

async fn lab() -> Lab {
    lab_with(Options::default()).await
}

async fn lab_with(options: Options) -> Lab {
    let emulator = start(options).await.unwrap();
    let client = client(emulator.ca_pem(), &["h2", "http/1.1"]);
    let mut lab = Lab {
        emulator,
        client,
        token: String::new(),
    };
    lab.token = lab.login().await;
    lab
}

impl Lab {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.emulator.base_url())
    }

    fn form<'a>(&'a self, secret: &'a str) -> [(&'static str, &'a str); 3] {
        let id = self.emulator.client_id();
        [
            ("grant_type", "client_credentials"),
            ("client_id", id),
            ("client_secret", secret),
        ]
    }

    async fn login(&self) -> String {
        let form = self.form(self.emulator.client_secret());
        let response = self
            .client
            .post(self.emulator.token_url("root"))
            .form(&form)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        json(response).await["access_token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Returns a GET with all fields that any service requires.
    fn get(&self, path: &str) -> RequestBuilder {
        self.authorize(self.client.get(self.url(path)))
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.authorize(self.client.post(self.url(path)))
    }

    fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
        request
            .header("authorization", format!("CwsAuth Bearer={}", self.token))
            .header("citrix-customerid", self.emulator.customer_id())
            .header("citrix-instanceid", self.emulator.site_id())
            .header("accept", "application/json")
    }

    async fn status(&self, request: RequestBuilder) -> u16 {
        request.send().await.unwrap().status().as_u16()
    }

    async fn get_json(&self, path: &str) -> Value {
        let response = self.get(path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        json(response).await
    }

    /// Sends bytes on a new connection and reads until the emulator closes it.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.emulator.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }
}

async fn json(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn generated_certificate_verifies_and_offers_both_protocols() {
    let lab = lab_with(Options {
        tls: Tls::SelfSigned,
        ..Options::default()
    })
    .await;
    let port = lab.emulator.address().port();
    assert_eq!(lab.emulator.base_url(), format!("https://localhost:{port}"));
    let ca = lab.emulator.ca_pem();
    for (alpn, version) in [
        (&["h2"][..], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
    ] {
        for host in ["localhost", "127.0.0.1"] {
            let url = format!("https://{host}:{port}/_emulator/stats");
            let response = client(ca, alpn).get(url).send().await.unwrap();
            assert_eq!(
                (response.status().as_u16(), response.version()),
                (200, version)
            );
        }
    }
    assert!(
        client(None, &["h2"])
            .get(lab.url("/_emulator/stats"))
            .send()
            .await
            .is_err()
    );
    assert_eq!(lab.get_json("/echo").await["version"], "HTTP/2.0");
}

#[tokio::test]
async fn connect_to_citrix_hosts_reaches_emulated_services() {
    let lab = lab_with(Options {
        tls: Tls::SelfSigned,
        ..Options::default()
    })
    .await;
    let proxy = format!("http://{}", lab.emulator.address());
    for (alpn, version) in [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11)] {
        let client = Client::builder()
            .tls_backend_preconfigured(tls_client(lab.emulator.ca_pem(), &[alpn]))
            .proxy(reqwest::Proxy::all(&proxy).unwrap())
            .build()
            .unwrap();
        let get = |url| lab.authorize(client.get(url)).send();
        for url in [
            "https://api.cloud.com/cvad/manage/me",
            "https://registry.citrixworkspacesapi.net/acme/resourcelocations",
            "https://eu-api.wem.cloud.com/services/wem/sites",
        ] {
            let response = get(url).await.unwrap();
            assert_eq!(
                (response.status().as_u16(), response.version()),
                (200, version),
                "{url}"
            );
        }
        assert_eq!(
            get("https://core.citrixworkspacesapi.net/cvad/manage/me")
                .await
                .unwrap()
                .status(),
            404
        );
        assert!(get("https://example.net/").await.is_err());
        // Without TLS it is only a proxy for tunnels.
        assert_eq!(
            get("http://api.cloud.com/cvad/manage/me")
                .await
                .unwrap()
                .status(),
            400
        );
    }
    assert_eq!(lab.emulator.stats().tunnels, 8);
}

#[tokio::test]
async fn tls_files_are_used_and_missing_key_is_an_error() {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (
        directory.path().join("c.pem"),
        directory.path().join("k.pem"),
    );
    std::fs::write(&certificate, issued.cert.pem()).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    let tls = Tls::Files {
        certificate: certificate.clone(),
        key,
    };
    let emulator = start(Options {
        tls,
        ..Options::default()
    })
    .await
    .unwrap();
    assert_eq!(emulator.ca_pem(), None);
    let url = format!("{}/_emulator/stats", emulator.base_url());
    let response = client(Some(&issued.cert.pem()), &["h2"])
        .get(url)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);

    let tls = Tls::Files {
        certificate,
        key: directory.path().join("absent.pem"),
    };
    let result = start(Options {
        tls,
        ..Options::default()
    })
    .await;
    assert!(
        matches!(result, Err(EmulatorError::ReadPem { path, .. }) if path.ends_with("absent.pem"))
    );
}

#[tokio::test]
async fn http2_prior_knowledge_is_served() {
    let lab = lab().await;
    let client = Client::builder().no_proxy().http2_prior_knowledge();
    let client = client
        .tls_backend_preconfigured(tls_client(None, &[]))
        .build()
        .unwrap();
    let response = lab
        .authorize(client.get(lab.url("/echo")))
        .send()
        .await
        .unwrap();
    assert_eq!(json(response).await["version"], "HTTP/2.0");
}

#[tokio::test]
async fn stop_closes_listener_and_connections() {
    let lab = lab().await;
    let address = lab.emulator.address();
    let mut idle = TcpStream::connect(address).await.unwrap();
    // The response proves that the connection was accepted.
    idle.write_all(b"GET /_emulator/stats HTTP/1.1\r\nhost: emulator\r\n\r\n")
        .await
        .unwrap();
    idle.read_u8().await.unwrap();
    lab.emulator.stop().await;
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.ok();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn address_in_use_returns_error_with_address() {
    let lab = lab().await;
    let listen = lab.emulator.address();
    let error = start(Options {
        listen,
        ..Options::default()
    })
    .await
    .err()
    .unwrap();
    assert_eq!(error.to_string(), format!("cannot listen on {listen}"));
}

#[tokio::test]
async fn control_paths_need_no_token() {
    let lab = lab().await;
    lab.get_json("/echo").await;
    let post = |path| lab.client.post(lab.url(path)).send();
    assert_eq!(
        json(post("/_emulator/expire").await.unwrap()).await["expired"],
        1
    );
    assert_eq!(lab.status(lab.get("/echo")).await, 401);
    assert_eq!(lab.login().await.matches('.').count(), 2);
    assert_eq!(
        json(post("/_emulator/revoke").await.unwrap()).await["revoked"],
        1
    );
    // Without `Content-Length`, like curl.
    let raw = "POST /_emulator/revoke HTTP/1.1\r\nhost: e\r\nconnection: close\r\n\r\n";
    assert!(lab.raw(raw).await.starts_with("HTTP/1.1 200 OK\r\n"));

    let stats = json(
        lab.client
            .get(lab.url("/_emulator/stats"))
            .send()
            .await
            .unwrap(),
    )
    .await;
    for (name, count) in [
        ("requests", 2),
        ("token_requests", 2),
        ("tokens_issued", 2),
        ("valid", 1),
        ("expired_token", 1),
    ] {
        assert_eq!(stats[name], count, "{name}");
    }
    assert_eq!(stats, serde_json::to_value(lab.emulator.stats()).unwrap());
    assert_eq!(
        lab.status(lab.client.get(lab.url("/_emulator/revoke")))
            .await,
        405
    );
    assert_eq!(
        lab.status(lab.client.get(lab.url("/_emulator/nothing")))
            .await,
        404
    );
}

#[tokio::test]
async fn echo_returns_request_without_tokens() {
    let lab = lab().await;
    let path = "/echo/a%2fB/./c//$x?q=%7E+%20'&continuationToken=%2BRID%3A~x%23RT%3A1";
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nhost: emulator\r\nauthorization: CwsAuth Bearer={}\r\n\
         proxy-authorization: Basic eDp5\r\nx-two: 1\r\nx-two: 2\r\nconnection: close\r\n",
        lab.token
    );
    let body = "x".repeat(1500);
    let response = lab
        .raw(&format!("{head}content-length: 1500\r\n\r\n{body}"))
        .await;
    assert!(!response.contains(&lab.token));
    let echo: Value = serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        (&echo["method"], &echo["path"]),
        (&"PATCH".into(), &path.into())
    );
    assert_eq!(echo["version"], "HTTP/1.1");
    assert_eq!(echo["body_length"], 1500);
    assert_eq!(echo["body"].as_str().unwrap(), &body[..1024]);
    let headers = echo["headers"].as_array().unwrap();
    for pair in [
        ["authorization", "valid"],
        ["proxy-authorization", "malformed"],
        ["x-two", "1"],
        ["x-two", "2"],
    ] {
        assert!(
            headers.contains(&pair.to_vec().into()),
            "{pair:?} in {headers:?}"
        );
    }
}

#[tokio::test]
async fn bodies_stream_in_both_directions() {
    let lab = lab().await;
    let length = 1_000_003;
    let response = lab
        .post("/upload")
        .body(vec![7_u8; length])
        .send()
        .await
        .unwrap();
    assert_eq!(json(response).await["bytes"], length);

    for (query, content_length) in [("", Some("1000003")), ("&chunked=1", None)] {
        let response = lab
            .get(&format!("/download?bytes={length}{query}"))
            .send()
            .await
            .unwrap();
        assert_eq!(header(&response, "content-length"), content_length);
        let bytes = response.bytes().await.unwrap();
        assert_eq!((bytes.len(), bytes[250], bytes[251]), (length, 250, 0));
        assert_eq!(bytes[..65536], bytes[65536..131_072]);
    }
    assert_eq!(lab.status(lab.get("/download")).await, 400);
    assert_eq!(
        lab.status(lab.client.get(lab.url("/download?bytes=1")))
            .await,
        401
    );
}

#[tokio::test]
async fn status_path_returns_requested_status() {
    let lab = lab().await;
    for status in [200, 204, 304, 418, 429, 503, 530] {
        assert_eq!(
            lab.status(lab.get(&format!("/status/{status}"))).await,
            status
        );
    }
    for path in ["/status/100", "/status/x", "/status"] {
        assert_eq!(lab.status(lab.get(path)).await, 400);
    }
    assert_eq!(lab.status(lab.get("/no/such/service")).await, 404);
}

#[tokio::test(start_paused = true)]
async fn latency_fault_delays_response() {
    let lab = lab().await;
    let latency = Duration::from_millis(300);
    lab.emulator.set_faults(Faults {
        latency,
        ..Faults::default()
    });
    let begin = tokio::time::Instant::now();
    lab.get_json("/resourcelocations").await;
    assert!(begin.elapsed() >= latency);
}
