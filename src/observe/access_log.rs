//! The access log: one line for each exchange, written when it ends.

use http::HeaderValue;
use tracing::level_filters::LevelFilter;

use super::line_queue::LineQueue;
use super::log_levels::LogLevels;
use super::log_line::{LogLine, name};
use super::summary::{ExchangeSummary, client_text};
use crate::config::LogFormat;
use crate::error::Reason;

/// Target of the log's access lines.
const TARGET: &str = "access";

/// The access log; clones share it.
#[derive(Clone, Debug)]
pub struct AccessLog(Option<Output>);

#[derive(Clone, Debug)]
struct Output {
    format: LogFormat,
    levels: LogLevels,
    queue: LineQueue,
}

impl AccessLog {
    /// Creates a log whose lines the log's thread writes.
    pub(super) fn new(format: LogFormat, levels: LogLevels, queue: LineQueue) -> Self {
        Self(Some(Output {
            format,
            levels,
            queue,
        }))
    }

    /// Creates a log for a program that has its own: lines are events with the target `access`.
    pub fn embedded() -> Self {
        Self(None)
    }

    /// Writes the line of an exchange. It contains no query, credentials or body. Where the log's
    /// reader is slow, lines are dropped and counted.
    pub fn record(&self, summary: &ExchangeSummary<'_>) {
        let Some(output) = &self.0 else {
            let mut line = LogLine::event();
            add_fields(&mut line, summary);
            tracing::info!(target: TARGET, "{}", line.into_fields());
            return;
        };
        if output.levels.level() >= LevelFilter::INFO {
            let mut line = LogLine::begin(output.format, TARGET);
            add_fields(&mut line, summary);
            output.queue.push(&line.end());
        }
    }
}

/// Adds the fields. Their names are a contract, also where the code uses other terms.
fn add_fields(line: &mut LogLine, summary: &ExchangeSummary<'_>) {
    let request = &summary.request;
    let (mut method, mut path) = (request.method.as_str(), request.path);
    if !summary.is_named && summary.reason.is_some() {
        (method, path) = (client_text(method), client_text(path));
    }
    line.text(name!("caller"), request.caller);
    if let Some(peer) = request.peer {
        line.display(name!("peer"), peer);
    }
    line.text(name!("forwarded_for"), summary.forwarded_for);
    line.text(name!("method"), method);
    line.text(name!("path"), path);
    line.text(name!("via"), summary.via);
    line.display(name!("version"), format_args!("{:?}", summary.version));
    line.text(name!("route"), summary.route);
    line.text(name!("retired"), summary.retired);
    line.number(name!("status"), summary.status.as_u16().into());
    line.text(name!("reason"), summary.reason.map(Reason::as_str));
    line.text(
        name!("cause"),
        Some(summary.cause).filter(|cause| !cause.is_empty()),
    );
    line.text(name!("end"), summary.end.as_str());
    line.number(name!("request_bytes"), summary.request_bytes);
    line.number(name!("answer_bytes"), summary.response_bytes);
    line.milliseconds(name!("total_ms"), summary.total);
    line.milliseconds(name!("upstream_ms"), summary.upstream);
    line.milliseconds(name!("waited_ms"), summary.waited);
    line.milliseconds(name!("ours_ms"), summary.gateway);
    line.number(name!("attempts"), summary.attempts.into());
    if summary.collapsed {
        line.flag(name!("collapsed"));
    }
    line.text(
        name!("request_id"),
        request.request_id.to_str().unwrap_or_default(),
    );
    line.text(
        name!("transaction_id"),
        request.transaction_id.to_str().unwrap_or_default(),
    );
    if let Some(trace_id) = summary.trace_id {
        line.display(name!("trace_id"), trace_id);
    }
    let [citrix_id, cws_id, cc_id] = summary.citrix_ids;
    line.text(name!("citrix_transaction_id"), text(citrix_id));
    line.text(name!("x_cws_transaction_id"), text(cws_id));
    line.text(name!("cc_transaction_id"), text(cc_id));
}

fn text(value: &Option<HeaderValue>) -> Option<&str> {
    value.as_ref().and_then(|value| value.to_str().ok())
}
