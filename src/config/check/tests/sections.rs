//! Values of each section.

use super::*;

/// Keys of `[citrix]`, each with the problem.
const INVALID_CITRIX: [(&str, &str); 18] = [
    ("customer_id = 12", "invalid string 12"),
    ("customer_id = ''", "customer_id: must not be empty"),
    ("customer_id = 'a/b'", "invalid customer id"),
    ("customer_id = 'a b'", "invalid customer id"),
    ("customer_id = 'a%62'", "invalid customer id"),
    ("customer_id = 'käse'", "invalid customer id"),
    ("customer_id = '..'", "invalid customer id"),
    ("client_id = 12", "must be a string"),
    ("client_id = ''", "must not be empty"),
    ("client_id = \"a\\n\"", "control characters"),
    (
        "cloud = 'staging'",
        "is not one of commercial, us, eu, ap-s, japan, gov",
    ),
    ("instance_id = 'site'", "is not \"auto\", \"\" or a GUID"),
    (
        "instance_id = '{61603f15-cdf9-4c7f-99ff-91636601a795}'",
        "or a GUID",
    ),
    (
        "instance_id = '61603f15cdf94c7f99ff91636601a795'",
        "or a GUID",
    ),
    ("token_dialect = 'saml'", "is not one of oauth2, trust"),
    ("authorization = 'Bearer'", "is not one of cws, bearer"),
    ("api_url = 'http://api.cloud.com'", "loopback hosts only"),
    ("token_url = 'https://a/b?c'", "query"),
];

#[test]
fn invalid_citrix_key_is_rejected() {
    for (text, part) in INVALID_CITRIX {
        // A variable for the same key would override it.
        let key = text.split(' ').next().unwrap();
        let env = LOGIN
            .into_iter()
            .filter(|(name, _)| !name.to_lowercase().ends_with(key));
        let problems = from_toml(
            &format!("[citrix]\n{text}"),
            pairs(&env.collect::<Vec<_>>()),
        )
        .unwrap_err();
        assert!(
            problems.len() == 1 && problems[0].to_string().contains(part),
            "{text}\n{}",
            printed(&problems)
        );
    }
}

#[test]
fn cloud_and_dialect_determine_the_token_url() {
    let credential = |text: &str| accept(&format!("[citrix]\n{text}")).live.credentials[0].clone();
    assert_eq!(credential("instance_id = ''").instance_id, InstanceId::None);
    for (text, url) in [
        (
            "cloud = 'gov'",
            "https://trust.citrixworkspacesapi.us/root/tokens/clients",
        ),
        (
            "cloud = 'japan'",
            "https://api.citrixcloud.jp/cctrustoauth2/acme/tokens/clients",
        ),
        (
            "token_dialect = 'trust'",
            "https://trust.citrixworkspacesapi.net/root/tokens/clients",
        ),
        (
            "api_url = 'http://[::1]:7/x'",
            "http://[::1]:7/cctrustoauth2/acme/tokens/clients",
        ),
    ] {
        assert_eq!(credential(text).token_url, url, "{text}");
    }
    for (name, _) in citrix_wire::citrix::clouds::Cloud::ALL {
        let api = accept(&format!("[citrix]\ncloud = '{name}'"))
            .live
            .credentials[0]
            .api
            .url
            .clone();
        assert_eq!(
            api.authority == "api.cloud.com",
            name == "commercial",
            "{name}"
        );
    }
}

