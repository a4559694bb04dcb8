//! The table of services, in the order of contract §4.

use super::{Service, ServiceLimit, ServiceLocation};
use crate::citrix::clouds::Cloud;

const CUSTOMER: &str = "Citrix-CustomerId";
const INSTANCE: &str = "Citrix-InstanceId";

const CITRIX_ID: &str = "Citrix-TransactionId";
const CWS_ID: &str = "X-Cws-TransactionId";
const CC_ID: &str = "CC-TransactionId";

/// Defaults of services of the API gateway.
const ON_GATEWAY: Service = Service {
    name: "",
    at: ServiceLocation::Elsewhere,
    headers: &[CUSTOMER],
    default_headers: &[],
    paging: "",
    limit: ServiceLimit::Unknown,
    limit_note: "",
    transaction_id: CITRIX_ID,
    rewrite_links: false,
    collapse: false,
    note: "",
};

/// Defaults of services on classic hosts, whose path names the customer:
/// `/classic/{name}/{customer}/…`.
const ON_CLASSIC: Service = Service {
    headers: &[],
    transaction_id: CWS_ID,
    ..ON_GATEWAY
};

/// Returns a classic host about which nothing else is documented.
const fn classic(name: &'static str) -> Service {
    Service {
        name,
        at: ServiceLocation::Classic(name),
        ..ON_CLASSIC
    }
}

