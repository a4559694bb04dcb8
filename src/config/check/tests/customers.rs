//! `[[customer]]` blocks.

use super::*;

/// A secret for each customer, and no variable of `[citrix]`.
const SECRETS: [(&str, &str); 2] = [("ONE", "s3cret-1"), ("TWO", "s3cret-2")];

/// Returns a valid block with additional keys.
fn block(id: &str, secret: &str, more: &str) -> String {
    format!(
        "[[customer]]\ncustomer_id = '{id}'\nclient_id = 'id-{id}'\nclient_secret = {{ env = '{secret}' }}\n{more}\n"
    )
}

fn two(first: &str, second: &str) -> String {
    block("acme", "ONE", first) + &block("contoso", "TWO", second)
}

#[track_caller]
fn accept_all(text: &str) -> Config {
    from_toml(text, pairs(&SECRETS))
        .unwrap_or_else(|problems| panic!("{text}\n{}", printed(&problems)))
}

#[track_caller]
fn rejects_all(text: &str, problems: &[&str]) {
    let found = printed(&from_toml(text, pairs(&SECRETS)).expect_err(text));
    let found: Vec<&str> = found.lines().collect();
    assert_eq!(found, problems, "{text}");
}

#[test]
fn each_customer_has_its_own_client_cloud_and_scheme() {
    let eu = "cloud = 'eu'\nauthorization = 'bearer'\ninstance_id = ''";
    let live = accept_all(&two("token_dialect = 'trust'", eu)).live;
    let [acme, contoso] = live.credentials.as_slice() else {
        panic!("{:?}", live.credentials)
    };
    assert_eq!(
        (acme.customer(), acme.client_id.as_str()),
        ("acme", "id-acme")
    );
    assert_eq!(
        acme.client_secret.read().unwrap().expose_secret(),
        "s3cret-1"
    );
    assert_eq!(
        (acme.api.url.to_string().as_str(), acme.api.authorization),
        ("https://api.cloud.com", AuthorizationScheme::Cws)
    );
    assert_eq!(
        acme.token_url,
        "https://trust.citrixworkspacesapi.net/root/tokens/clients"
    );
    assert_eq!(
        (contoso.customer(), &contoso.instance_id),
        ("contoso", &InstanceId::None)
    );
    assert_eq!(
        contoso.client_secret.read().unwrap().expose_secret(),
        "s3cret-2"
    );
    assert_eq!(
        (
            contoso.api.url.to_string().as_str(),
            contoso.api.authorization
        ),
        ("https://api-eu.cloud.com", AuthorizationScheme::Bearer)
    );
    assert_eq!(
        contoso.token_url,
        "https://api-eu.cloud.com/cctrustoauth2/contoso/tokens/clients"
    );
    assert_eq!(live.routes[0].name(), "/");
    assert_eq!(live.routes[0].target, RouteTarget::CustomerApi);
}

#[test]
fn default_customer_is_the_marked_or_only_one() {
    for (text, default) in [
        (two("", ""), None),
        (two("", "default = true"), Some(1)),
        (two("default = true", "default = false"), Some(0)),
        (block("acme", "ONE", ""), Some(0)),
        (block("acme", "ONE", "default = true"), Some(0)),
        (block("acme", "ONE", "default = false"), None),
    ] {
        assert_eq!(accept_all(&text).live.default_customer, default, "{text}");
    }
    assert_eq!(accept("").live.default_customer, Some(0), "[citrix]");
}

#[test]
fn problems_of_blocks_have_the_index_of_the_block() {
    rejects_all(
        "[[customer]]\ncustomer_id = 'a/b'\n[[customer]]\nclient_secret = { env = 'UNSET' }\ncloud = 'mars'",
        &[
            "customer[0].customer_id: invalid customer id \"a/b\": use visible ASCII without / ? # %; expected, for \
             example, \"acme\"",
            "customer[0].client_id: missing: the API client's id; expected, for example, \"6e4f0b2a-…\"",
            "customer[0].client_secret: missing: the API client's secret; expected, for example, { file = \
             \"/run/secrets/citrix-client-secret\" }",
            "customer[1].cloud: \"mars\" is not one of commercial, us, eu, ap-s, japan, gov; expected, for example, \
             \"commercial\"",
            "customer[1].customer_id: missing: the customer id in Citrix Cloud; expected, for example, \"acme\"",
            "customer[1].client_id: missing: the API client's id; expected, for example, \"6e4f0b2a-…\"",
            "customer[1].client_secret: the environment variable named by env is not set; expected, for example, \
             { file = \"/run/secrets/citrix-client-secret\" }",
        ],
    );
    for (more, problem) in [
        (
            "customerid = 'x'",
            "customer[1].customerid: unknown key; did you mean customer_id?",
        ),
        (
            "defualt = true",
            "customer[1].defualt: unknown key; did you mean default?",
        ),
        (
            "secret = 's'",
            "customer[1].secret: unknown key; did you mean client_secret?",
        ),
        (
            "customer = 's'",
            "customer[1].customer: unknown key; did you mean customer_id?",
        ),
        (
            "default = 'yes'",
            "customer[1].default: invalid boolean \"yes\"; expected, for example, false",
        ),
        (
            "api_url = 'http://a'",
            "customer[1].api_url: invalid URL \"http://a\": http would expose the token and is permitted for loopback \
             hosts only; expected, for example, \"https://api.cloud.com\"",
        ),
    ] {
        rejects_all(&two("", more), &[problem]);
    }
}

