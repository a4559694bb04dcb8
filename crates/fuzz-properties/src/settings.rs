//! The configuration: a file and the environment.

use citrix_auth_proxy::config::{self, Config};

/// Checks a configuration. Lines that begin with `$` are variables (`$NAME=value`), the others TOML. A
/// valid one is valid again with the same result; an invalid one has problems with texts.
pub fn configuration(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    // What is configured elsewhere may be shown.
    if text.contains(SECRET) {
        return;
    }
    let (variables, lines): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with('$'));
    let toml = lines.join("\n");
    let mut environment = vec![
        ("CITRIX_CUSTOMER_ID".to_owned(), "acme".to_owned()),
        ("CITRIX_CLIENT_ID".to_owned(), "client".to_owned()),
        ("CITRIX_CLIENT_SECRET".to_owned(), SECRET.to_owned()),
    ];
    for variable in variables {
        let (name, value) = variable[1..]
            .split_once('=')
            .unwrap_or((&variable[1..], ""));
        let name = if name.starts_with("CITRIX_") {
            name.to_owned()
        } else {
            format!("CITRIX_AUTH_PROXY_{name}")
        };
        environment.retain(|(other, _)| *other != name);
        environment.push((name, value.to_owned()));
    }
    let load = || config::from_toml(&toml, environment.clone());
    match (load(), load()) {
        (Ok(first), Ok(second)) => assert_eq!(texts(&first), texts(&second)),
        (Err(problems), Err(_)) => {
            assert!(!problems.is_empty());
            for problem in problems {
                let text = problem.to_string();
                assert!(!text.is_empty() && !text.contains(SECRET), "{text}");
            }
        }
        _ => panic!("the result depends on something else"),
    }
}

const SECRET: &str = "c4nary-client-secret==";

/// Returns all of a configuration as text. It has no secret.
fn texts(config: &Config) -> String {
    let text = format!("{:?} {:?} {:?}", config.boot, config.live, config.warnings);
    assert!(!text.contains(SECRET));
    text
}