/// Keys of `[listen]`, each with the problem.
const INVALID_LISTEN: [(&str, &str); 24] = [
    (
        "address = ':8080'",
        "invalid address \":8080\": not an IP address with a port",
    ),
    ("address = '127.0.0.1'", "not an IP address with a port"),
    (
        "address = 'gateway.example.net:80'",
        "not an IP address with a port",
    ),
    ("address = 8080", "invalid string or list of strings 8080"),
    ("address = [8080]", "invalid list of strings […]"),
    ("address = []", "must not be an empty list"),
    ("address = '10.1.2.3:80'", "API client's permissions"),
    ("address = '[::]:80'", "API client's permissions"),
    (
        "address = ['127.0.0.1:1', '127.0.0.1:1']",
        "duplicate address 127.0.0.1:1",
    ),
    (
        "address = ['unix:/a', 'unix:/a']",
        "duplicate address unix:/a",
    ),
    (
        "address = 'unix:a'",
        "invalid socket path \"a\": not absolute",
    ),
    (
        "address = '127.0.0.1:9090'",
        "admin.address: 127.0.0.1:9090 is also an address of [listen]",
    ),
    ("unix_mode = 660", "invalid file mode 660"),
    ("unix_mode = '0o660'", "invalid file mode"),
    ("unix_mode = '0888'", "invalid file mode"),
    ("unix_mode = '1777'", "invalid file mode"),
    ("unix_mode = '+660'", "invalid file mode"),
    ("workers = 2000", "is not between 0 and 1024"),
    ("hosts = 'a'", "invalid list of strings"),
    ("hosts = ['*', 'a']", "must be the only entry"),
    ("hosts = ['a:80']", "invalid host name \"a:80\""),
    ("hosts = ['https://a']", "invalid host name"),
    ("hosts = ['*.example.net']", "invalid host name"),
    ("hosts = ['']", "invalid host name"),
];

#[test]
fn invalid_listen_key_is_rejected() {
    for (text, part) in INVALID_LISTEN {
        rejects_with(&format!("[listen]\n{text}"), part);
    }
    rejects_with(
        &format!("[listen]\naddress = 'unix:/{}'", "x".repeat(107)),
        "longer than",
    );
}

#[test]
fn loopback_addresses_and_repeated_ephemeral_ports_are_accepted() {
    accept(
        "[listen]\naddress = ['127.0.0.1:0', '127.0.0.1:0', '127.9.9.9:80', '[::ffff:127.0.0.1]:80']",
    );
    accept("[listen]\naddress = '127.0.0.1:0'\n[admin]\naddress = '127.0.0.1:0'");
}

#[test]
fn any_host_with_anonymous_callers_logs_a_warning() {
    let any = accept("[listen]\nhosts = ['*']");
    assert_eq!(any.live.hosts, AllowedHosts::Any);
    assert!(
        any.warnings[0].contains("any Host is permitted"),
        "{:?}",
        any.warnings
    );
}

/// A certificate and a key, both empty files.
struct TlsFiles {
    _directory: tempfile::TempDir,
    certificate: String,
    key: String,
}

impl TlsFiles {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| {
            let path = directory.path().join(name);
            std::fs::write(&path, "").unwrap();
            path.display().to_string()
        });
        Self {
            _directory: directory,
            certificate,
            key,
        }
    }

    /// Returns a configuration with the keys `tls`, in which `CERT` and `KEY` are replaced by the
    /// files.
    fn listen(&self, tls: &str) -> String {
        let tls = tls
            .replace("CERT", &format!("certificate = '{}'", self.certificate))
            .replace("KEY", &format!("key = '{}'", self.key));
        format!("[listen]\naddress = ['127.0.0.1:1', 'unix:/s']\ntls = {{ {tls} }}")
    }
}

#[test]
fn tls_applies_to_all_addresses_or_to_its_own() {
    let files = TlsFiles::new();
    let listeners = |tls: &str| {
        let boot = accept(&files.listen(tls)).boot;
        assert_eq!(
            boot.certificate.unwrap().key.display().to_string(),
            files.key
        );
        boot.listeners
            .into_iter()
            .map(|listener| (listener.address.to_string(), listener.tls))
            .collect::<Vec<_>>()
    };
    let named = |address: &str, tls: bool| (address.to_owned(), tls);
    assert_eq!(
        listeners("CERT, KEY"),
        [named("127.0.0.1:1", true), named("unix:/s", true)]
    );
    assert_eq!(
        listeners("CERT, KEY, address = '127.0.0.1:2'"),
        [
            named("127.0.0.1:1", false),
            named("unix:/s", false),
            named("127.0.0.1:2", true)
        ]
    );
}

