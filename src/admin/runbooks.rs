//! `GET /docs/runbooks.md`: the runbooks of this version as a page, so that alerts can link to
//! their sections also where the documents are out of reach.

use pulldown_cmark::{Event, Parser, Tag, TagEnd, html};

const RUNBOOKS: &str = include_str!("../../docs/runbooks.md");

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Runbooks</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="stylesheet" href="/page/page.css">
</head>
<body>
<nav aria-label="Pages"><a href="/">Status page</a></nav>
<main class="text">
"#;
const END: &str = "</main>\n</body>\n</html>\n";

/// Returns the page.
pub(super) fn page() -> String {
    let mut page = HEAD.to_owned();
    html::push_html(&mut page, events(RUNBOOKS));
    page + END
}

/// Returns what Markdown contains, its headings with ids. Of links to other documents, which this
/// listener does not have, only the text remains.
fn events(text: &str) -> impl Iterator<Item = Event<'_>> {
    let is_elsewhere = |target: &str| !target.starts_with('#');
    let mut links = Vec::new();
    let mut events: Vec<_> = Parser::new(text)
        .filter(|event| match event {
            Event::Start(Tag::Link { dest_url, .. }) => {
                links.push(is_elsewhere(dest_url));
                !is_elsewhere(dest_url)
            }
            Event::End(TagEnd::Link) => links.pop() == Some(false),
            _ => true,
        })
        .collect();
    for index in 1..events.len() {
        let (before, after) = events.split_at_mut(index);
        if let (Some(Event::Start(Tag::Heading { id, .. })), Some(Event::Text(title))) =
            (before.last_mut(), after.first())
        {
            *id = Some(title.to_lowercase().into());
        }
    }
    events.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(text: &str) -> String {
        let mut html = String::new();
        html::push_html(&mut html, events(text));
        html
    }

    #[test]
    fn headings_have_ids_and_links_lead_to_them_only() {
        for (text, expected) in [
            ("## GoneBad", "<h2 id=\"gonebad\">GoneBad</h2>\n"),
            (
                "See [X](#x), [`d.md`](d.md#y) and [not] a link",
                "<p>See <a href=\"#x\">X</a>, <code>d.md</code> and [not] a link</p>\n",
            ),
        ] {
            assert_eq!(html(text), expected);
        }
    }

    #[test]
    fn page_has_every_section_and_no_markdown() {
        let page = page();
        let sections = RUNBOOKS.lines().filter_map(|line| line.strip_prefix("## "));
        for section in sections {
            let id = section.to_lowercase();
            let heading = format!("<h2 id=\"{id}\">{section}</h2>");
            assert!(page.contains(&heading), "{section}");
        }
        let links = page.split("href=\"#").skip(1);
        for id in links.filter_map(|rest| rest.split('"').next()) {
            assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
        }
        for markdown in ["](", "**", "```", "\n## ", "\n- "] {
            assert!(!page.contains(markdown), "{markdown}");
        }
    }
}
