//! Section by section: what is accepted, and what is refused and why.

use super::*;

#[test]
fn the_customer_and_its_login() {
    for (text, why) in [
        ("customer_id = 12", "12 is not a string in quotes"),
        ("customer_id = ''", "customer_id: is empty"),
        ("customer_id = 'a/b'", "is not a customer id"),
        ("customer_id = 'a b'", "is not a customer id"),
        ("customer_id = 'a%62'", "is not a customer id"),
        ("customer_id = 'käse'", "is not a customer id"),
        ("customer_id = '..'", "is not a customer id"),
        ("client_id = 12", "must be a string in quotes"),
        ("client_id = ''", "is empty"),
        ("client_id = \"a\\n\"", "control character"),
        (
            "cloud = 'staging'",
            "is none of commercial, us, eu, ap-s, japan, gov",
        ),
        (
            "instance_id = 'site'",
            "neither \"auto\", nor empty, nor a GUID",
        ),
        (
            "instance_id = '{61603f15-cdf9-4c7f-99ff-91636601a795}'",
            "nor a GUID",
        ),
        (
            "instance_id = '61603f15cdf94c7f99ff91636601a795'",
            "nor a GUID",
        ),
        ("token_dialect = 'saml'", "is none of oauth2, trust"),
        ("authorization = 'Bearer'", "is none of cws, bearer"),
        ("api_url = 'http://api.cloud.com'", "in clear"),
        ("token_url = 'https://a/b?c'", "query"),
    ] {
        // Without what the environment says of the same key, which would win.
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
            problems.len() == 1 && problems[0].to_string().contains(why),
            "{text}\n{}",
            printed(&problems)
        );
    }
    let credential = |text: &str| good(&format!("[citrix]\n{text}")).live.credentials[0].clone();
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
        let api = good(&format!("[citrix]\ncloud = '{name}'"))
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

#[test]
fn callers_are_served_on_this_machine_only() {
    for (text, why) in [
        (
            "address = ':8080'",
            "\":8080\" is not an IP address with a port",
        ),
        ("address = '127.0.0.1'", "is not an IP address with a port"),
        (
            "address = 'gateway.example.net:80'",
            "is not an IP address with a port",
        ),
        ("address = 8080", "8080 is neither a string nor a list"),
        ("address = [8080]", "this list is not a list of strings"),
        ("address = []", "names no address"),
        ("address = '10.1.2.3:80'", "rights"),
        ("address = '[::]:80'", "rights"),
        (
            "address = ['127.0.0.1:1', '127.0.0.1:1']",
            "127.0.0.1:1 is listened on twice",
        ),
        (
            "address = ['unix:/a', 'unix:/a']",
            "unix:/a is listened on twice",
        ),
        ("address = 'unix:a'", "\"a\" is not an absolute path"),
        (
            "address = '127.0.0.1:9090'",
            "admin.address: 127.0.0.1:9090 is listened on for callers already",
        ),
        ("unix_mode = 660", "660 is not a file mode"),
        ("unix_mode = '0o660'", "is not a file mode"),
        ("unix_mode = '0888'", "is not a file mode"),
        ("unix_mode = '1777'", "is not a file mode"),
        ("unix_mode = '+660'", "is not a file mode"),
        ("workers = 2000", "is not between 0 and 1024"),
        ("hosts = 'a'", "is not a list of strings"),
        ("hosts = ['*', 'a']", "must stand alone"),
        (
            "hosts = ['a:80']",
            "\"a:80\" is not a host name without scheme and port",
        ),
        ("hosts = ['https://a']", "is not a host name"),
        ("hosts = ['*.example.net']", "is not a host name"),
        ("hosts = ['']", "is not a host name"),
    ] {
        refused_since(&format!("[listen]\n{text}"), why);
    }
    refused_since(
        &format!("[listen]\naddress = 'unix:/{}'", "x".repeat(107)),
        "longer than",
    );
    good(
        "[listen]\naddress = ['127.0.0.1:0', '127.0.0.1:0', '127.9.9.9:80', '[::ffff:127.0.0.1]:80']",
    );
    good("[listen]\naddress = '127.0.0.1:0'\n[admin]\naddress = '127.0.0.1:0'");

    let any = good("[listen]\nhosts = ['*']");
    assert_eq!(any.live.hosts, AllowedHosts::Any);
    assert!(
        any.warnings[0].contains("every Host is answered"),
        "{:?}",
        any.warnings
    );
}