#[test]
fn addresses_that_include_each_other_are_rejected() {
    for (listen, problem) in [
        (
            "['127.0.0.1:1', '0.0.0.0:1']",
            "listen.address: 0.0.0.0:1 conflicts with 127.0.0.1:1; one of them includes the other",
        ),
        (
            "['[::]:1', '[::1]:1']",
            "listen.address: [::1]:1 conflicts with [::]:1; one of them includes the other",
        ),
        (
            "'0.0.0.0:9090'",
            "admin.address: 127.0.0.1:9090 conflicts with 0.0.0.0:9090 of [listen]",
        ),
    ] {
        let text = format!("[insecure]\nallow_anonymous = true\n[listen]\naddress = {listen}\n");
        rejects_with(&text, problem);
    }
}

/// Keys of `listen.tls`, each with the problem.
const INVALID_TLS: [(&str, &str); 8] = [
    ("CERT", "listen.tls.key: missing"),
    ("KEY", "listen.tls.certificate: missing"),
    (
        "CERT, key = '/nowhere'",
        "listen.tls.key: cannot read \"/nowhere\"",
    ),
    (
        "CERT, KEY, address = '127.0.0.1:1'",
        "listen.tls.address: duplicate address 127.0.0.1:1",
    ),
    (
        "CERT, KEY, address = '0.0.0.0:2'",
        "listen.tls.address: 0.0.0.0:2 is not a loopback address",
    ),
    (
        "CERT, KEY, client_ca = '/nowhere'",
        "listen.tls.client_ca: cannot read \"/nowhere\"",
    ),
    (
        "CERT, KEY, client_auth = 'required'",
        "listen.tls.client_ca: missing",
    ),
    (
        "CERT, KEY, client_ca = '/dev/null', client_auth = 'yes'",
        "\"yes\" is not one of optional, required",
    ),
];

#[test]
fn invalid_tls_key_is_rejected() {
    let files = TlsFiles::new();
    for (tls, part) in INVALID_TLS {
        rejects_with(&files.listen(tls), part);
    }
}

#[test]
fn client_auth_is_optional_by_default() {
    let files = TlsFiles::new();
    let clients = |tls: &str| {
        let boot = accept(&files.listen(&format!("CERT, KEY{tls}"))).boot;
        boot.certificate.unwrap().clients
    };
    assert_eq!(clients(""), None);
    for (auth, required) in [
        ("", false),
        (", client_auth = 'optional'", false),
        (", client_auth = 'required'", true),
    ] {
        let found = clients(&format!(", client_ca = '{}'{auth}", files.key)).unwrap();
        assert_eq!(
            (found.ca_file.display().to_string(), found.required),
            (files.key.clone(), required)
        );
    }
}

#[test]
fn peers_are_matched_by_network() {
    for key in ["proxy_protocol", "trusted_forwarders"] {
        for (value, part) in [
            ("'10.0.0.0/8'", "invalid list of strings"),
            ("['balancer']", "invalid network \"balancer\""),
            ("['10.0.0.0/33']", "invalid network"),
            (
                "['10.0.0.1/8']",
                "bits are set beyond the prefix; the network is 10.0.0.0/8",
            ),
            ("['::ffff:10.0.0.0/104']", "as IPv4"),
        ] {
            rejects_with(&format!("[listen]\n{key} = {value}"), part);
        }
    }
    let live =
        accept("[listen]\nproxy_protocol = ['10.0.0.0/8', '2001:db8::/32', '192.0.2.1']").live;
    for (address, inside) in [
        ("10.255.0.1", true),
        ("::ffff:10.255.0.1", true),
        ("11.0.0.1", false),
        ("2001:db8::1", true),
        ("192.0.2.1", true),
        ("192.0.2.2", false),
        ("::1", false),
    ] {
        assert_eq!(
            live.proxy_protocol.contains(address.parse().unwrap()),
            inside,
            "{address}"
        );
        assert!(!live.trusted_forwarders.contains(address.parse().unwrap()));
    }
}

#[test]
fn remote_admin_address_requires_a_secret() {
    let hash = "4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677B2";
    let config = accept(&format!(
        "[admin]\naddress = '0.0.0.0:1'\nsecret_sha256 = '{hash}'"
    ));
    assert!(config.boot.admin.secret_sha256.is_some());
    for (text, part) in [
        (
            "address = '0.0.0.0:1'",
            "admin.secret_sha256: missing: required because 0.0.0.0:1 is not a loopback address",
        ),
        ("address = 'unix:/admin'", "not an IP address"),
        ("secret_sha256 = ''", "must be the 64 hex digits"),
        ("secret_sha256 = 'é'", "must be the 64 hex digits"),
        (
            &format!("secret_sha256 = '{hash}0'"),
            "must be the 64 hex digits",
        ),
        (
            &format!("secret_sha256 = '{}x'", &hash[1..]),
            "must be the 64 hex digits",
        ),
    ] {
        rejects_with(&format!("[admin]\n{text}"), part);
    }
}

