//! `[upstream]`.

use std::time::Duration;

use super::egress::check_egress;
use super::{Report, TIMEOUT, WAIT};
use crate::config::raw::RawUpstream;
use crate::config::{Http2Mode, UpstreamSettings};

pub(super) fn check_upstream(upstream: &RawUpstream, report: &mut Report<'_>) -> UpstreamSettings {
    let modes = [("auto", Http2Mode::Auto), ("never", Http2Mode::Never)];
    let ca_file = report.file(&upstream.ca_file, "\"/etc/citrix-auth-proxy/ca.pem\"");
    if let Some(path) = &ca_file {
        report.add_file(&upstream.ca_file, path);
    }
    UpstreamSettings {
        ca_file,
        egress: check_egress(&upstream.proxy_url, report),
        http2: report
            .choice(&upstream.http2, &modes)
            .unwrap_or(Http2Mode::Auto),
        connect_timeout: report.duration(
            &upstream.connect_timeout,
            Duration::from_secs(5),
            TIMEOUT,
        ),
        response_timeout: report.duration(
            &upstream.response_timeout,
            Duration::from_secs(100),
            TIMEOUT,
        ),
        idle_timeout: report.duration(&upstream.idle_timeout, Duration::from_secs(60), TIMEOUT),
        pool_idle_timeout: report.duration(
            &upstream.pool_idle_timeout,
            Duration::from_secs(60),
            TIMEOUT,
        ),
        max_connection_age: report.duration(
            &upstream.max_connection_age,
            Duration::from_mins(10),
            TIMEOUT,
        ),
        retry_budget: report.duration(&upstream.retry_budget, Duration::from_secs(10), WAIT),
    }
}
