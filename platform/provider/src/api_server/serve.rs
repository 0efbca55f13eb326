//! HTTP/1.1 over TLS 1.3, bounded: connections, handshake time, header time and size.

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// Connections at once per listener.
const MAX_CONNECTIONS: usize = 512;
/// TLS handshake and, separately, each request's headers.
const PATIENCE: Duration = Duration::from_secs(5);

/// Address of the caller, put into every request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// TLS 1.3 with the certificate in `dir/tls`.
///
/// # Errors
/// When certificate or key cannot be read.
pub fn tls_acceptor(dir: &Path) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(dir.join("tls/server.pem")).context("read the certificate")?;
    let chain = chain.collect::<Result<Vec<_>, _>>().context("read the certificate")?;
    let key = PrivateKeyDer::from_pem_file(dir.join("tls/server.key")).context("read the certificate's key")?;
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("choose TLS 1.3")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("use the certificate")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, tls: TlsAcceptor, router: Router) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // The set ends all connections when this future is dropped.
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (tls, router) = (tls.clone(), router.clone());
                connections.spawn(async move {
                    if let Err(error) = connection(stream, peer, tls, router).await {
                        tracing::debug!(%error, "a connection ended badly");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: go on when some are free again.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, tls: TlsAcceptor, router: Router) -> Result<()> {
    stream.set_nodelay(true).context("set nodelay")?;
    let stream =
        tokio::time::timeout(PATIENCE, tls.accept(stream)).await.context("wait for the handshake")?.context("handshake")?;
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        router.clone().oneshot(request.map(Body::new))
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(32 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .context("serve")
}
