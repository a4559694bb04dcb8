use std::task::Context;

use super::*;

fn window(others: usize) -> SharedWindow {
    Window::open(&Arc::default(), others).unwrap()
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Reads what there is. Returns the number of bytes.
fn read(reader: &mut WindowReader) -> usize {
    let mut length = 0;
    while let Poll::Ready(Some(Ok(frame))) = reader.poll_frame(&mut noop()) {
        length += frame.data_ref().map_or(0, Bytes::len);
    }
    length
}

#[tokio::test]
async fn every_reader_gets_the_bytes_however_they_were_written_and_read() {
    let mut shared = window(4);
    let body: Vec<u8> = (0..500_000_u32).map(|n| (n % 251) as u8).collect();
    let mut got = vec![Vec::new(); 4];
    let mut rest = &body[..];
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(fastrand::usize(1..40_000)));
        shared.window.push(now);
        rest = later;
        for (reader, got) in shared.others.iter_mut().zip(&mut got) {
            for _ in 0..fastrand::usize(0..4) {
                if let Poll::Ready(Some(Ok(frame))) = reader.poll_frame(&mut noop()) {
                    got.extend_from_slice(frame.data_ref().unwrap());
                }
            }
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    shared.window.complete(Some(trailers.clone()));
    for (reader, mut got) in shared.others.iter_mut().zip(got) {
        let mut last = None;
        while let Poll::Ready(Some(Ok(frame))) = reader.poll_frame(&mut noop()) {
            match frame.into_data() {
                Ok(data) => got.extend_from_slice(&data),
                Err(frame) => last = frame.into_trailers().ok(),
            }
        }
        assert!(got == body);
        assert_eq!(last.as_ref(), Some(&trailers));
        assert!(reader.is_end_stream());
    }
}

#[tokio::test]
async fn window_holds_what_the_slowest_reader_has_not_read() {
    let mut shared = window(1);
    for _ in 0..WINDOW / BLOCK {
        shared.window.push(&[0; BLOCK]);
        read(&mut shared.own);
    }
    assert_eq!(shared.window.room(&mut noop()), Room::Full);
    assert_eq!(read(&mut shared.others[0]), WINDOW);
    assert_eq!(shared.window.room(&mut noop()), Room::Free);
    assert_eq!(shared.window.lock().held(), 0);
    drop(shared.others);
    shared.window.push(&[0; WINDOW]);
    assert_eq!(shared.window.room(&mut noop()), Room::Full);
    drop(shared.own);
    assert_eq!(shared.window.room(&mut noop()), Room::Abandoned);
    assert_eq!(shared.window.lock().held(), 0);
}

#[tokio::test]
async fn single_bytes_take_no_more_memory_than_blocks() {
    let mut shared = window(1);
    for _ in 0..100_000 {
        shared.window.push(&[0]);
        read(&mut shared.own);
    }
    assert_eq!(shared.window.lock().blocks.len(), 100_000 / BLOCK);
    assert_eq!(read(&mut shared.others[0]), 100_000);
}

#[tokio::test(start_paused = true)]
async fn reader_that_stalls_while_another_waits_is_evicted() {
    let limit = Duration::from_secs(5);
    let mut shared = window(1);
    shared.window.push(&[0; WINDOW]);
    let mut wait = shared.window.begin_wait();
    tokio::time::advance(limit).await;
    shared.window.count_wait(&mut wait, limit, false);
    assert_eq!(shared.window.lock().readers.len(), 2, "no other waits");
    read(&mut shared.own);
    shared.window.count_wait(&mut wait, limit, false);
    let evicted = shared.others[0].poll_frame(&mut noop());
    assert!(
        matches!(evicted, Poll::Ready(Some(Err(WindowError::Evicted)))),
        "{evicted:?}"
    );
    assert_eq!(shared.window.room(&mut noop()), Room::Free);
}

#[tokio::test(start_paused = true)]
async fn reader_that_has_read_everything_is_not_evicted_with_one_that_stalls() {
    let limit = Duration::from_secs(5);
    for contended in [false, true] {
        let mut shared = window(1);
        shared.window.push(&[0; WINDOW]);
        let mut wait = shared.window.begin_wait();
        tokio::time::advance(Duration::from_millis(1)).await;
        read(&mut shared.own);
        // The wait is counted late.
        tokio::time::advance(limit + Duration::from_secs(1)).await;
        shared.window.count_wait(&mut wait, limit, contended);
        let left: Vec<_> = shared.window.lock().readers.keys().copied().collect();
        assert_eq!(left, [0]);
    }
}

#[tokio::test(start_paused = true)]
async fn slow_reader_is_evicted_only_while_requests_wait_for_the_permit() {
    let limit = Duration::from_secs(5);
    for (contended, is_evicted) in [(false, false), (true, true)] {
        let mut shared = window(1);
        shared.window.push(&[0; WINDOW]);
        for _ in 0..6 {
            read(&mut shared.own);
            let mut wait = shared.window.begin_wait();
            tokio::time::advance(Duration::from_secs(1)).await;
            // A block a second.
            let _ = shared.others[0].poll_frame(&mut noop());
            shared.window.count_wait(&mut wait, limit, contended);
            shared.window.push(&[0; BLOCK]);
        }
        let left = shared.window.lock().readers.len() == 1;
        assert_eq!(left, is_evicted);
    }
}

#[tokio::test]
async fn failure_follows_the_bytes_before_it() {
    let mut shared = window(0);
    shared.window.push(b"half");
    shared.window.fail("broken");
    assert!(shared.own.poll_frame(&mut noop()).is_ready());
    let failed = shared.own.poll_frame(&mut noop());
    assert!(
        matches!(failed, Poll::Ready(Some(Err(WindowError::Failed(_))))),
        "{failed:?}"
    );
    assert!(!shared.own.is_end_stream());
}

#[test]
fn windows_reserve_a_bounded_number_of_bytes() {
    let all = Arc::default();
    let windows: Vec<_> = (0..32).map(|_| Window::open(&all, 0).unwrap()).collect();
    assert!(Window::open(&all, 0).is_none());
    windows[0].window.push(&[0; 10_000]);
    windows[0].window.complete(None);
    assert!(
        Window::open(&all, 0).is_none(),
        "its bytes are not read yet"
    );
    drop(windows);
    assert!(Window::open(&all, 0).is_some());
}
