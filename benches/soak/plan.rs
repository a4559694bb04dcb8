//! The kind of each request, drawn from the seed.

use std::time::Duration;

use fastrand::Rng;

use crate::content::SHORTEST;
use crate::http1::Framing;

/// The host that callers name.
pub(crate) const HOST: &str = "gateway.example";

/// The part of the gateway and of the upstream that a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Service {
    /// The API gateway, over HTTP/1.1 without TLS.
    Api,
    /// The same over TLS.
    Tls,
    /// An upstream with HTTP/2.
    Http2,
    /// JSON with links, which the gateway rewrites.
    Links,
    /// `/monitorodata`, one request at a time; its pages have links.
    OData,
    /// A route with a permit for each of four requests.
    Gated,
    /// A DaaS batch.
    Batch,
    /// A request that the gateway rejects by itself.
    Rejected,
}

/// The credentials of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Credential {
    ApiKey,
    Basic,
    /// A gateway token as `CwsAuth Bearer=…`.
    CwsAuth,
    /// A gateway token as `Bearer …`.
    Bearer,
    /// A caller that may have two requests in flight.
    Limited,
    /// A secret that no caller has.
    Wrong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    Http11,
    Http2,
}

/// The use that a caller makes of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Normal,
    /// Leaves after half of the upload.
    AbortUpload,
    /// Leaves after the beginning of the response.
    AbortDownload,
    /// Sends slowly, but above the lowest rate.
    DripUpload,
    /// Sends half and then nothing.
    StallUpload,
    /// Reads slowly.
    DripDownload,
}

/// A caller, a service and a first segment at the upstream: what the suppression of forced logins
/// applies to.
pub(crate) type Scope = (Credential, Service, u64);

/// A request to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) id: u64,
    pub(crate) service: Service,
    pub(crate) credential: Credential,
    pub(crate) version: Version,
    pub(crate) is_tls: bool,
    pub(crate) is_kept: bool,
    pub(crate) method: &'static str,
    /// Bytes of the body, or items of a batch.
    pub(crate) upload: usize,
    pub(crate) is_upload_chunked: bool,
    pub(crate) download: usize,
    pub(crate) download_framing: Framing,
    pub(crate) is_coded: bool,
    pub(crate) behaviour: Behaviour,
}

/// Default of `limits.replay_buffer_bytes`.
const REPLAY_BUFFER: usize = 64 * KIB;
const MIB: usize = 1024 * 1024;
const KIB: usize = 1024;

impl Plan {
    /// Draws the request with this id.
    pub(crate) fn draw(random: &mut Rng, id: u64) -> Self {
        let service = draw_service(random);
        let version = match random.u8(..100) {
            0..10 => Version::Http10,
            10..65 => Version::Http11,
            _ => Version::Http2,
        };
        let mut plan = Self {
            id,
            service,
            credential: match random.u8(..20) {
                0..6 => Credential::ApiKey,
                6..11 => Credential::Basic,
                11..15 => Credential::CwsAuth,
                15..19 => Credential::Bearer,
                _ => Credential::Limited,
            },
            version,
            is_tls: random.bool(),
            is_kept: version != Version::Http10 && random.u8(..10) > 0,
            method: "GET",
            upload: 0,
            is_upload_chunked: false,
            download: length(random),
            download_framing: match random.u8(..8) {
                0..4 => Framing::Length(0),
                4..7 => Framing::Chunked,
                _ => Framing::Close,
            },
            is_coded: random.bool(),
            behaviour: Behaviour::Normal,
        };
        match service {
            Service::Links | Service::OData => {
                plan.download = random.usize(200..60 * KIB);
            }
            Service::Batch => {
                plan.method = "POST";
                plan.upload = random.usize(1..20);
            }
            Service::Rejected => {
                plan.credential = if random.u8(..4) == 0 {
                    Credential::Wrong
                } else {
                    Credential::ApiKey
                };
            }
            _ => plan.draw_method(random),
        }
        plan
    }

    fn draw_method(&mut self, random: &mut Rng) {
        self.method = match random.u8(..20) {
            0..8 => "GET",
            8 => "HEAD",
            9..15 => "POST",
            15..17 => "PUT",
            17..19 => "PATCH",
            _ => "DELETE",
        };
        if matches!(self.method, "POST" | "PUT" | "PATCH") {
            self.upload = length(random);
            self.is_upload_chunked = random.bool() && self.version != Version::Http10;
            self.download = self.download.min(64 * KIB);
        }
        if self.service == Service::Gated {
            self.download = self.download.min(128 * KIB);
            self.upload = self.upload.min(128 * KIB);
        }
    }