#[test]
fn duplicate_customer_id_in_another_case_is_rejected() {
    let text = two("", "") + &block("ACME", "ONE", "");
    let duplicate = "customer[2].customer_id: duplicate customer id \"ACME\" of customer[0]";
    rejects_all(&text, &[duplicate]);
    // Also if another key of the block is invalid.
    let text = block("acme", "ONE", "cloud = 1") + &block("Acme", "TWO", "");
    assert!(
        printed(&from_toml(&text, pairs(&SECRETS)).unwrap_err())
            .contains("duplicate customer id \"Acme\" of customer[0]")
    );
}

#[test]
fn second_default_is_rejected() {
    let second = "customer[1].default: customer[0] is already the default";
    rejects_all(&two("default = true", "default = true"), &[second]);
}

#[test]
fn citrix_beside_blocks_is_rejected() {
    let problem = "citrix: conflicts with [[customer]] blocks; move its customer into a block, and remove [citrix] and \
                   every variable that sets one of its keys";
    rejects_all(
        &("[citrix]\ncloud = 'eu'\n".to_owned() + &two("", "")),
        &[problem],
    );
    rejects_all(&("[citrix]\n".to_owned() + &two("", "")), &[problem]);
    let env: Vec<_> = SECRETS
        .into_iter()
        .chain([("CITRIX_CLIENT_SECRET", "s3cret")])
        .collect();
    let found = printed(&from_toml(&two("", ""), pairs(&env)).unwrap_err());
    assert_eq!(found, format!("{problem} (from CITRIX_CLIENT_SECRET)\n"));
}

#[test]
fn invalid_blocks_are_not_reported_as_missing_citrix() {
    for text in [
        "[customer]\ncustomer_id = 'a'",
        "[[custmer]]\ncustomer_id = 'a'",
        "[customers]",
    ] {
        let problems = from_toml(text, []).unwrap_err();
        assert!(
            problems.len() == 1 && problems[0].key.starts_with("cust"),
            "{text}\n{}",
            printed(&problems)
        );
    }
    let variable = [("CITRIX_AUTH_PROXY_CUSTOMER__CUSTOMER_ID", "a")];
    let found = printed(&with_login(&variable).unwrap_err());
    assert_eq!(
        found,
        format!(
            "{}: [[customer]] blocks are read from the file only\n",
            variable[0].0
        )
    );
}

fn with_login(env: &[(&str, &str)]) -> Result<Config, Vec<ConfigProblem>> {
    from_toml(
        "",
        pairs(&LOGIN.iter().chain(env).copied().collect::<Vec<_>>()),
    )
}

#[test]
fn more_than_1000_customers_are_rejected() {
    let blocks = |count: usize| {
        (0..count)
            .map(|n| block(&format!("c{n}"), "ONE", ""))
            .collect::<String>()
    };
    assert_eq!(accept_all(&blocks(1000)).live.credentials.len(), 1000);
    rejects_all(
        &blocks(1001),
        &["customer: 1001 [[customer]] blocks; the maximum is 1000"],
    );
}

#[test]
fn credentials_directory_has_a_secret_per_customer() {
    let directory = tempfile::tempdir().unwrap();
    for (name, secret) in [
        ("client_secret", "unused"),
        ("client_secret.acme", "first\n"),
        ("client_secret_next.acme", "second\n"),
    ] {
        std::fs::write(directory.path().join(name), secret).unwrap();
    }
    let env = [
        ("CREDENTIALS_DIRECTORY", directory.path().to_str().unwrap()),
        ("TWO", "own"),
    ];
    let acme = "[[customer]]\ncustomer_id = 'acme'\nclient_id = 'c'\n";
    let config = from_toml(
        &(acme.to_owned() + &block("contoso", "TWO", "")),
        pairs(&env),
    )
    .unwrap();
    let [acme_, contoso] = config.live.credentials.as_slice() else {
        panic!("two")
    };
    assert_eq!(acme_.client_secret.read().unwrap().expose_secret(), "first");
    assert_eq!(
        acme_
            .client_secret_next
            .as_ref()
            .unwrap()
            .read()
            .unwrap()
            .expose_secret(),
        "second"
    );
    assert_eq!(contoso.client_secret.read().unwrap().expose_secret(), "own");
    assert!(contoso.client_secret_next.is_none());

    let other = "[[customer]]\ncustomer_id = 'initech'\nclient_id = 'c'\n";
    let found = printed(&from_toml(&(acme.to_owned() + other), pairs(&env)).unwrap_err());
    assert!(
        found.starts_with("customer[1].client_secret: missing"),
        "{found}"
    );
}
