//! The files of the status page. Appearance and behaviour are tested in a browser (tests/page).

use super::wait_until_ready;
use crate::harness::{Gateway, OK, Upstream, get};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

#[tokio::test]
async fn status_page_loads_only_own_files_under_a_strict_csp() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    wait_until_ready(&gateway).await;
    let page = gateway.admin(get("/")).await;
    assert_eq!(
        (page.status(), page.field("content-type").as_deref()),
        (200, Some("text/html; charset=utf-8"))
    );
    let mut pending = vec!["/".to_owned()];
    let mut loaded: Vec<String> = Vec::new();
    while let Some(path) = pending.pop() {
        let file = gateway.admin(get(&path)).await;
        assert_eq!(file.status(), 200, "{path}");
        assert_eq!(
            file.field("content-security-policy").as_deref(),
            Some(POLICY),
            "{path}"
        );
        assert_eq!(
            file.field("x-content-type-options").as_deref(),
            Some("nosniff"),
            "{path}"
        );
        let kind = match path.rsplit_once('.').map(|(_, extension)| extension) {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(file.field("content-type").as_deref(), Some(kind), "{path}");
        let text = file.text();
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "<style",
            "<script>",
        ] {
            assert!(!text.contains(forbidden), "{forbidden} in {path}");
        }
        // XML namespace names are not addresses.
        let without_namespaces = text.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !without_namespaces.contains("http://") && !without_namespaces.contains("https://"),
            "{path}"
        );
        pending.extend(files(&text).filter(|file| !loaded.contains(file)));
        loaded.push(path);
    }
    assert!(loaded.len() > 6, "{loaded:?}");
}

#[tokio::test]
async fn runbooks_are_a_page_under_the_same_policy() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let page = gateway.admin(get("/docs/runbooks.md")).await;
    assert_eq!(
        (page.status(), page.field("content-type").as_deref()),
        (200, Some("text/html; charset=utf-8"))
    );
    assert_eq!(
        page.field("content-security-policy").as_deref(),
        Some(POLICY)
    );
    assert!(page.text().contains("<h2 id=\"citrixtokengone\">"));
}

/// Returns the paths of the scripts and styles that a page or module loads.
fn files(text: &str) -> impl Iterator<Item = String> {
    let paths = text
        .split('"')
        .filter(|path| path.ends_with(".js") || path.ends_with(".css"));
    paths.map(|path| match path.strip_prefix("./") {
        Some(name) => format!("/page/{name}"),
        None => path.to_owned(),
    })
}

/// Returns the values of an attribute.
fn values<'a>(text: &'a str, attribute: &str) -> Vec<&'a str> {
    let start = format!("{attribute}=\"");
    let rest = text.split(start.as_str()).skip(1);
    rest.filter_map(|rest| rest.split('"').next()).collect()
}

/// Keyboards and screen readers reach each section by a link and a heading.
#[tokio::test]
async fn links_lead_to_sections_that_have_headings() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let page = gateway.admin(get("/")).await.text();
    let ids = values(&page, " id");
    let headings = values(&page, "<h2 id");
    let labels = values(&page, "<section aria-labelledby");
    assert!(
        labels.len() > 10 && labels.contains(&"fleet-title"),
        "{labels:?}"
    );
    assert!(
        labels.iter().all(|label| headings.contains(label)),
        "{labels:?}"
    );
    let links: Vec<&str> = values(&page, "href")
        .into_iter()
        .filter_map(|link| link.strip_prefix('#'))
        .collect();
    assert!(links.iter().all(|link| ids.contains(link)), "{links:?}");
    // All but the first, which the page begins with.
    for heading in &headings[1..] {
        assert!(links.contains(heading), "{heading}");
    }
}
