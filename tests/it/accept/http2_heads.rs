//! Heads of HTTP/2 requests that `h2` accepts and that are 400 as over HTTP/1.1.

use super::trailers::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS, first_outcome, frame};
use crate::harness::{Gateway, OK, Upstream, get_with};

/// GET, http, `:authority: localhost`.
const START: &[u8] = b"\x82\x86\x41\x09localhost";
/// `:status: 200` and `:status: 400` from the static table.
const STATUS_200: u8 = 0x88;
const STATUS_400: u8 = 0x8c;

fn request(block: &[u8]) -> Vec<u8> {
    frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        1,
        &[START, block].concat(),
    )
}

#[tokio::test]
async fn rfc9113_8_3_1_target_that_is_no_path_or_has_a_fragment_is_rejected() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for block in [
        // A fragment, plain and in Huffman code, after the path and after the query.
        &b"\x44\x04/a#b"[..],
        b"\x04\x02/#",
        b"\x14\x06/a?b#c",
        b"\x44\x84\x60\x7f\xf5\x1f",
        b"\x00\x05:path\x04/a#b",
        // `*`, a query alone, and an absolute target.
        b"\x04\x01*",
        b"\x04\x03*#x",
        b"\x04\x02?x",
        b"\x04\x08http://x",
    ] {
        for split in [0, 1, 3] {
            let outcome = first_outcome(&gateway, &request(block), split).await;
            // PROTOCOL_ERROR for a path that `h2` cannot parse.
            assert!(
                matches!(outcome, Ok(STATUS_400) | Err(1)),
                "{block:x?}: {outcome:?}"
            );
            let is_fragment = block.contains(&b'/') && block.contains(&b'#');
            assert!(!is_fragment || outcome == Ok(STATUS_400), "{block:x?}");
        }
    }
    let options = b"\x02\x07OPTIONS\x86\x04\x01*\x41\x09localhost";
    let options = frame(HEADERS, END_STREAM | END_HEADERS, 1, options);
    assert_eq!(first_outcome(&gateway, &options, 0).await, Ok(STATUS_400));
    let (first, second) = (&[START, b"\x44\x04/a"].concat()[..], b"#b");
    let continued = [
        frame(HEADERS, END_STREAM, 1, first),
        frame(CONTINUATION, END_HEADERS, 1, second),
    ];
    assert_eq!(
        first_outcome(&gateway, &continued.concat(), 0).await,
        Ok(STATUS_400)
    );
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn repeated_content_length_or_whitespace_around_a_value_is_rejected() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for block in [
        // `content-length` is 28 in the static table.
        &b"\x84\x0f\x0d\x010\x0f\x0d\x010"[..],
        b"\x84\x00\x03x-a\x02 b",
        b"\x84\x00\x03x-a\x02b ",
        b"\x84\x00\x03x-a\x02\tb",
        b"\x84\x00\x03x-a\x01\t",
    ] {
        let outcome = first_outcome(&gateway, &request(block), 0).await;
        assert_eq!(outcome, Ok(STATUS_400), "{block:x?}");
    }
    upstream.assert_no_more_requests().await;
    for block in [
        &b"\x84\x00\x03x-a\x02/#"[..],
        b"\x44\x07/a%23?b",
        b"\x84\x0f\x0d\x010",
        b"\x84\x00\x03x-a\x00",
        b"\x84\x00\x03x-a\x03b c",
    ] {
        let outcome = first_outcome(&gateway, &request(block), 0).await;
        assert_eq!(outcome, Ok(STATUS_200), "{block:x?}");
        upstream.request().await;
    }
}

#[tokio::test]
async fn fragment_affects_its_own_request_only() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let second = frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        3,
        &[START, b"\x44\x04/a#b"].concat(),
    );
    let frames = [request(b"\x84"), second].concat();
    let outcome = first_outcome(&gateway, &frames, 3).await;
    assert!(
        matches!(outcome, Ok(STATUS_200 | STATUS_400)),
        "{outcome:?}"
    );
    for request in upstream.take_requests().await {
        assert_eq!(request.line(), "GET / HTTP/1.1");
    }
    // As over HTTP/1.1.
    gateway
        .raw(get_with("/a#b", ""))
        .await
        .problem(400, "bad_request");
}
