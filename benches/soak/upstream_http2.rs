//! The upstream over HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::Fallible;
use crate::content::Producer;
use crate::ledger::{Treatment, Upload};
use crate::listener;
use crate::plan::Plan;
use crate::upstream::{Action, PIECE, STALL, Upstream, check_upload, id_of, upload_sink};

/// Starts the listener.
pub(crate) async fn listen(
    upstream: &Arc<Upstream>,
    acceptor: TlsAcceptor,
) -> Fallible<SocketAddr> {
    let upstream = Arc::clone(upstream);
    let serve = move |stream| {
        let upstream = Arc::clone(&upstream);
        // A connection that breaks ends its streams.
        async move { drop(serve(upstream, stream).await) }
    };
    listener::listen_tls(acceptor, serve).await
}

async fn serve(
    upstream: Arc<Upstream>,
    stream: tokio_rustls::server::TlsStream<TcpStream>,
) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    let mut goaway = upstream.goaway.subscribe();
    let is_broken = Arc::new(AtomicBool::new(false));
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            _ = goaway.changed() => {
                // Every other time the streams in progress may end.
                if goaway.borrow_and_update().is_multiple_of(2) {
                    connection.graceful_shutdown();
                } else {
                    is_broken.store(true, Ordering::SeqCst);
                    connection.abrupt_shutdown(Reason::INTERNAL_ERROR);
                }
                continue;
            }
        };
        let Some(accepted) = accepted else {
            return Ok(());
        };
        let (request, response) = accepted?;
        let (upstream, is_broken) = (Arc::clone(&upstream), Arc::clone(&is_broken));
        tokio::spawn(async move { exchange(&upstream, request, response, &is_broken).await });
    }
}

async fn exchange(
    upstream: &Upstream,
    request: Request<RecvStream>,
    mut response: SendResponse<Bytes>,
    is_broken: &AtomicBool,
) {
    let target = request.uri().path_and_query();
    let id = target.and_then(|target| id_of(target.as_str()));
    let plan = id.and_then(|id| upstream.ledger.plan(id));
    let mut action = upstream.take(true, plan.as_ref());
    if action == Some(Action::Refuse) {
        // Not processed, so it does not count as an arrival.
        return response.send_reset(Reason::REFUSED_STREAM);
    }
    let Some((plan, hit)) = id.and_then(|id| upstream.ledger.arrive(id)) else {
        return;
    };
    let field = |name| {
        let value = request.headers().get(name);
        value.and_then(|value| value.to_str().ok())
    };
    let fields = ["authorization", "x-api-key"].map(field);
    if upstream.is_revoked(&plan, hit, fields) {
        action = Some(Action::Status(401, false));
    }
    let note = |treatment| upstream.ledger.treated(plan.id, hit, treatment);
    let served = async {
        if action == Some(Action::ResetBefore) {
            note(Treatment::Broken);
            response.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        }
        let upload = receive(&plan, request.into_body()).await?;
        upstream.ledger.uploaded(plan.id, hit, upload);
        respond(&plan, &mut response, action, note).await
    };
    if served.await.is_err() {
        note(if is_broken.load(Ordering::SeqCst) {
            Treatment::Broken
        } else {
            Treatment::Gone
        });
    }
}

async fn receive(plan: &Plan, mut body: RecvStream) -> Fallible<Upload> {
    let mut sink = upload_sink(plan);
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        sink.add(&data)?;
    }
    Ok(check_upload(plan, sink))
}

async fn respond(
    plan: &Plan,
    response: &mut SendResponse<Bytes>,
    action: Option<Action>,
    note: impl Fn(Treatment),
) -> Fallible<()> {
    let mut is_half = false;
    match action {
        Some(Action::ResetAfter | Action::CloseAfter) => {
            note(Treatment::Broken);
            response.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        }
        Some(Action::Reset(code)) => {
            note(Treatment::Broken);
            response.send_reset(code.into());
            return Ok(());
        }
        Some(Action::Stall) => {
            note(Treatment::Stalled);
            sleep(STALL).await;
            response.send_reset(Reason::CANCEL);
            return Ok(());
        }
        Some(Action::Status(status, is_hinted)) => {
            note(Treatment::Failed(status));
            let mut head = Response::builder().status(status);
            if is_hinted {
                head = head.header("retry-after", "1");
            }
            response.send_response(head.body(())?, true)?;
            return Ok(());
        }
        Some(Action::ResetMidBody) => {
            note(Treatment::Broken);
            is_half = true;
        }
        Some(Action::StallMidBody) => {
            note(Treatment::Stalled);
            is_half = true;
        }
        _ => {}
    }
    let head = Response::builder().header("content-type", "application/octet-stream");
    let head = if plan.id.is_multiple_of(2) || plan.method == "HEAD" {
        head.header("content-length", plan.download)
    } else {
        head
    };
    let is_empty = plan.download == 0 || plan.method == "HEAD";
    let mut stream = response.send_response(head.body(())?, is_empty && !is_half)?;
    if !is_empty || is_half {
        write(plan, &mut stream, is_half).await?;
    }
    match action {
        Some(Action::ResetMidBody) => stream.send_reset(Reason::INTERNAL_ERROR),
        Some(Action::StallMidBody) => {
            sleep(STALL).await;
            stream.send_reset(Reason::CANCEL);
        }
        _ => note(Treatment::Served),
    }
    Ok(())
}

/// Writes the body or less than all of it.
async fn write(plan: &Plan, stream: &mut SendStream<Bytes>, is_half: bool) -> Fallible<()> {
    if plan.method == "HEAD" {
        return Ok(());
    }
    let mut producer = Producer::new(plan.id, plan.download);
    let mut written = 0;
    while let Some(piece) = producer.next(PIECE) {
        written += piece.len();
        if is_half && written > plan.download / 2 {
            return Ok(());
        }
        send(stream, piece).await?;
    }
    if !is_half {
        stream.send_data(Bytes::new(), true)?;
    }
    Ok(())
}

/// Sends data as far as flow control permits.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Fallible<()> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
        let capacity = capacity.ok_or("the stream is over")??;
        let part = data.split_to(capacity.min(data.len()));
        stream.send_data(part, false)?;
    }
    Ok(())
}