#[test]
fn tls_takes_the_addresses_or_one_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, "").unwrap();
        path.display().to_string()
    };
    let (certificate, key) = (file("tls.crt"), file("tls.key"));
    let listen =
        |tls: &str| format!("[listen]\naddress = ['127.0.0.1:1', 'unix:/s']\ntls = {{ {tls} }}");
    let files = format!("certificate = '{certificate}', key = '{key}'");
    let listeners = |tls: &str| {
        let boot = good(&listen(tls)).boot;
        assert_eq!(boot.certificate.unwrap().key.display().to_string(), key);
        let listeners = boot.listeners.into_iter();
        listeners
            .map(|listener| (listener.address.to_string(), listener.tls))
            .collect::<Vec<_>>()
    };
    let named = |address: &str, tls: bool| (address.to_owned(), tls);
    assert_eq!(
        listeners(&files),
        [named("127.0.0.1:1", true), named("unix:/s", true)]
    );
    assert_eq!(
        listeners(&format!("{files}, address = '127.0.0.1:2'")),
        [
            named("127.0.0.1:1", false),
            named("unix:/s", false),
            named("127.0.0.1:2", true)
        ]
    );
    for (tls, why) in [
        (
            format!("certificate = '{certificate}'"),
            "listen.tls.key: missing",
        ),
        (format!("key = '{key}'"), "listen.tls.certificate: missing"),
        (
            format!("certificate = '{certificate}', key = '/nowhere'"),
            "listen.tls.key: \"/nowhere\" cannot be read",
        ),
        (
            format!("{files}, address = '127.0.0.1:1'"),
            "listen.tls.address: 127.0.0.1:1 is listened on twice",
        ),
        (
            format!("{files}, address = '0.0.0.0:2'"),
            "listen.tls.address: 0.0.0.0:2 can be reached",
        ),
        (
            format!("{files}, client_ca = '/nowhere'"),
            "listen.tls.client_ca: \"/nowhere\" cannot be read",
        ),
        (
            format!("{files}, client_auth = 'required'"),
            "listen.tls.client_ca: missing",
        ),
        (
            format!("{files}, client_ca = '{key}', client_auth = 'yes'"),
            "\"yes\" is none of optional, required",
        ),
    ] {
        refused_since(&listen(&tls), why);
    }
    let clients = |tls: &str| {
        good(&listen(&format!("{files}{tls}")))
            .boot
            .certificate
            .unwrap()
            .clients
    };
    assert_eq!(clients(""), None);
    for (auth, required) in [
        ("", false),
        (", client_auth = 'optional'", false),
        (", client_auth = 'required'", true),
    ] {
        let asked = clients(&format!(", client_ca = '{key}'{auth}")).unwrap();
        assert_eq!(
            (asked.ca_file.display().to_string(), asked.required),
            (key.clone(), required)
        );
    }
}

