//! A TLS upstream that is token endpoint as well, over HTTP/1.1 and HTTP/2.

use std::convert::Infallible;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use testkit::pki::{TestCa, TlsFiles};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::Fallible;

/// Bytes of a token, as Citrix issues them.
const TOKEN: usize = 2000;
/// Rows of a page with links.
const ROWS: usize = 100;
/// Pieces of a response without a length.
const CHUNKS: usize = 2;

type Chunks = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;
type Body = Either<Full<Bytes>, Chunks>;

/// Serves until the runtime ends.
pub(crate) struct Upstream {
    port: u16,
    files: TlsFiles,
}

impl Upstream {
    pub(crate) async fn start() -> Fallible<Self> {
        let authority = TestCa::new("training");
        let issued = authority.issue("localhost", &["localhost"]);
        let files = TlsFiles::new(&issued);
        files.write("ca.pem", &authority.pem());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![issued.der()],
                PrivateKeyDer::from_pem_slice(issued.key.as_bytes())?,
            )?;
        config.alpn_protocols = vec!["h2".into(), "http/1.1".into()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    socket.set_nodelay(true)?;
                    let io = TokioIo::new(acceptor.accept(socket).await?);
                    let service = service_fn(move |request| respond(request, port));
                    auto::Builder::new(TokioExecutor::new())
                        .serve_connection(io, service)
                        .await
                });
            }
        });
        Ok(Self { port, files })
    }

    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    /// Returns the file of the authority that issued the certificate.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.files.path("ca.pem")
    }

    /// Returns the keys of a customer.
    pub(crate) fn customer(&self, id: &str) -> String {
        let url = self.url();
        format!(
            "customer_id = '{id}'\nclient_id = 'training'\nclient_secret = 'training'\ninstance_id = ''\n\
             api_url = '{url}'\ntoken_url = '{url}/cctrustoauth2/{id}/tokens/clients'\n"
        )
    }
}

fn url(port: u16) -> String {
    format!("https://localhost:{port}")
}

/// Responds with a token, `/bytes/N`, `/chunks/N` without a length, a page with links, or 404.
async fn respond(request: Request<Incoming>, port: u16) -> Fallible<Response<Body>> {
    let (head, body) = request.into_parts();
    body.collect().await?;
    let path = head.uri.path();
    let number = |text: &str| text.parse::<usize>().unwrap_or_default();
    let mut response = Response::new(Either::Left(Full::default()));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let transaction = HeaderValue::from_static("0f0e0d0c-6b5f-4d0e-9f1c-0242ac120002");
    fields.insert("x-cws-transactionid", transaction);
    let text = if path.ends_with("/tokens/clients") {
        let token = "t".repeat(TOKEN);
        format!(r#"{{"token_type":"bearer","access_token":"{token}","expires_in":"3600"}}"#)
    } else if let Some(length) = path.strip_prefix("/bytes/") {
        "x".repeat(number(length))
    } else if let Some(length) = path.strip_prefix("/chunks/") {
        *response.body_mut() = Either::Right(chunks(number(length)));
        return Ok(response);
    } else if path == "/monitorodata/Machines" {
        page(&url(port))
    } else {
        *response.status_mut() = StatusCode::NOT_FOUND;
        r#"{"error":"not found"}"#.to_owned()
    };
    let mut bytes = Bytes::from(text);
    if head
        .headers
        .get(ACCEPT_ENCODING)
        .is_some_and(|value| value == "gzip")
    {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&bytes)?;
        bytes = encoder.finish()?.into();
        let gzip = HeaderValue::from_static("gzip");
        response.headers_mut().insert(CONTENT_ENCODING, gzip);
    }
    *response.body_mut() = Either::Left(Full::new(bytes));
    Ok(response)
}

fn chunks(length: usize) -> Chunks {
    let chunk = Bytes::from("x".repeat(length / CHUNKS));
    let frames: Vec<_> = (0..CHUNKS)
        .map(|_| Ok(Frame::data(chunk.clone())))
        .collect();
    StreamBody::new(stream::iter(frames))
}

fn page(url: &str) -> String {
    let row = r#"{"Id":"0f0e0d0c-6b5f-4d0e-9f1c-0242ac120002","Name":"DESKTOP\\machine-0001","Registered":true,"Sessions":3}"#;
    format!(
        r#"{{"@odata.context":"{url}/monitorodata/$metadata#Machines","value":[{}],"@odata.nextLink":"{url}/monitorodata/Machines?$skip=100"}}"#,
        vec![row; ROWS].join(",")
    )
}
