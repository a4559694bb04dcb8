//! Turns of a task that always has work: a peer that sends as fast as it is read would keep the other
//! tasks of its thread waiting.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::task::yield_now;

/// Work of a task since other tasks ran.
#[derive(Debug)]
pub struct Burst {
    left: usize,
    limit: usize,
}

impl Burst {
    /// Permits `limit` units of work, for example bytes, before other tasks run.
    pub const fn new(limit: usize) -> Self {
        Self { left: limit, limit }
    }

    /// Records work.
    pub fn add(&mut self, work: usize) {
        self.left = self.left.saturating_sub(work);
    }

    /// Records that the task has nothing to do, so that other tasks run.
    pub fn end(&mut self) {
        self.left = self.limit;
    }

    /// Is pending once after the permitted work; the task is woken after the others.
    pub fn poll_permitted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.left > 0 {
            return Poll::Ready(());
        }
        self.end();
        pin!(yield_now()).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn task_is_pending_once_after_the_permitted_work() {
        let mut burst = Burst::new(3);
        let mut pending = Vec::new();
        for step in 0..7 {
            poll_fn(|cx| {
                let polled = burst.poll_permitted(cx);
                if polled.is_pending() {
                    pending.push(step);
                }
                polled
            })
            .await;
            burst.add(1);
        }
        assert_eq!(pending, [3, 6]);
        burst.end();
        assert!(burst.left == 3);
    }
}