#[test]
fn ambiguous_or_duplicate_prefix_is_rejected() {
    for prefix in [
        "", "a", "/a/", "//", "/a//b", "/.", "/a/../b", "/a?b", "/a#b", "/a%20b", "/a b", "/ä",
        "/a\\b",
    ] {
        let text = format!("[[route]]\nprefix = '{prefix}'\nupstream = 'https://a'");
        rejects_with(&text, "route[0].prefix: ");
    }
    let twice = "[[route]]\nprefix = '/a'\nupstream = 'https://a'\n".repeat(2);
    rejects(&twice, "route[1].prefix: duplicate prefix \"/a\"");
    rejects_with("[[route]]\nprefix = '/a'", "route[0].upstream: missing");
    rejects_with(
        "[[route]]\nupstream = 'https://a'",
        "route[0].prefix: missing",
    );
    rejects_with(
        "[[route]]\nprefix = '/a'\nupstream = 'a'",
        "route[0].upstream: invalid URL \"a\"",
    );

    let all = accept(
        "[[route]]\nprefix = '/'\nupstream = 'https://a.example.com'\nauthorization = 'bearer'",
    )
    .live;
    assert!(
        all.routes[1..]
            .iter()
            .all(|route| route.built_in && !route.prefix.is_empty())
    );
    assert_eq!(
        (all.routes[0].prefix.as_str(), all.routes[0].strip_prefix),
        ("", false)
    );
    let RouteTarget::Fixed(UpstreamEndpoint { url, authorization }) = &all.routes[0].target else {
        panic!("{:?}", all.routes[0].target)
    };
    assert_eq!(
        (url.authority.as_str(), *authorization),
        ("a.example.com", AuthorizationScheme::Bearer)
    );
}

#[test]
fn host_of_public_url_is_allowed() {
    let live =
        accept("[listen]\npublic_url = 'https://GW.example.net/sub/'\nhosts = ['other']").live;
    assert_eq!(
        live.public_url.as_deref(),
        Some("https://gw.example.net/sub")
    );
    assert_eq!(
        live.hosts,
        AllowedHosts::Only(vec!["other".to_owned(), "gw.example.net".to_owned()])
    );
    assert_eq!(
        accept("[listen]\npublic_url = 'http://gw:8080'")
            .live
            .public_url
            .as_deref(),
        Some("http://gw:8080")
    );
    for (value, part) in [
        ("'gw'", "scheme or host is missing"),
        ("'ftp://gw'", "the scheme must be"),
        ("'https://gw/?x'", "query and fragment"),
    ] {
        rejects_with(&format!("[listen]\npublic_url = {value}"), part);
    }
}

#[test]
fn max_concurrent_and_queue_timeout_limit_a_route() {
    const ROUTE: &str = "[[route]]\nprefix = '/a'\nupstream = 'https://a'\n";
    for (text, expected) in [
        ("", None),
        ("max_concurrent = 1", Some(limit("/a", 1, 60))),
        (
            "max_concurrent = 3\nqueue_timeout = '5s'",
            Some(limit("/a", 3, 5)),
        ),
    ] {
        assert_eq!(
            configured_limits(&accept(&format!("{ROUTE}{text}")).live),
            [&expected],
            "{text}"
        );
    }
    for (text, part) in [
        (
            "max_concurrent = 0",
            "route[0].max_concurrent: 0 is not between 1 and",
        ),
        ("max_concurrent = 'one'", "invalid integer"),
        (
            "max_concurrent = 1\nqueue_timeout = '0s'",
            "route[0].queue_timeout: ",
        ),
        (
            "queue_timeout = '5s'",
            "route[0].max_concurrent: missing: required by queue_timeout",
        ),
    ] {
        rejects_with(&format!("{ROUTE}{text}"), part);
    }
}