/// All services with a public reference (contract §4).
pub static SERVICES: &[Service] = &[
    Service {
        name: "DaaS (CVAD)",
        at: ServiceLocation::Gateway("/cvad/manage"),
        headers: &[CUSTOMER, INSTANCE],
        paging: "`ContinuationToken`; `limit` (at most 1000), `continuationToken`",
        limit_note: "429; no number documented",
        rewrite_links: true,
        note: "`/me`, `/Sites`, `/about` and `/ping` need no site id",
        ..ON_GATEWAY
    },
    Service {
        name: "DaaS and retired OData, direct",
        at: ServiceLocation::Direct,
        headers: &[CUSTOMER],
        paging: "as DaaS",
        limit_note: "530 for a frozen site",
        rewrite_links: true,
        note: "for configured customers whose id is a DNS label",
        ..ON_GATEWAY
    },
    Service {
        name: "Monitor OData",
        at: ServiceLocation::Gateway("/monitorodata"),
        paging: "`@odata.nextLink`; `$top`, `$skip`",
        limit: ServiceLimit::AtOnce(1),
        limit_note: "1 concurrent request per customer, else 429",
        transaction_id: "",
        rewrite_links: true,
        collapse: true,
        ..ON_GATEWAY
    },
    Service {
        name: "Analytics OData",
        at: ServiceLocation::Gateway("/casodata"),
        paging: "`@odata.nextLink`; `$top`, `$skip`",
        transaction_id: "",
        rewrite_links: true,
        ..ON_GATEWAY
    },
    Service {
        name: "System Log",
        at: ServiceLocation::Gateway("/systemlog"),
        paging: "`ContinuationToken`; `Limit` (at most 200), `ContinuationToken`",
        transaction_id: CC_ID,
        ..ON_GATEWAY
    },
    Service {
        name: "Notifications",
        at: ServiceLocation::Gateway("/notifications"),
        paging: "`continuationToken`",
        transaction_id: CWS_ID,
        ..ON_GATEWAY
    },
    Service {
        name: "Resource locations",
        at: ServiceLocation::Gateway("/resourcelocations"),
        ..ON_GATEWAY
    },
    Service {
        name: "Connectors",
        at: ServiceLocation::Gateway("/connectors"),
        transaction_id: "",
        ..ON_GATEWAY
    },
    Service {
        name: "Administrators",
        at: ServiceLocation::Gateway("/administrators"),
        paging: "`continuationToken`; `requestContinuation`",
        ..ON_GATEWAY
    },
    Service {
        name: "Licensing",
        at: ServiceLocation::Gateway("/licensing"),
        transaction_id: CC_ID,
        ..ON_GATEWAY
    },
    Service {
        name: "Catalog service (Quick Deploy)",
        at: ServiceLocation::Gateway("/catalogservice"),
        note: "`/catalogservice/{customer}/{site}/…`",
        ..ON_GATEWAY
    },
    Service {
        name: "Quick Create",
        at: ServiceLocation::Gateway("/quickcreateservice"),
        note: "`/quickcreateservice/{customer}/…`",
        ..ON_GATEWAY
    },
    Service {
        name: "Site activation",
        at: ServiceLocation::Gateway("/resourceprovider"),
        note: "`/resourceprovider/{customer}/site/activation`",
        ..ON_GATEWAY
    },
    Service {
        name: "Secure Private Access",
        at: ServiceLocation::Gateway("/accessSecurity"),
        paging: "`offset`, `limit`",
        limit: ServiceLimit::PerSecond(15),
        limit_note: "1000 per minute; the gateway sends 15 per second, like Citrix's client",
        note: "307 if the customer is in another region",
        ..ON_GATEWAY
    },
    Service {
        name: "Resource locations, connector registry",
        paging: "none",
        ..classic("registry")
    },
    Service {
        name: "Service states",
        ..classic("core")
    },
    Service {
        name: "Connectors, classic",
        ..classic("agenthub")
    },
    Service {
        name: "Identity providers",
        paging: "`limit`, `continuationToken`",
        ..classic("cws")
    },
    Service {
        name: "Webhooks",
        ..classic("webhooks")
    },
    Service {
        name: "Notifications, classic",
        paging: "`continuationToken`",
        ..classic("notifications")
    },
    classic("customers"),
    classic("partner"),
    classic("licensing"),
    classic("cloudlicense"),
    classic("directory"),
    classic("features"),
    classic("identity"),
    classic("serviceprofiles"),
    classic("messaging"),
    classic("cloudlibrary"),
    classic("healthdatastore"),
    classic("releasesapi"),
    Service {
        name: "Workspace Environment Management",
        at: ServiceLocation::Host("/wem", Cloud::wem_url),
        limit_note: "429 at about 50 concurrent reads",
        note: "`/wem/services/wem/…`; US host with `cloud = \"commercial\"`",
        ..ON_GATEWAY
    },
    Service {
        name: "Global App Configuration",
        at: ServiceLocation::Host("/gac", |cloud| {
            cloud.if_commercial("https://wsaca.cloud.com")
        }),
        note: "`/gac/aca/…`; may require `authorization = \"bearer\"`",
        ..ON_GATEWAY
    },
    Service {
        name: "Session Recording",
        at: ServiceLocation::Host("/sessionrecording", |cloud| {
            cloud.if_commercial("https://sessionrecording.apps.cloud.com")
        }),
        headers: &[CUSTOMER, "SiteId", "ServerId"],
        note: "`/sessionrecording/api/…`",
        ..ON_GATEWAY
    },
    Service {
        name: "NetScaler Console (ADM)",
        at: ServiceLocation::Host("/adm", |cloud| cloud.if_commercial("https://adm.cloud.com")),
        headers: &["isCloud"],
        default_headers: &[("iscloud", "true")],
        transaction_id: "",
        note: "`/adm/massvc/{customer}/…`; StyleBooks require a separate session",
        ..ON_GATEWAY
    },
    Service {
        name: "App Layering",
        at: ServiceLocation::Host("/applayering", Cloud::app_layering_url),
        transaction_id: "",
        note: "requires `Accept: application/json;version=preview`; US host with `cloud = \"commercial\"`",
        ..ON_GATEWAY
    },
    Service {
        name: "Catalog service, classic",
        at: ServiceLocation::Host("/catalogs", |cloud| {
            cloud.if_commercial("https://catalogs.apps.cloud.com")
        }),
        ..ON_GATEWAY
    },
    Service {
        name: "Endpoint Management reporting",
        limit_note: "5 per minute and site; `Retry-After` is an RFC 3339 date",
        transaction_id: "",
        note: "`/api/endpoint-management/report/$search` on the customer's host",
        ..ON_GATEWAY
    },
];
