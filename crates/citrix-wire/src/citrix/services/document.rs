//! `docs/services.md`, which a test holds to the table. `UPDATE_DOCS=1 cargo test services` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use super::{BuiltIn, SERVICES, Service, ServiceLocation, built_in_prefixes, region_prefixes};
use crate::citrix::clouds::Cloud;

const HEAD: &str = "\
# Services

<!-- Made from crates/citrix-wire/src/citrix/services/ by a test; UPDATE_DOCS=1 cargo test services writes it anew. -->

What the gateway reaches without a `[[route]]`. Prefixes are compared by whole segments, in any letter case; the
longest wins. A `[[route]]` of the same prefix replaces a built-in one. One that replaces `/` or `/region/{region}`
takes the paths of that API gateway along: `/cvad/manage`, `/monitorodata` and the others marked with *.

Paths of the API gateway are the same here as there. Behind `/region/{region}/` they go to that region's API
gateway. All other prefixes below are taken off. What lies below `/classic`, `/direct` or `/region`, or below the
prefix of a service that the customer's cloud is not known to have, and has no route, is 404 `no_route`: no text of
a request becomes part of a host name.

Each path leads to the host that the cloud of the request's customer has for it, and the token is written as for that
customer's API gateway (`authorization`).

`Citrix-CustomerId` and, where a site is needed, `Citrix-InstanceId` are added by the gateway, as is `isCloud`.
Other headers in the table are the tool's to send.
";

const RETIRED: &str = r#"
## Retired addresses

They are translated, in any letter case, and the query stays as it is. Ids in the path become
`Citrix-CustomerId` and `Citrix-InstanceId`. The access log has `retired` with the family, and
`retired_addresses_total` counts them. A `[[route]]` for such a path wins over the translation; US Government, where
DaaS is on the customers' own hosts only, needs one:

```toml
[[route]]
prefix = "/citrix/orchestration"
upstream = "https://acme.xendesktop.us"
strip_prefix = false
```

| family | retired | today |
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
Their paths begin with the customer: `/classic/registry/acme/resourcelocations`. Those without a name are known to be
there and no more. The login, `trust`, is not among them: it is the gateway's.

";

fn document() -> String {
    let mut text = String::from(HEAD);
    table(&mut text, "On the API gateway", "", |at| {
        matches!(at, ServiceLocation::Gateway(_))
    });
    table(&mut text, "On hosts of their own", "", |at| {
        matches!(
            at,
            ServiceLocation::Host(..) | ServiceLocation::Direct | ServiceLocation::Elsewhere
        )
    });
    table(&mut text, "On classic hosts", CLASSIC_PATHS, |at| {
        matches!(at, ServiceLocation::Classic(_))
    });
    hosts(&mut text);
    text.push_str(RETIRED);
    text
}

fn table(text: &mut String, title: &str, intro: &str, belongs: impl Fn(&ServiceLocation) -> bool) {
    let _ = write!(
        text,
        "\n## {title}\n\n{intro}| service | path | headers | paging | limits | transaction id | notes |\n\
         |---|---|---|---|---|---|---|\n"
    );
    for service in SERVICES.iter().filter(|service| belongs(&service.at)) {
        let star = if service.needs_own_route() { " *" } else { "" };
        let headers: Vec<String> = service
            .needs
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        let links = if service.rewrite_links {
            "links in bodies point here"
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
            service.limits,
            if id.is_empty() {
                "none known".to_owned()
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
        "\n## Hosts by cloud\n\nPresets of `citrix.cloud`. `api_url`, `token_url` and `[[route]]` override them.\n",
    );
    for (name, cloud) in Cloud::ALL {
        let _ = write!(
            text,
            "\n### {name}\n\n| path | leads to |\n|---|---|\n| `/` | `{}` |\n",
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
        for BuiltIn {
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
fn docs_services_md_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/services.md");
    let fresh = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == fresh,
        "docs/services.md is not what the table says; run UPDATE_DOCS=1 cargo test services"
    );
}
