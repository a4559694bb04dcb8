//! Generates `docs/services.md` from the table: `UPDATE_DOCS=1 cargo test -p citrix-wire services`.

use std::fmt::Write as _;
use std::path::Path;

use super::{
    BuiltInPrefix, SERVICES, Service, ServiceLocation, built_in_prefixes, region_prefixes,
};
use crate::citrix::clouds::Cloud;

const HEAD: &str = "\
# Services

<!-- Generated from crates/citrix-wire/src/citrix/services/ by UPDATE_DOCS=1 cargo test -p citrix-wire services -->

Services that the gateway reaches without a `[[route]]`. Prefixes match whole segments and are case-insensitive; the
longest one wins. A `[[route]]` with the same prefix replaces a built-in one. A `[[route]]` for `/` or
`/region/{region}` also replaces the built-in routes of that API gateway, such as `/cvad/manage` and `/monitorodata`
(marked with *).

Paths of the API gateway are forwarded unchanged. `/region/{region}/` forwards to that region's API gateway,
and `/region/{region}/wem/` and the like to the host that a service has in that region. All other prefixes below are
stripped. A path below `/classic`, `/direct`, `/region` or the prefix of a service that the
customer's cloud does not have is rejected with 404 `no_route` unless it has a route: no text of a request becomes part
of a host name.

The host is that of the request customer's cloud. The form of the token is the one configured for that customer's API
gateway (`authorization`).

The gateway adds `Citrix-CustomerId`, `Citrix-InstanceId` where a site is required, and `isCloud`. The caller sends the
other headers in the tables.
";

const RETIRED: &str = r#"
## Retired addresses

The gateway translates retired addresses, which are case-insensitive, and keeps the query. Ids in the path become
`Citrix-CustomerId` and `Citrix-InstanceId`. The access log names the family in `retired`, and
`retired_addresses_total` counts the requests. A `[[route]]` for such a path takes precedence over the translation. US
Government needs one, since it serves DaaS only on the direct hosts:

```toml
[[route]]
prefix = "/citrix/orchestration"
upstream = "https://acme.xendesktop.us"
strip_prefix = false
```

| family | retired | present |
|---|---|---|
| `/Citrix/Monitor/OData` | `/Citrix/Monitor/OData/v4/Data/…` | `/monitorodata/…` |
| `/citrix/orchestration/api` | `/citrix/orchestration/api/{customer}/{site}/…` | `/cvad/manage/…` |
| | `/citrix/orchestration/api/techpreview/{customer}/{site}/…` | `/cvad/manage/…` |
| | `/citrix/orchestration/api/v1/…` | `/cvad/manage/…` |
| | `/citrix/orchestration/api/me`, also below `techpreview` | `/cvad/manage/me` |
| `/cvadapis` | `/cvadapis/{site}/…` | `/cvad/manage/…` |
| | `/cvadapis/me`, `/cvadapis/Sites`, `/cvadapis/Machines` | `/cvad/manage/…` |
"#;

const CLASSIC_PATHS: &str = "\
Paths begin with the customer: `/classic/registry/acme/resourcelocations`. Of services listed by host name only, no more
than the host is documented. The token service `trust` is not reachable: only the gateway logs in.

";

fn document() -> String {
    let mut text = String::from(HEAD);
    table(&mut text, "API gateway", "", |at| {
        matches!(at, ServiceLocation::Gateway(_))
    });
    table(&mut text, "Separate hosts", "", |at| {
        matches!(
            at,
            ServiceLocation::Host(..) | ServiceLocation::Direct | ServiceLocation::Elsewhere
        )
    });
    table(&mut text, "Classic hosts", CLASSIC_PATHS, |at| {
        matches!(at, ServiceLocation::Classic(_))
    });
    hosts(&mut text);
    text.push_str(RETIRED);
    text
}

fn table(text: &mut String, title: &str, intro: &str, selects: impl Fn(&ServiceLocation) -> bool) {
    let _ = write!(
        text,
        "\n## {title}\n\n{intro}| service | path | headers | paging | limits | transaction id | notes |\n\
         |---|---|---|---|---|---|---|\n"
    );
    for service in SERVICES.iter().filter(|service| selects(&service.at)) {
        let star = if service.needs_own_route() { " *" } else { "" };
        let headers: Vec<String> = service
            .headers
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        let links = if service.rewrite_links {
            "links in bodies are rewritten"
        } else {
            ""
        };
        let notes: Vec<&str> = [service.note, links]
            .into_iter()
            .filter(|note| !note.is_empty())
            .collect();
        let id = service.transaction_id;
        let _ = writeln!(
            text,
            "| {} | {}{star} | {} | {} | {} | {} | {} |",
            service.name,
            path(service),
            headers.join(" "),
            service.paging,
            service.limit_note,
            if id.is_empty() {
                "undocumented".to_owned()
            } else {
                format!("`{id}`")
            },
            notes.join("; "),
        );
    }
}

fn path(service: &Service) -> String {
    match service.at {
        ServiceLocation::Gateway(path) | ServiceLocation::Host(path, _) => format!("`{path}`"),
        ServiceLocation::Classic(name) => format!("`/classic/{name}`"),
        ServiceLocation::Direct => "`/direct/{customer}`".to_owned(),
        ServiceLocation::Elsewhere => "`[[route]]`".to_owned(),
    }
}

fn hosts(text: &mut String) {
    text.push_str(
        "\n## Hosts by cloud\n\nPresets of `citrix.cloud`; `api_url`, `token_url` and `[[route]]` override them.\n",
    );
    for (name, cloud) in Cloud::ALL {
        let _ = write!(
            text,
            "\n### {name}\n\n| path | upstream |\n|---|---|\n| `/` | `{}` |\n",
            cloud.api_url()
        );
        for (prefix, url) in region_prefixes(cloud) {
            let _ = writeln!(text, "| `{prefix}` | `{url}` |");
        }
        let _ = writeln!(
            text,
            "| `/classic/{{service}}` | `https://{{service}}.{}` |",
            cloud.classic_domain()
        );
        let _ = writeln!(
            text,
            "| `/direct/{{customer}}` | `https://{{customer}}.{}` |",
            cloud.direct_domain()
        );
        for BuiltInPrefix {
            prefix,
            url,
            service,
        } in built_in_prefixes(cloud, [])
        {
            if matches!(service.at, ServiceLocation::Host(..)) {
                let _ = writeln!(text, "| `{prefix}` | `{url}` |");
            }
        }
    }
}

#[test]
fn services_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/services.md");
    let generated = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == generated,
        "docs/services.md is outdated; run UPDATE_DOCS=1 cargo test -p citrix-wire services"
    );
}
