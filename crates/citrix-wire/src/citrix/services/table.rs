//! The rows, in the order of contract §4.

use super::{Service, ServiceLimit, ServiceLocation};
use crate::citrix::clouds::Cloud;

const CUSTOMER: &str = "Citrix-CustomerId";
const INSTANCE: &str = "Citrix-InstanceId";

const CITRIX_ID: &str = "Citrix-TransactionId";
const CWS_ID: &str = "X-Cws-TransactionId";
const CC_ID: &str = "CC-TransactionId";

/// What most services of the API gateway have in common.
const ON_GATEWAY: Service = Service {
    name: "",
    at: ServiceLocation::Elsewhere,
    needs: &[CUSTOMER],
    adds: &[],
    paging: "",
    limit: ServiceLimit::Unknown,
    limits: "",
    transaction_id: CITRIX_ID,
    rewrite_links: false,
    note: "",
};

/// The path names the customer: `/classic/{name}/{customer}/…`.
const ON_CLASSIC: Service = Service {
    needs: &[],
    transaction_id: CWS_ID,
    ..ON_GATEWAY
};

/// A classic host of which no more is known than that it is there.
const fn classic(name: &'static str) -> Service {
    Service {
        name,
        at: ServiceLocation::Classic(name),
        ..ON_CLASSIC
    }
}

/// Every service with a public reference (contract §4).
pub static SERVICES: &[Service] = &[
    Service {
        name: "DaaS (CVAD)",
        at: ServiceLocation::Gateway("/cvad/manage"),
        needs: &[CUSTOMER, INSTANCE],
        paging: "`ContinuationToken`; `limit` (1000 at most), `continuationToken`",
        limits: "429 without a number",
        rewrite_links: true,
        note: "`/me`, `/Sites`, `/about` and `/ping` need no site id",
        ..ON_GATEWAY
    },
    Service {
        name: "DaaS and old OData, direct",
        at: ServiceLocation::Direct,
        needs: &[CUSTOMER],
        paging: "as DaaS",
        limits: "530: the site is frozen",
        rewrite_links: true,
        note: "the customers of the configuration whose id is a DNS label",
        ..ON_GATEWAY
    },
    Service {
        name: "Monitor OData",
        at: ServiceLocation::Gateway("/monitorodata"),
        paging: "`@odata.nextLink`; `$top`, `$skip`",
        limit: ServiceLimit::AtOnce(1),
        limits: "one at a time per customer, else 429",
        transaction_id: "",
        rewrite_links: true,
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
        paging: "`ContinuationToken`; `Limit` (200 at most), `ContinuationToken`",
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
        limits: "1000 a minute; paced at 15 a second, as Citrix's own client is",
        note: "307 when the customer is in another region",
        ..ON_GATEWAY
    },
    Service {
        name: "Resource locations, connectors' registry",
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
        limits: "429 from about 50 reads at once",
        note: "`/wem/services/wem/…`",
        ..ON_GATEWAY
    },
    Service {
        name: "Global App Configuration",
        at: ServiceLocation::Host("/gac", |cloud| {
            cloud.if_commercial("https://wsaca.cloud.com")
        }),
        note: "`/gac/aca/…`; some say that it wants `authorization = \"bearer\"`",
        ..ON_GATEWAY
    },
    Service {
        name: "Session Recording",
        at: ServiceLocation::Host("/sessionrecording", |cloud| {
            cloud.if_commercial("https://sessionrecording.apps.cloud.com")
        }),
        needs: &[CUSTOMER, "SiteId", "ServerId"],
        note: "`/sessionrecording/api/…`",
        ..ON_GATEWAY
    },
    Service {
        name: "NetScaler Console (ADM)",
        at: ServiceLocation::Host("/adm", |cloud| cloud.if_commercial("https://adm.cloud.com")),
        needs: &["isCloud"],
        adds: &[("iscloud", "true")],
        transaction_id: "",
        note: "`/adm/massvc/{customer}/…`; style books want a session of their own",
        ..ON_GATEWAY
    },
    Service {
        name: "App Layering",
        at: ServiceLocation::Host("/applayering", Cloud::app_layering_url),
        transaction_id: "",
        note: "wants `Accept: application/json;version=preview`",
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
        limits: "5 a minute per site; `Retry-After` is an RFC 3339 date",
        transaction_id: "",
        note: "`/api/endpoint-management/report/$search` on a host of the customer's",
        ..ON_GATEWAY
    },
];