#[test]
fn peers_are_told_by_their_networks() {
    for key in ["proxy_protocol", "trusted_forwarders"] {
        for (value, why) in [
            ("'10.0.0.0/8'", "is not a list of strings"),
            ("['balancer']", "\"balancer\" is not a network"),
            ("['10.0.0.0/33']", "is not a network"),
            (
                "['10.0.0.1/8']",
                "has bits beyond its prefix; the network is 10.0.0.0/8",
            ),
            ("['::ffff:10.0.0.0/104']", "write it as IPv4"),
        ] {
            refused_since(&format!("[listen]\n{key} = {value}"), why);
        }
    }
    let live = good("[listen]\nproxy_protocol = ['10.0.0.0/8', '2001:db8::/32', '192.0.2.1']").live;
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
fn the_admin_listener_asks_for_a_secret_off_loopback() {
    let hash = "4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677B2";
    let config = good(&format!(
        "[admin]\naddress = '0.0.0.0:1'\nsecret_sha256 = '{hash}'"
    ));
    assert!(config.boot.admin.secret_sha256.is_some());
    for (text, why) in [
        (
            "address = '0.0.0.0:1'",
            "admin.secret_sha256: missing: 0.0.0.0:1 can be reached",
        ),
        ("address = 'unix:/admin'", "is not an IP address"),
        ("secret_sha256 = ''", "must be 64 hex digits"),
        ("secret_sha256 = 'é'", "must be 64 hex digits"),
        (
            &format!("secret_sha256 = '{hash}0'"),
            "must be 64 hex digits",
        ),
        (
            &format!("secret_sha256 = '{}x'", &hash[1..]),
            "must be 64 hex digits",
        ),
    ] {
        refused_since(&format!("[admin]\n{text}"), why);
    }
}

#[test]
fn routes_are_prefixes_that_can_be_compared_byte_for_byte() {
    for prefix in [
        "", "a", "/a/", "//", "/a//b", "/.", "/a/../b", "/a?b", "/a#b", "/a%20b", "/a b", "/ä",
        "/a\\b",
    ] {
        let text = format!("[[route]]\nprefix = '{prefix}'\nupstream = 'https://a'");
        refused_since(&text, "route[0].prefix: ");
    }
    let twice = "[[route]]\nprefix = '/a'\nupstream = 'https://a'\n".repeat(2);
    refused(
        &twice,
        "route[1].prefix: \"/a\" has a route already; for example: prefix = \"/reports\"",
    );
    refused_since("[[route]]\nprefix = '/a'", "route[0].upstream: missing");
    refused_since(
        "[[route]]\nupstream = 'https://a'",
        "route[0].prefix: missing",
    );
    refused_since(
        "[[route]]\nprefix = '/a'\nupstream = 'a'",
        "route[0].upstream: \"a\" is not",
    );

    let all = good(
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
        panic!("it is replaced")
    };
    assert_eq!(
        (url.authority.as_str(), *authorization),
        ("a.example.com", AuthorizationScheme::Bearer)
    );
}

#[test]
fn the_public_url_is_a_base_and_its_name_is_answered_to() {
    let live = good("[listen]\npublic_url = 'https://GW.example.net/sub/'\nhosts = ['other']").live;
    assert_eq!(
        live.public_url.as_deref(),
        Some("https://gw.example.net/sub")
    );
    assert_eq!(
        live.hosts,
        AllowedHosts::Only(vec!["other".to_owned(), "gw.example.net".to_owned()])
    );
    assert_eq!(
        good("[listen]\npublic_url = 'http://gw:8080'")
            .live
            .public_url
            .as_deref(),
        Some("http://gw:8080")
    );
    for (value, why) in [
        ("'gw'", "is not a whole URL"),
        ("'ftp://gw'", "is neither"),
        ("'https://gw/?x'", "has a query"),
    ] {
        refused_since(&format!("[listen]\npublic_url = {value}"), why);
    }
}

#[test]
fn a_route_lets_so_many_in_at_a_time_and_says_how_long_the_others_wait() {
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
            configured_limits(&good(&format!("{ROUTE}{text}")).live),
            [&expected],
            "{text}"
        );
    }
    for (text, why) in [
        (
            "max_concurrent = 0",
            "route[0].max_concurrent: 0 is not between 1 and",
        ),
        ("max_concurrent = 'one'", "is not a whole number"),
        (
            "max_concurrent = 1\nqueue_timeout = '0s'",
            "route[0].queue_timeout: ",
        ),
        (
            "queue_timeout = '5s'",
            "route[0].max_concurrent: missing: without it nothing waits",
        ),
    ] {
        refused_since(&format!("{ROUTE}{text}"), why);
    }
}

