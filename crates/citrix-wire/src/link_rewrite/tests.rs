mod body;
mod cookies;
mod headers;
mod json;
mod map;
mod property;

use std::rc::Rc;

use bytes::Bytes;

use super::{JsonRewriter, LinkCounts, LinkMap, LinkRewriter, LinkRoute};

const BASE: &str = "https://gw.example.net";

fn route<'a>(prefix: &'a str, upstream: &'a str, base_path: &'a str) -> LinkRoute<'a> {
    LinkRoute {
        prefix,
        strip_prefix: true,
        upstream,
        base_path,
    }
}

/// Returns a route that does not strip its prefix.
fn unstripped<'a>(prefix: &'a str, upstream: &'a str) -> LinkRoute<'a> {
    LinkRoute {
        prefix,
        strip_prefix: false,
        upstream,
        base_path: "",
    }
}

/// Returns a table like the built-in one, with an overridden `api_url` and three configured routes.
fn table() -> Rc<LinkMap> {
    let api = "gateway.staging.example:8443";
    Rc::new(LinkMap::new(
        [
            unstripped("", api),
            unstripped("/monitorodata", api),
            unstripped("/cvad/manage", api),
            route("/region/eu", "api-eu.cloud.com", ""),
            route("/classic/registry", "registry.citrixworkspacesapi.net", ""),
            route("/direct/acme", "acme.xendesktop.net", ""),
            route("/direct/contoso", "contoso.xendesktop.net", ""),
            route("/reports", "reports.example.cloud.com", "/api"),
            LinkRoute {
                prefix: "/kept",
                strip_prefix: false,
                upstream: "kept.example",
                base_path: "/below",
            },
            route("/v6", "[::1]:9000", ""),
        ],
        [("api.cloud.com", api)],
    ))
}

fn links() -> LinkRewriter {
    LinkRewriter::new(table(), BASE, "api.cloud.com")
}

/// Rewrites a body in pieces whose sizes cycle through `sizes`.
fn rewrite_in_pieces(links: LinkRewriter, body: &[u8], sizes: &[usize]) -> (Vec<u8>, LinkCounts) {
    let mut rewriter = JsonRewriter::new(links);
    let mut out = Vec::new();
    let mut rest = Bytes::copy_from_slice(body);
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        rewriter.push(&rest.split_to((*size).clamp(1, rest.len())));
        while let Some(piece) = rewriter.pull() {
            assert!(!piece.is_empty());
            out.extend_from_slice(&piece);
        }
    }
    rewriter.finish();
    while let Some(piece) = rewriter.pull() {
        out.extend_from_slice(&piece);
    }
    (out, rewriter.counts())
}
