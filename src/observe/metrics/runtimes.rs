//! The number of tasks, which must not grow without connections and requests.

use std::sync::{Mutex, PoisonError};

use prometheus::IntGauge;
use tokio::runtime::RuntimeMetrics;

/// The runtimes whose tasks are counted.
#[derive(Debug)]
pub(crate) struct Runtimes {
    all: Mutex<Vec<RuntimeMetrics>>,
    /// Set at each scrape.
    tasks: IntGauge,
}

impl Runtimes {
    pub(super) fn new(tasks: IntGauge) -> Self {
        Self {
            all: Mutex::default(),
            tasks,
        }
    }

    /// Counts the tasks of another runtime.
    pub(crate) fn add(&self, runtime: RuntimeMetrics) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(runtime);
    }

    /// Sets the number of tasks that have not ended.
    pub(crate) fn count(&self) {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks: usize = all.iter().map(RuntimeMetrics::num_alive_tasks).sum();
        self.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::runtime::Handle;
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn tasks_are_counted_until_they_end() {
        let runtimes = Runtimes::new(IntGauge::new("tasks", "Tasks.").unwrap());
        runtimes.add(Handle::current().metrics());
        let mut tasks = JoinSet::new();
        tasks.spawn(pending::<()>());
        tasks.spawn(async {});
        runtimes.count();
        assert_eq!(runtimes.tasks.get(), 2);
        tasks.join_next().await;
        runtimes.count();
        assert_eq!(runtimes.tasks.get(), 1);
    }
}
