//! `[[customer]]` blocks.

use super::*;

/// The environment of a provider: a secret for each customer, and none of the variables of `[citrix]`.
const SECRETS: [(&str, &str); 2] = [("ONE", "s3cret-1"), ("TWO", "s3cret-2")];

/// A block without a mistake, and more keys of it.
fn block(id: &str, secret: &str, more: &str) -> String {
    format!(
        "[[customer]]\ncustomer_id = '{id}'\nclient_id = 'id-{id}'\nclient_secret = {{ env = '{secret}' }}\n{more}\n"
    )
}

fn two(first: &str, second: &str) -> String {
    block("acme", "ONE", first) + &block("contoso", "TWO", second)
}

#[track_caller]
fn right(text: &str) -> Config {
    from_toml(text, pairs(&SECRETS))
        .unwrap_or_else(|problems| panic!("{text}\n{}", printed(&problems)))
}

#[track_caller]
fn wrong(text: &str, problems: &[&str]) {
    let found = printed(&from_toml(text, pairs(&SECRETS)).expect_err(text));
    let found: Vec<&str> = found.lines().collect();
    assert_eq!(found, problems, "{text}");
}

#[test]
fn each_customer_has_a_login_a_cloud_and_a_scheme_of_its_own() {
    let eu = "cloud = 'eu'\nauthorization = 'bearer'\ninstance_id = ''";
    let live = right(&two("token_dialect = 'trust'", eu)).live;
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
fn the_default_is_the_one_that_is_marked_or_the_only_one() {
    for (text, default) in [
        (two("", ""), None),
        (two("", "default = true"), Some(1)),
        (two("default = true", "default = false"), Some(0)),
        (block("acme", "ONE", ""), Some(0)),
        (block("acme", "ONE", "default = true"), Some(0)),
        (block("acme", "ONE", "default = false"), None),
    ] {
        assert_eq!(right(&text).live.default_customer, default, "{text}");
    }
    assert_eq!(good("").live.default_customer, Some(0), "[citrix]");
}

#[test]
fn mistakes_in_blocks_are_told_by_the_blocks_number() {
    wrong(
        "[[customer]]\ncustomer_id = 'a/b'\n[[customer]]\nclient_secret = { env = 'NOBODY' }\ncloud = 'mars'",
        &[
            "customer[0].customer_id: \"a/b\" is not a customer id: only visible ASCII characters other than / ? # % \
             may be in it; for example: customer_id = \"acme\"",
            "customer[0].client_id: missing: the id of an API client of Citrix Cloud; for example: client_id = \
             \"6e4f0b2a-…\"",
            "customer[0].client_secret: missing: the API client's secret; for example: client_secret = { file = \
             \"/run/secrets/citrix-client-secret\" }",
            "customer[1].cloud: \"mars\" is none of commercial, us, eu, ap-s, japan, gov; for example: cloud = \
             \"commercial\"",
            "customer[1].customer_id: missing: the customer id that Citrix Cloud shows for its API clients; for \
             example: customer_id = \"acme\"",
            "customer[1].client_id: missing: the id of an API client of Citrix Cloud; for example: client_id = \
             \"6e4f0b2a-…\"",
            "customer[1].client_secret: the environment variable that env names is not set; for example: \
             client_secret = { file = \"/run/secrets/citrix-client-secret\" }",
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
            "customer[1].secret: this key is called customer[1].client_secret",
        ),
        (
            "customer = 's'",
            "customer[1].customer: this key is called customer[1].customer_id",
        ),
        (
            "default = 'yes'",
            "customer[1].default: \"yes\" is neither true nor false; for example: default = false",
        ),
        (
            "api_url = 'http://a'",
            "customer[1].api_url: \"http://a\" would carry a token in clear: http is for loopback \
          hosts only, use https; for example: api_url = \"https://api.cloud.com\"",
        ),
    ] {
        wrong(&two("", more), &[problem]);
    }
}

#[test]
fn a_customer_has_one_block_whatever_the_letter_case() {
    let text = two("", "") + &block("ACME", "ONE", "");
    let twice = "customer[2].customer_id: \"ACME\" is the customer of customer[0] already; for example: customer_id = \
                 \"contoso\"";
    wrong(&text, &[twice]);
    // Also where the rest of a block is wrong.
    let text = block("acme", "ONE", "cloud = 1") + &block("Acme", "TWO", "");
    assert!(
        printed(&from_toml(&text, pairs(&SECRETS)).unwrap_err())
            .contains("\"Acme\" is the customer of customer[0]")
    );
}

#[test]
fn one_default_is_enough() {
    let second = "customer[1].default: customer[0] is the default already; only one can be; for example: default = \
                  false";
    wrong(&two("default = true", "default = true"), &[second]);
}

#[test]
fn citrix_and_blocks_do_not_stand_side_by_side() {
    let what = "citrix: stands beside [[customer]] blocks; write its customer into a block too, and leave out [citrix] \
                and every variable that sets a key of it";
    wrong(
        &("[citrix]\ncloud = 'eu'\n".to_owned() + &two("", "")),
        &[what],
    );
    wrong(&("[citrix]\n".to_owned() + &two("", "")), &[what]);
    let env: Vec<_> = SECRETS
        .into_iter()
        .chain([("CITRIX_CLIENT_SECRET", "s3cret")])
        .collect();
    let found = printed(&from_toml(&two("", ""), pairs(&env)).unwrap_err());
    assert_eq!(found, format!("{what} (from CITRIX_CLIENT_SECRET)\n"));
}

#[test]
fn blocks_that_cannot_be_read_are_not_told_as_a_missing_citrix() {
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
            "{}: [[customer]] blocks come from the file only\n",
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
fn there_is_an_end_to_the_customers() {
    let blocks = |count: usize| {
        (0..count)
            .map(|n| block(&format!("c{n}"), "ONE", ""))
            .collect::<String>()
    };
    assert_eq!(right(&blocks(1000)).live.credentials.len(), 1000);
    wrong(
        &blocks(1001),
        &["customer: 1001 blocks are too many; 1000 are the most"],
    );
}

#[test]
fn the_service_manager_gives_each_customer_its_own_secret() {
    let folder = tempfile::tempdir().unwrap();
    for (name, secret) in [
        ("client_secret", "nobody's"),
        ("client_secret.acme", "first\n"),
        ("client_secret_next.acme", "second\n"),
    ] {
        std::fs::write(folder.path().join(name), secret).unwrap();
    }
    let env = [
        ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap()),
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
