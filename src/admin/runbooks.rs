//! `GET /docs/runbooks.md`: the runbooks of this version as a page, so that alerts can link to
//! their sections also where the documents are out of reach.

use std::borrow::Cow;

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
    let mut rest = RUNBOOKS;
    while !rest.is_empty() {
        rest = write_block(rest, &mut page);
    }
    page + END
}

/// Writes the first block of Markdown, as far as the runbooks use it. Returns what follows.
fn write_block<'a>(text: &'a str, page: &mut String) -> &'a str {
    if let Some((code, rest)) = text
        .strip_prefix("```")
        .and_then(|fenced| fenced.split_once("\n```"))
    {
        let (_language, code) = code.split_once('\n').unwrap_or_default();
        *page += &format!("<pre><code>{}</code></pre>\n", escape(code));
        return rest.trim_start();
    }
    let (block, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let level = block.bytes().take_while(|byte| *byte == b'#').count();
    if level > 0 {
        let title = block[level..].trim();
        let id = title.to_lowercase();
        *page += &format!(
            "<h{level} id=\"{}\">{}</h{level}>\n",
            escape(&id),
            escape(title)
        );
    } else if let Some(items) = block.strip_prefix("- ") {
        let items = items.split("\n- ");
        let items: String = items
            .map(|item| format!("<li>{}</li>\n", inline(item)))
            .collect();
        *page += &format!("<ul>\n{items}</ul>\n");
    } else {
        *page += &format!("<p>{}</p>\n", inline(block));
    }
    rest.trim_start()
}

/// Returns the HTML of a text with code, bold text and links.
fn inline(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let html = parts.map(|(index, part)| match index % 2 {
        0 => bold(part),
        _ => format!("<code>{}</code>", escape(part)),
    });
    html.collect()
}

fn bold(text: &str) -> String {
    let parts = text.split("**").enumerate();
    let html = parts.map(|(index, part)| match index % 2 {
        0 => links(part),
        _ => format!("<b>{}</b>", escape(part)),
    });
    html.collect()
}

/// Links to sections; of links to other documents, which this listener does not have, only the text
/// remains.
fn links(text: &str) -> String {
    let link = |text: &str| {
        let (before, rest) = text.split_once('[')?;
        let (label, rest) = rest.split_once("](")?;
        let (target, after) = rest.split_once(')')?;
        let label = escape(label);
        let link = match target.strip_prefix('#') {
            Some(id) => format!("<a href=\"#{}\">{label}</a>", escape(id)),
            None => label.into_owned(),
        };
        Some(format!("{}{link}{}", escape(before), links(after)))
    };
    link(text).unwrap_or_else(|| escape(text).into_owned())
}

fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"']) {
        return Cow::Borrowed(text);
    }
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    Cow::Owned(text.replace('>', "&gt;").replace('"', "&quot;"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_of_the_runbooks_becomes_html() {
        for (text, html) in [
            ("## GoneBad", "<h2 id=\"gonebad\">GoneBad</h2>\n"),
            ("a <b>\n& c", "<p>a &lt;b&gt;\n&amp; c</p>\n"),
            (
                "**page.** See [X](#x), [d.md](d.md#y): `a|\"b`",
                "<p><b>page.</b> See <a href=\"#x\">X</a>, d.md: <code>a|&quot;b</code></p>\n",
            ),
            (
                "- one\n  more\n- two",
                "<ul>\n<li>one\n  more</li>\n<li>two</li>\n</ul>\n",
            ),
            (
                "```sh\na <\n\nb\n```",
                "<pre><code>a &lt;\n\nb</code></pre>\n",
            ),
            ("[not] a link", "<p>[not] a link</p>\n"),
        ] {
            let mut page = String::new();
            assert_eq!(write_block(text, &mut page), "", "{text}");
            assert_eq!(page, html);
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
