//! A process that stops and continues: its tasks are not polled meanwhile.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Whether a process is stopped, and its tasks that wait for that to end.
#[derive(Default)]
pub(super) struct Pause(Mutex<State>);

#[derive(Default)]
struct State {
    is_stopped: bool,
    count: u64,
    tasks: Vec<Waker>,
}

impl Pause {
    pub(super) fn set(&self, is_stopped: bool) {
        let mut state = self.0.lock().unwrap();
        state.is_stopped = is_stopped;
        state.count += 1;
        if !is_stopped {
            let tasks = std::mem::take(&mut state.tasks);
            drop(state);
            tasks.into_iter().for_each(Waker::wake);
        }
    }

    /// Returns a number that changes with each stop and at its end.
    pub(super) fn count(&self) -> u64 {
        self.0.lock().unwrap().count
    }

    /// Returns `true` while the process is stopped. The task is woken afterwards.
    fn holds(&self, cx: &Context<'_>) -> bool {
        let mut state = self.0.lock().unwrap();
        if state.is_stopped && !state.tasks.iter().any(|task| task.will_wake(cx.waker())) {
            state.tasks.push(cx.waker().clone());
        }
        state.is_stopped
    }
}

/// A task of a process.
pub(super) struct Pausable<F> {
    task: Pin<Box<F>>,
    pause: Arc<Pause>,
}

impl<F> Pausable<F> {
    pub(super) fn new(task: F, pause: &Arc<Pause>) -> Self {
        Self {
            task: Box::pin(task),
            pause: Arc::clone(pause),
        }
    }
}

impl<F: Future> Future for Pausable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.pause.holds(cx) {
            return Poll::Pending;
        }
        self.task.as_mut().poll(cx)
    }
}
