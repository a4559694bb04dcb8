use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const END: u8 = 0x5;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Returns what is passed when `bytes` arrive in portions of `size`.
fn passed(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut guard = FrameGuard::default();
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    for portion in bytes.chunks(size) {
        held.extend_from_slice(portion);
        loop {
            let scanned = guard.scan(&mut held);
            passed.extend(held.drain(..scanned.permitted));
            match scanned.insert {
                Some(byte) => passed.push(byte),
                None => break,
            }
        }
    }
    passed.extend(held);
    passed
}

fn request(stream: u8) -> Vec<u8> {
    [
        frame(HEADERS, 0x4, stream, &[0x83, 0x84, 0x86]),
        frame(0, 0, stream, b"body"),
    ]
    .concat()
}

#[test]
fn unfinished_header_block_is_counted_until_its_end() {
    let mut guard = FrameGuard::default();
    let mut scan = |bytes: &[u8]| {
        guard.scan(&mut bytes.to_vec());
        guard.unfinished_block()
    };
    assert_eq!(scan(PREFACE), 0);
    assert_eq!(scan(&request(1)), 0, "the block has ended");
    assert_eq!(scan(&frame(HEADERS, 0, 3, &[0x83; 100])), 100);
    let last = frame(CONTINUATION, END_HEADERS, 3, &[0x84; 50]);
    assert_eq!(scan(&last[..20]), 150, "its last frame is arriving");
    assert_eq!(scan(&last[20..]), 0);
    assert_eq!(
        scan(&frame(0, 0, 3, b"body")[..11]),
        0,
        "not a header block"
    );
}

#[test]
fn marker_precedes_the_fields_of_trailers_only() {
    let expected: [(u8, &[u8], &[u8]); 7] = [
        (END, &[0x84], &[MARKER, 0x84]),
        (END, &[], &[MARKER]),
        (END | PADDED, &[2, 0x84, 0, 0], &[2, MARKER, 0x84, 0, 0]),
        (END | PADDED, &[1, 0], &[1, MARKER, 0]),
        (
            END | PRIORITY,
            &[0, 0, 0, 0, 1, 0x84],
            &[0, 0, 0, 0, 1, MARKER, 0x84],
        ),
        // Updates of the dynamic table's size, of one byte and of three.
        (
            END,
            &[0x20, 0x3f, 0xe1, 0x1f, 0x84],
            &[0x20, 0x3f, 0xe1, 0x1f, MARKER, 0x84],
        ),
        (END, &[0x20], &[0x20, MARKER]),
    ];
    for (flags, block, changed) in expected {
        let stream = |trailers: &[u8]| {
            [
                PREFACE.to_vec(),
                frame(4, 0, 0, &[]),
                request(1),
                frame(HEADERS, flags, 1, trailers),
                request(3),
            ]
            .concat()
        };
        for size in [1, 2, 3, 7, 1000] {
            assert_eq!(
                passed(&stream(block), size),
                stream(changed),
                "{block:?}, {size}"
            );
        }
    }
}

#[test]
fn rfc9113_5_1_headers_without_an_open_request_pass_unchanged() {
    let trailers = |stream| frame(HEADERS, END, stream, &[0x83]);
    for (end, stream) in [
        (frame(DATA, END_STREAM, 1, b"body"), 1),
        (frame(RST_STREAM, 0, 1, &[0; 4]), 1),
        (frame(HEADERS, END, 3, &[0x83, 0x84, 0x86]), 3),
        // Never begun.
        (request(9), 5),
    ] {
        let bytes = [PREFACE.to_vec(), request(1), end, trailers(stream)].concat();
        for size in [1, 5, 1000] {
            assert_eq!(passed(&bytes, size), bytes, "{stream}");
        }
    }
}

#[test]
fn with_too_many_open_requests_any_headers_may_be_trailers() {
    let mut bytes = PREFACE.to_vec();
    for stream in (1_u16..).step_by(2).take(MAX_OPEN + 1) {
        let [high, low] = stream.to_be_bytes();
        bytes.extend([0, 0, 1, HEADERS, END_HEADERS, 0, 0, high, low, 0x83]);
    }
    bytes.extend(frame(RST_STREAM, 0, 1, &[0; 4]));
    let changed = [&bytes[..], &frame(HEADERS, END, 1, &[MARKER, 0x84])].concat();
    bytes.extend(frame(HEADERS, END, 1, &[0x84]));
    assert_eq!(passed(&bytes, 1000), changed);
}

#[test]
fn rfc9113_8_3_1_fragment_in_path_is_reported_by_its_stream() {
    let path = b"\x82\x86\x44\x04/a#b";
    let (first, second) = path.split_at(5);
    let bytes = [
        PREFACE.to_vec(),
        request(1),
        frame(HEADERS, END, 3, path),
        frame(
            HEADERS,
            END | PADDED,
            5,
            &[&[3], &path[..], b"\0\0\0"].concat(),
        ),
        frame(HEADERS, END | PRIORITY, 7, &[&[0; 5], &path[..]].concat()),
        frame(HEADERS, 1 | PADDED, 9, &[&[2], first, b"\0\0"].concat()),
        frame(CONTINUATION, END_HEADERS, 9, second),
        frame(HEADERS, END, 11, b"\x84\x00\x03x-a\x02/#"),
        // Padding that looks like a path.
        frame(
            HEADERS,
            END | PADDED,
            13,
            &[&[8], &b"\x84"[..], path].concat(),
        ),
        frame(0, 1, 1, path),
    ]
    .concat();
    for size in [1, 2, 7, 1000] {
        let (mut guard, mut held) = (FrameGuard::default(), Vec::new());
        for portion in bytes.chunks(size) {
            held.extend_from_slice(portion);
            let scanned = guard.scan(&mut held);
            held.drain(..scanned.permitted);
        }
        assert_eq!(*guard.fragments(), [3, 5, 7, 9], "{size}");
    }
}

#[test]
fn path_that_trailers_add_to_the_dynamic_table_is_known() {
    for (flags, start, end) in [
        (END, &b""[..], &b""[..]),
        (END | PADDED, b"\x02", b"\0\0"),
        (END | PRIORITY, b"\0\0\0\0\x01", b""),
        (END, b"\x3f\xe1\x1f", b""),
    ] {
        let added = [start, b"\x44\x04/a#b\x40\x01x\x01y", end].concat();
        let bytes = [
            PREFACE.to_vec(),
            request(1),
            frame(HEADERS, flags, 1, &added),
            frame(HEADERS, END, 3, b"\x82\x86\xbf"),
            frame(HEADERS, END, 5, b"\x82\x86\x84\xbe"),
        ]
        .concat();
        for size in [1, 2, 7, 1000] {
            let (mut guard, mut held) = (FrameGuard::default(), Vec::new());
            for portion in bytes.chunks(size) {
                held.extend_from_slice(portion);
                loop {
                    let scanned = guard.scan(&mut held);
                    held.drain(..scanned.permitted);
                    if scanned.insert.is_none() {
                        break;
                    }
                }
            }
            assert_eq!(*guard.fragments(), [3], "{flags} {size}");
        }
    }
}

#[test]
fn requests_without_trailers_pass_unchanged() {
    let bytes = [
        PREFACE.to_vec(),
        request(1),
        request(3),
        request(9),
        vec![0, 0, 9, 1],
    ]
    .concat();
    for size in [1, 8, 9, 10, 1000] {
        assert_eq!(passed(&bytes, size), bytes);
    }
}
