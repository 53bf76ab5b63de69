//! The floor: what Bailiwick is made of (tokio, hyper, rustls), passing on and doing nothing else.
//!
//! What a request costs here no proxy can save that is built of these libraries.

use std::net::SocketAddr;

use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_rustls::TlsAcceptor;

use crate::child::Role;
use crate::load::Target;
use crate::setting::Setting;
use crate::{Measured, seat};

/// The proxy.
pub(crate) struct Bare {
    pub(crate) role: Role,
    pub(crate) target: Target,
}

/// Starts it and waits until it listens.
pub(crate) fn start(setting: &Setting) -> Measured<Bare> {
    let upstream = setting.upstream.to_string();
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| setting.at(name));
    let (role, line) = Role::start("bare", &[upstream.as_ref(), certificate.as_ref(), key.as_ref()])?;
    Ok(Bare { role, target: setting.caller(line.parse()?)? })
}

/// The process itself: whom to pass on to, certificate, key.
#[allow(clippy::print_stdout, reason = "it tells its parent where it listens")]
pub(crate) fn run(arguments: &[String]) -> Measured<()> {
    let [upstream, certificate, key] = arguments else { return Err("bare needs three arguments".into()) };
    let upstream: SocketAddr = upstream.parse()?;
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let tls = ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    let tls = TlsAcceptor::from(std::sync::Arc::new(tls));
    seat::take(1, None);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            let tls = tls.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let (line, stream) = (Line::default(), tls.accept(stream).await?);
                let service = service_fn(|request| pass_on(&line, upstream, request));
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
                Measured::Ok(())
            });
        }
    })
}

/// The connection to the upstream that belongs to a caller's.
type Line = Mutex<Option<SendRequest<Incoming>>>;

async fn pass_on(
    line: &Line,
    upstream: SocketAddr,
    request: Request<Incoming>,
) -> Measured<Response<BoxBody<Bytes, hyper::Error>>> {
    let mut line = line.lock().await;
    let sender = match line.as_mut() {
        Some(sender) => sender,
        None => {
            let stream = TcpStream::connect(upstream).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            line.insert(sender)
        }
    };
    sender.ready().await?;
    Ok(sender.send_request(request).await?.map(BodyExt::boxed))
}
