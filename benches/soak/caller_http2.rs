//! Requests over HTTP/2.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::Request;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::Fallible;
use crate::caller::{Callers, OLD_TOKEN, ResponseHead};
use crate::content::{self, Producer};
use crate::ledger::{ConnectionUse, Outcome};
use crate::plan::{Behaviour, HOST, Plan, Service};
use crate::upstream_http2::send;

/// Requests after which another connection is opened.
const MAX_REQUESTS: usize = 400;

/// The connection that requests share, replaced when it ends or has carried many requests.
#[derive(Default)]
pub(crate) struct Http2Connections(Mutex<Option<Current>>);

struct Current {
    sender: SendRequest<Bytes>,
    requests: usize,
    usage: ConnectionUse,
    driver: AbortHandle,
}

impl Http2Connections {
    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connection with all of its requests.
    pub(crate) fn close(&self) {
        if let Some(current) = self.current().take() {
            current.driver.abort();
        }
    }

    /// Sends a request and returns what comes of it.
    pub(crate) async fn send(&self, callers: &Callers, plan: &Plan) -> Outcome {
        let (sender, connection) = match self.kept() {
            Some(kept) => kept,
            None => match self.open(callers, plan.is_tls).await {
                Ok(opened) => opened,
                Err(error) => return Outcome::NotConnected(error.to_string()),
            },
        };
        match exchange(callers, sender, plan).await {
            Ok(outcome) => outcome,
            Err(error) => {
                self.current().take();
                Outcome::NoResponse {
                    error: error.to_string(),
                    connection,
                }
            }
        }
    }

    fn kept(&self) -> Option<(SendRequest<Bytes>, ConnectionUse)> {
        let mut current = self.current();
        let kept = current.as_mut()?;
        kept.requests += 1;
        if kept.requests > MAX_REQUESTS || kept.driver.is_finished() {
            // Its requests end before it does.
            current.take();
            return None;
        }
        let usage = kept.usage;
        kept.usage = ConnectionUse {
            is_reused: true,
            since: Instant::now(),
            ..usage
        };
        Some((kept.sender.clone(), usage))
    }

    async fn open(
        &self,
        callers: &Callers,
        is_tls: bool,
    ) -> Fallible<(SendRequest<Bytes>, ConnectionUse)> {
        let usage = callers.first_use();
        let stream = callers.connect(is_tls, b"h2").await?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(256 * 1024);
        builder.initial_connection_window_size(4 << 20);
        let (sender, connection) = builder.handshake(stream).await?;
        let driver = tokio::spawn(async { drop(connection.await) }).abort_handle();
        *self.current() = Some(Current {
            sender: sender.clone(),
            requests: 0,
            usage: ConnectionUse {
                is_reused: true,
                ..usage
            },
            driver,
        });
        Ok((sender, usage))
    }
}

async fn exchange(callers: &Callers, sender: SendRequest<Bytes>, plan: &Plan) -> Fallible<Outcome> {
    let (field, value) = callers.credentials(plan);
    let uri = format!(
        "http{}://{HOST}{}",
        if plan.is_tls { "s" } else { "" },
        plan.target()
    );
    let mut request = Request::builder()
        .method(plan.method)
        .uri(uri)
        .header("accept", "*/*")
        .header(field, value);
    if plan.is_coded {
        request = request.header("accept-encoding", "gzip");
    }
    let batch = (plan.service == Service::Batch)
        .then(|| Bytes::from(content::batch(plan.id, OLD_TOKEN, plan.upload)));
    if batch.is_some() {
        request = request.header("content-type", "application/json");
    } else if plan.upload > 0 && !plan.is_upload_chunked {
        request = request.header("content-length", plan.upload);
    }
    let mut sender = sender.ready().await?;
    let (response, stream) = sender.send_request(request.body(())?, plan.upload == 0)?;
    drop(sender);
    let upload = upload(stream, plan, batch);
    let download = receive(response, plan);
    tokio::pin!(upload, download);
    let mut is_uploaded = plan.upload == 0;
    loop {
        tokio::select! {
            uploaded = &mut upload, if !is_uploaded => {
                is_uploaded = true;
                // A response may have arrived before the stream ended.
                if uploaded.is_ok() && plan.behaviour == Behaviour::AbortUpload {
                    return Ok(Outcome::Left);
                }
            }
            received = &mut download => return received,
        }
    }
}

async fn upload(mut stream: SendStream<Bytes>, plan: &Plan, batch: Option<Bytes>) -> Fallible<()> {
    if let Some(batch) = batch {
        send(&mut stream, batch).await?;
        return Ok(stream.send_data(Bytes::new(), true)?);
    }
    let (pause, _) = plan.pauses();
    let mut producer = Producer::new(plan.id, plan.upload);
    let mut written = 0;
    while let Some(piece) = producer.next(plan.upload_piece()) {
        written += piece.len();
        if written > plan.upload / 2 {
            match plan.behaviour {
                Behaviour::AbortUpload => {
                    stream.send_reset(Reason::CANCEL);
                    return Ok(());
                }
                Behaviour::StallUpload => std::future::pending::<()>().await,
                _ => {}
            }
        }
        send(&mut stream, piece).await?;
        sleep(pause).await;
    }
    Ok(stream.send_data(Bytes::new(), true)?)
}

async fn receive(response: ResponseFuture, plan: &Plan) -> Fallible<Outcome> {
    let response = response.await?;
    let field = |name| {
        let value = response.headers().get(name);
        value.and_then(|value| value.to_str().ok())
    };
    let head = ResponseHead {
        status: response.status().as_u16(),
        reason: field("x-proxy-error").map(str::to_owned),
        is_coded: field("content-encoding") == Some("gzip"),
    };
    let mut sink = head.sink(plan);
    let mut body = response.into_body();
    let (_, pause) = plan.pauses();
    let mut since_pause = 0;
    let is_complete = loop {
        let data = match body.data().await {
            None => break true,
            Some(Err(_)) => break false,
            Some(Ok(data)) => data,
        };
        if body.flow_control().release_capacity(data.len()).is_err() || sink.add(&data).is_err() {
            break false;
        }
        if plan.behaviour == Behaviour::AbortDownload && sink.length() > 64 * 1024 {
            return Ok(Outcome::Left);
        }
        since_pause += data.len();
        if since_pause >= 64 * 1024 && !pause.is_zero() {
            since_pause = 0;
            sleep(pause).await;
        }
    };
    Ok(head.outcome(plan, sink, is_complete))
}
