//! A provider in a temporary directory on a free port, clients for it, and raw TLS servers and requests.

use hamn_api::{Client, Credentials, Limits, ProviderConfig, Token};
use hamn_provider::api_server::{self, App, LoginLimits};
use hamn_provider::init::{InitOptions, init};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub const DEMO: &str = "1000200030004000";

pub struct Provider {
    pub dir: TempDir,
    pub address: SocketAddr,
    pub internal: SocketAddr,
    pub app: Arc<App>,
    pub tasks: JoinSet<()>,
}

impl Provider {
    pub async fn start() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut InitOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (public, internal) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (address, internal_address) = (public.local_addr().unwrap(), internal.local_addr().unwrap());
        let mut options = InitOptions { api_addresses: vec![address], internal_address, ..InitOptions::default() };
        change(&mut options);
        init(dir.path(), &options).await.unwrap();
        let app = App::open(dir.path(), LoginLimits::default()).await.unwrap();
        let tls = api_server::tls_acceptor(dir.path()).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(api_server::serve(public, tls.clone(), api_server::public_router(Arc::clone(&app))));
        tasks.spawn(api_server::serve(internal, tls, api_server::internal_router(Arc::clone(&app))));
        Self { dir, address, internal: internal_address, app, tasks }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn config(&self) -> ProviderConfig {
        ProviderConfig::parse(&std::fs::read(self.path().join("provider.json")).unwrap()).unwrap()
    }

    pub fn cache(&self) -> PathBuf {
        self.path().join("cache")
    }

    pub fn client(&self) -> Client {
        client(self.config(), self.cache())
    }

    /// The configuration of this provider, but leading to another server.
    pub fn config_for(&self, address: SocketAddr) -> ProviderConfig {
        ProviderConfig { addresses: vec![address], ..self.config() }
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        api_server::tls_acceptor(self.path()).unwrap()
    }

    /// Sends bytes over TLS and reads the whole answer.
    pub async fn raw(&self, address: SocketAddr, request: &[u8]) -> String {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path().join("tls/ca.pem")).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("api.sandbox.test").unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// One request with a JSON body; status and parsed body.
    pub async fn call(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, String, serde_json::Value) {
        let auth = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n{auth}{kind}Content-Length: {length}\r\n\r\n{body}"
        );
        let address = if path.starts_with("/internal") { self.internal } else { self.address };
        let answer = self.raw(address, request.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), serde_json::from_str(body).unwrap_or_default())
    }
}

pub fn client(config: ProviderConfig, cache: PathBuf) -> Client {
    Client::with_limits(config, cache, Arc::new(|_| Ok(())), Limits::default()).unwrap()
}

pub fn credentials(account: &str, password: Option<&str>) -> Credentials {
    Credentials { account: Token::new(account.to_owned()), password: password.map(|text| Token::new(text.to_owned())), otp: None }
}

pub fn wireguard_key() -> hamn_core::key::PublicKey {
    hamn_provider::keys::wireguard_pair().unwrap().1
}

/// A TLS server that gives each connection, after its request's head was read, to `answer`.
pub async fn hostile<F>(
    acceptor: TlsAcceptor,
    answer: impl Fn(TlsStream<TcpStream>, String) -> F + Send + Sync + 'static,
) -> (SocketAddr, JoinSet<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
            connections.spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = Vec::new();
                while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                    let mut byte = [0];
                    match stream.read(&mut byte).await {
                        Ok(1) => request.push(byte[0]),
                        _ => return,
                    }
                }
                answer(stream, String::from_utf8_lossy(&request).into_owned()).await;
            });
        }
    });
    (address, tasks)
}

/// As `hostile`, with a fixed answer.
pub async fn canned(acceptor: TlsAcceptor, answer: Vec<u8>) -> (SocketAddr, JoinSet<()>) {
    hostile(acceptor, move |mut stream, _| {
        let answer = answer.clone();
        async move {
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

pub fn ok(kind: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}
