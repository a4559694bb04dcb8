//! Frames of RESP3.

/// Returns the length of the first frame; `None` if it is incomplete.
pub(super) fn frame_len(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let count = || {
        let digits = str::from_utf8(&bytes[1..end - 2]).ok()?;
        digits.parse::<usize>().ok()
    };
    let is_null = bytes.get(1) == Some(&b'-');
    match bytes[0] {
        b'$' | b'=' | b'!' if !is_null => {
            let end = end + count()? + 2;
            (bytes.len() >= end).then_some(end)
        }
        b'*' | b'~' | b'>' if !is_null => elements(bytes, end, count()?),
        b'%' | b'|' => elements(bytes, end, 2 * count()?),
        _ => Some(end),
    }
}

fn elements(bytes: &[u8], start: usize, count: usize) -> Option<usize> {
    (0..count).try_fold(start, |at, _| Some(at + frame_len(&bytes[at..])?))
}

/// Returns `true` for a message to a subscriber.
pub(super) fn is_message(frame: &[u8]) -> bool {
    frame.starts_with(b">3\r\n$7\r\nmessage\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_end_where_their_elements_do() {
        for frame in [
            "+OK\r\n",
            ":-3\r\n",
            "$-1\r\n",
            "$2\r\nab\r\n",
            "_\r\n",
            "*-1\r\n",
            "*2\r\n:1\r\n$0\r\n\r\n",
            "%1\r\n+a\r\n*1\r\n_\r\n",
            ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\ngo\r\n",
        ] {
            let bytes = frame.as_bytes();
            for length in 0..bytes.len() {
                assert_eq!(frame_len(&bytes[..length]), None, "{frame:?} {length}");
            }
            let longer = [bytes, b"+"].concat();
            assert_eq!(frame_len(&longer), Some(bytes.len()), "{frame:?}");
            assert_eq!(is_message(bytes), frame.starts_with('>'));
        }
    }
}