    /// Makes it a request whose caller behaves in this way.
    pub(crate) fn behaving(mut self, behaviour: Behaviour) -> Self {
        (self.behaviour, self.is_kept) = (behaviour, false);
        (self.service, self.credential) = (Service::Api, Credential::ApiKey);
        (self.is_upload_chunked, self.is_coded) = (self.version != Version::Http10, false);
        (self.method, self.upload, self.download) = match behaviour {
            Behaviour::DripUpload | Behaviour::StallUpload => ("PUT", 2 * KIB, 100),
            Behaviour::AbortUpload => ("POST", MIB, 100),
            Behaviour::AbortDownload => ("GET", 0, 2 * MIB),
            Behaviour::DripDownload | Behaviour::Normal => ("GET", 0, MIB),
        };
        self
    }

    /// Returns the caller, whichever scheme it uses, the service, and its first segment at the upstream.
    pub(crate) fn scope(&self) -> Scope {
        let caller = match self.credential {
            Credential::CwsAuth => Credential::Bearer,
            other => other,
        };
        let segment = match self.service {
            Service::Tls | Service::Http2 | Service::Gated => self.segment(),
            // The same for all.
            Service::Api | Service::Links | Service::OData | Service::Batch | Service::Rejected => {
                0
            }
        };
        (caller, self.service, segment)
    }

    /// Returns the number in the path.
    const fn segment(&self) -> u64 {
        self.id % 8
    }

    /// Returns whether the gateway can send the request again: a batch, or one whose body its buffer
    /// holds.
    pub(crate) fn is_replayable(&self) -> bool {
        self.service == Service::Batch || self.upload <= REPLAY_BUFFER
    }

    /// Returns the target, which determines the response of the upstream.
    pub(crate) fn target(&self) -> String {
        let (id, segment) = (self.id, self.segment());
        let framing = match self.download_framing {
            Framing::Length(_) => 'l',
            Framing::Chunked => 'c',
            Framing::Close => 'e',
        };
        let query = format!("id={id}&down={}&framing={framing}", self.download);
        match self.service {
            Service::Api => format!("/soak/s{segment}/items?{query}"),
            Service::Tls => format!("/tls/s{segment}/items?{query}"),
            Service::Http2 => format!("/h2/s{segment}/items?{query}"),
            Service::Links => format!("/links/s{segment}/page?{query}"),
            Service::OData => format!("/monitorodata/Machines?{query}"),
            Service::Gated => format!("/gated/s{segment}/items?{query}"),
            Service::Batch => format!("/cvad/manage/$batch?{query}&items={}", self.upload),
            Service::Rejected => match (self.credential, id % 2) {
                (Credential::Wrong, _) => format!("/soak/items?{query}"),
                (_, 0) => format!("/forbidden/items?{query}"),
                (_, _) => format!("/forbidden%2Fitems?{query}"),
            },
        }
    }

    /// Returns the base of links in the response, as the caller must see them.
    pub(crate) fn link_base(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        let prefix = link_prefix(self.service);
        format!("{scheme}://{}{prefix}", HOST)
    }

    /// Returns whether an upstream may get the request again after its connection broke.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.is_idempotent() && self.upload == 0
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        self.method != "POST" && self.method != "PATCH"
    }

    pub(crate) fn has_page(&self) -> bool {
        matches!(self.service, Service::Links | Service::OData)
    }

    /// Returns the length of the pieces of an upload.
    pub(crate) fn upload_piece(&self) -> usize {
        if self.behaviour == Behaviour::DripUpload {
            self.upload / 8
        } else {
            16 * KIB
        }
    }

    /// Returns the pause between pieces of an upload, and between those of a download.
    pub(crate) fn pauses(&self) -> (Duration, Duration) {
        match self.behaviour {
            Behaviour::DripUpload => (Duration::from_millis(300), Duration::ZERO),
            Behaviour::DripDownload => (Duration::ZERO, Duration::from_millis(200)),
            _ => (Duration::ZERO, Duration::ZERO),
        }
    }
}

/// Returns the path in front of links of a service, at the gateway and at the upstream.
pub(crate) fn link_prefix(service: Service) -> &'static str {
    if service == Service::OData {
        "/monitorodata"
    } else {
        "/links"
    }
}

fn draw_service(random: &mut Rng) -> Service {
    match random.u8(..100) {
        0..32 => Service::Api,
        32..47 => Service::Tls,
        47..69 => Service::Http2,
        69..79 => Service::Links,
        79..86 => Service::OData,
        86..93 => Service::Gated,
        93..98 => Service::Batch,
        _ => Service::Rejected,
    }
}

/// Draws the length of a body: many small ones, few of up to 5 MB.
fn length(random: &mut Rng) -> usize {
    match random.u16(..1000) {
        0..100 => 0,
        100..650 => random.usize(SHORTEST..4 * KIB),
        650..930 => random.usize(4 * KIB..64 * KIB),
        930..993 => random.usize(64 * KIB..512 * KIB),
        _ => random.usize(512 * KIB..5 * MIB),
    }
}