#[test]
fn token_cache_requires_an_existing_directory_and_a_long_key() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(at("key"), "k".repeat(32)).unwrap();
    std::fs::write(at("short"), "k".repeat(31) + "\n").unwrap();
    let text = |file: &str, key: &str| {
        format!(
            "[token]\ncache_file = '{}'\ncache_key = {{ file = '{}' }}",
            at(file),
            at(key)
        )
    };
    assert!(accept("").live.token_cache.is_none());
    let cache = accept(&text("token", "key"))
        .live
        .token_cache
        .clone()
        .unwrap();
    assert_eq!(cache.file, directory.path().join("token"));
    assert_eq!(cache.key.read().unwrap().expose_secret().len(), 32);
    accept("[token]\ncache_file = 'token'\ncache_key = '01234567890123456789012345678901'");
    for (text, part) in [
        (
            text("token", "short"),
            "token.cache_key: the key has 31 bytes; the minimum is 32",
        ),
        (text("token", "none"), "token.cache_key: "),
        (text("none/token", "key"), "token.cache_file: \""),
        (text("", "key"), "token.cache_file: \""),
        (
            format!("[token]\ncache_file = '{}'", at("token")),
            "token.cache_key: missing: ",
        ),
        (
            format!("[token]\ncache_key = {{ file = '{}' }}", at("key")),
            "token.cache_file: missing: ",
        ),
        (
            format!(
                "[token]\ncache_file = 7\ncache_key = {{ file = '{}' }}",
                at("key")
            ),
            "token.cache_file: invalid string 7",
        ),
    ] {
        rejects_with(&text, part);
    }
    let variables = [
        LOGIN[0],
        LOGIN[1],
        LOGIN[2],
        ("CREDENTIALS_DIRECTORY", directory.path().to_str().unwrap()),
    ];
    std::fs::rename(at("key"), at("cache_key")).unwrap();
    let text = format!("[token]\ncache_file = '{}'", at("token"));
    assert!(
        from_toml(&text, pairs(&variables))
            .unwrap()
            .live
            .token_cache
            .is_some(),
        "the key is in the credentials directory"
    );
}

#[test]
fn signing_key_has_at_least_32_bytes() {
    let login = accept("").live.login.clone();
    assert!(login.signing_key.is_none());
    assert_eq!(login.token_lifetime, Duration::from_hours(1));
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("signing_key");
    std::fs::write(&key, "k".repeat(32) + "\n").unwrap();
    let text = format!(
        "[login]\nsigning_key = {{ file = '{}' }}\ntoken_lifetime = '10m'",
        key.display()
    );
    let login = accept(&text).live.login.clone();
    assert_eq!(
        login
            .signing_key
            .as_ref()
            .map(|key| key.expose_secret().len()),
        Some(32)
    );
    assert_eq!(login.token_lifetime, Duration::from_mins(10));
    let variables = [
        LOGIN[0],
        LOGIN[1],
        LOGIN[2],
        ("CREDENTIALS_DIRECTORY", directory.path().to_str().unwrap()),
    ];
    assert!(
        from_toml("", pairs(&variables))
            .unwrap()
            .live
            .login
            .signing_key
            .is_some()
    );
    let printed = format!("{login:?}");
    assert!(!printed.contains("kkk"), "{printed}");

    std::fs::write(&key, "k".repeat(31) + "\n").unwrap();
    rejects_with(
        &text,
        "login.signing_key: the key has 31 bytes; the minimum is 32",
    );
    rejects_with(
        "[login]\nsigning_key = { file = '/nowhere' }",
        "login.signing_key: cannot read /nowhere: No such file",
    );
    for lifetime in ["999ms", "25h", "0s"] {
        let text = format!("[login]\ntoken_lifetime = '{lifetime}'");
        rejects_with(&text, "login.token_lifetime: ");
    }
}

#[test]
fn explicit_default_is_accepted() {
    const ROUTE: &str = "[[route]]\nprefix = '/a'\nupstream = 'https://a'\n";
    for off in [
        "[insecure]\nallow_anonymous = false",
        "[lifecycle]\ndrain_delay = '0s'",
        &format!("{ROUTE}rewrite_links = false"),
        &format!("{ROUTE}collapse = false"),
    ] {
        accept(off);
    }
    rejects_with(
        &format!("{ROUTE}collapse = true"),
        "route[0].max_concurrent: missing: required by collapse",
    );
    rejects_with(
        "[limits]\nmax_connections_per_address = 'many'",
        "invalid integer",
    );
}