#[test]
fn a_token_cache_has_a_folder_and_a_key_long_enough() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("key"), "k".repeat(32)).unwrap();
    std::fs::write(at("short"), "k".repeat(31) + "\n").unwrap();
    let text = |file: &str, key: &str| {
        format!(
            "[token]\ncache_file = '{}'\ncache_key = {{ file = '{}' }}",
            at(file),
            at(key)
        )
    };
    assert!(good("").live.token_cache.is_none());
    let cache = good(&text("token", "key"))
        .live
        .token_cache
        .clone()
        .unwrap();
    assert_eq!(cache.file, folder.path().join("token"));
    assert_eq!(cache.key.read().unwrap().expose_secret().len(), 32);
    good("[token]\ncache_file = 'token'\ncache_key = '01234567890123456789012345678901'");
    for (text, why) in [
        (
            text("token", "short"),
            "token.cache_key: is 31 bytes long and must be 32 or more",
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
            "token.cache_file: 7 is",
        ),
    ] {
        refused_since(&text, why);
    }
    let directory = [
        LOGIN[0],
        LOGIN[1],
        LOGIN[2],
        ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap()),
    ];
    std::fs::rename(at("key"), at("cache_key")).unwrap();
    let text = format!("[token]\ncache_file = '{}'", at("token"));
    assert!(
        from_toml(&text, pairs(&directory))
            .unwrap()
            .live
            .token_cache
            .is_some(),
        "the service manager's"
    );
}

#[test]
fn gateway_tokens_are_signed_with_32_bytes_or_more() {
    let login = good("").live.login.clone();
    assert!(login.signing_key.is_none());
    assert_eq!(login.token_lifetime, Duration::from_hours(1));
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("signing_key");
    std::fs::write(&key, "k".repeat(32) + "\n").unwrap();
    let text = format!(
        "[login]\nsigning_key = {{ file = '{}' }}\ntoken_lifetime = '10m'",
        key.display()
    );
    let login = good(&text).live.login.clone();
    assert_eq!(
        login
            .signing_key
            .as_ref()
            .map(|key| key.expose_secret().len()),
        Some(32)
    );
    assert_eq!(login.token_lifetime, Duration::from_mins(10));
    let directory = [
        LOGIN[0],
        LOGIN[1],
        LOGIN[2],
        ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap()),
    ];
    assert!(
        from_toml("", pairs(&directory))
            .unwrap()
            .live
            .login
            .signing_key
            .is_some()
    );
    let printed = format!("{login:?}");
    assert!(!printed.contains("kkk"), "{printed}");

    std::fs::write(&key, "k".repeat(31) + "\n").unwrap();
    refused_since(
        &text,
        "login.signing_key: is 31 bytes long and must be 32 or more",
    );
    refused_since(
        "[login]\nsigning_key = { file = '/nowhere' }",
        "login.signing_key: the file it names",
    );
    for lifetime in ["999ms", "25h", "0s"] {
        let text = format!("[login]\ntoken_lifetime = '{lifetime}'");
        refused_since(&text, "login.token_lifetime: ");
    }
}

#[test]
fn what_is_off_may_be_said_to_be_off() {
    const ROUTE: &str = "[[route]]\nprefix = '/a'\nupstream = 'https://a'\n";
    for off in [
        "[insecure]\nallow_anonymous = false",
        "[lifecycle]\ndrain_delay = '0s'",
        &format!("{ROUTE}rewrite_links = false"),
    ] {
        good(off);
    }
    refused_since(
        "[limits]\nmax_connections_per_address = 'many'",
        "is not a whole number",
    );
}