#[test]
fn fixed_addresses_are_lists_by_host() {
    let resolve = |value: &str| accept(&format!("[upstream]\nresolve = {value}")).live;
    let live = resolve("{ 'API.Cloud.com' = ['203.0.113.7', '2001:db8::7'] }");
    let fixed: Vec<_> = live.upstream.resolve.iter().collect();
    assert_eq!(fixed.len(), 1);
    assert_eq!(fixed[0].0, "api.cloud.com");
    assert_eq!(
        *fixed[0].1,
        ["203.0.113.7", "2001:db8::7"].map(|text| text.parse::<std::net::IpAddr>().unwrap())
    );
    for (value, part) in [
        ("'api.cloud.com=203.0.113.7'", "must be a table"),
        ("{ 'api.cloud.com' = '203.0.113.7' }", "must be a list"),
        ("{ 'api.cloud.com' = [] }", "must be a list"),
        ("{ 'api.cloud.com' = ['gateway'] }", "invalid IP address"),
        (
            "{ 'https://api.cloud.com' = ['203.0.113.7'] }",
            "invalid host name",
        ),
        ("{ '127.0.0.1' = ['203.0.113.7'] }", "invalid host name"),
    ] {
        rejects_with(&format!("[upstream]\nresolve = {value}"), part);
    }
}

#[test]
fn intercept_requires_an_address_and_an_authority_and_names_for_tunnels() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, "").unwrap();
        path.display().to_string()
    };
    let ca = format!(
        "ca = {{ certificate = '{}', key = '{}' }}",
        file("ca.pem"),
        file("ca.key")
    );
    let with = |lines: &str| format!("[intercept]\n{lines}\n");
    let config = accept(&with(&format!(
        "address = ['127.0.0.1:8081', '127.0.0.1:8082']\n{ca}\ntunnel = ['*.Blob.example', 'a.example.net']"
    )));
    let intercept = config.boot.intercept.unwrap();
    assert_eq!(intercept.addresses.len(), 2);
    assert_eq!(config.boot.listeners.len(), 1, "those of [listen] only");
    let tunnels = &config.live.tunnels;
    let matching = ["a.blob.example", "a.b.blob.example", "a.example.net"];
    let others = [
        "blob.example",
        "eviblob.example",
        "b.a.example.net",
        "example.net",
    ];
    let is_permitted = |host: &str| tunnels.iter().any(|it| it.matches(host));
    assert!(matching.iter().all(|host| is_permitted(host)));
    assert!(!others.iter().any(|host| is_permitted(host)));
    for (lines, part) in [
        (ca.clone(), "intercept.address: missing"),
        (
            "address = '127.0.0.1:1'\nca = 'ca.pem'".to_owned(),
            "must be a table",
        ),
        (
            format!("address = '127.0.0.1:8080'\n{ca}"),
            "duplicate address",
        ),
        (format!("address = '127.0.0.1:9090'\n{ca}"), "admin.address"),
        (
            format!("address = '0.0.0.0:1'\n{ca}"),
            "not a loopback address",
        ),
        (format!("address = []\n{ca}"), "must not be an empty list"),
        (
            format!("address = '127.0.0.1:1'\n{ca}\ntunnel = ['*']"),
            "invalid host",
        ),
        (
            format!("address = '127.0.0.1:1'\n{ca}\ntunnel = ['*.net']"),
            "invalid host",
        ),
        (
            format!("address = '127.0.0.1:1'\n{ca}\ntunnel = ['a.*.net']"),
            "invalid host",
        ),
        (
            format!("address = '127.0.0.1:1'\n{ca}\ntunnel = ['10.0.0.1']"),
            "invalid host",
        ),
        (
            format!("address = '127.0.0.1:1'\n{ca}\ntunnel = ['localhost']"),
            "invalid host",
        ),
    ] {
        rejects_with(&with(&lines), part);
    }
    let missing = read(&with("address = '127.0.0.1:1'")).unwrap_err();
    assert_eq!(missing.len(), 2, "{}", printed(&missing));
}
