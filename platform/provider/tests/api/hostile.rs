//! The client against dead, slow, huge, lying and foreign servers (API-01 … API-08). All limits are the real ones.

use crate::harness::{Provider, canned, client, hostile, ok};
use hamn_api::{ApiError, Client, Limits, ProviderConfig};
use hamn_core::state::BlockReason;
use rcgen::{CertificateParams, Issuer, KeyPair};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

async fn loads_error(provider: &Provider, address: SocketAddr) -> ApiError {
    client(provider.config_for(address), provider.cache()).loads().await.unwrap_err()
}

#[tokio::test]
async fn refused_and_silent_addresses_end_in_time_and_a_good_one_is_found() {
    let provider = Provider::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (dead, silent_address) = ("127.0.0.1:1".parse().unwrap(), silent.local_addr().unwrap());
    let started = Instant::now();
    assert!(matches!(loads_error(&provider, dead).await, ApiError::Unreachable(_)));
    assert!(started.elapsed() < Duration::from_secs(1));
    // Behind a refused and a silent one the good one is found without waiting for a time-out.
    let config = ProviderConfig { addresses: vec![dead, silent_address, provider.address], ..provider.config() };
    let asking = client(config, provider.cache());
    let started = Instant::now();
    asking.loads().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    // And remembered.
    let started = Instant::now();
    asking.loads().await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(240), "{:?}", started.elapsed());
    let started = Instant::now();
    assert!(matches!(loads_error(&provider, silent_address).await, ApiError::Unreachable(_)));
    assert!((4..7).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    drop(silent);
}

#[tokio::test]
async fn slow_heads_and_bodies_end_within_ten_seconds() {
    let provider = Provider::start().await;
    let started = Instant::now();
    let mut cases = tokio::task::JoinSet::new();
    for head_first in [false, true] {
        let (address, tasks) = hostile(provider.acceptor(), move |mut stream, _| async move {
            let answer = ok("application/json", &[b' '; 4096]);
            let instant = if head_first { answer.len() - 4096 } else { 0 };
            let _ = stream.write_all(&answer[..instant]).await;
            for byte in &answer[instant..] {
                if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        })
        .await;
        let asking = client(provider.config_for(address), provider.path().join(format!("cache-{head_first}")));
        cases.spawn(async move {
            let _tasks = tasks;
            asking.loads().await.unwrap_err()
        });
    }
    while let Some(error) = cases.join_next().await {
        assert_eq!(error.unwrap(), ApiError::Timeout);
    }
    assert!(started.elapsed() <= Duration::from_millis(10_500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn endless_and_compressed_bodies_are_cut_off() {
    let provider = Provider::start().await;
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let (address, _tasks) = hostile(provider.acceptor(), move |mut stream, _| {
        let counter = Arc::clone(&counter);
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
            while stream.write_all(&chunk).await.is_ok() {
                counter.fetch_add(0x4000, Ordering::Relaxed);
            }
        }
    })
    .await;
    assert_eq!(loads_error(&provider, address).await, ApiError::TooBig);
    assert!(sent.load(Ordering::Relaxed) < 12 << 20, "{}", sent.load(Ordering::Relaxed));
    let huge = b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n".to_vec();
    let bomb = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00".to_vec();
    let heads = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 100_000], b"\r\n\r\n"].concat();
    let many = [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"a: b\r\n".repeat(100), b"\r\n"].concat();
    for (answer, codes) in [
        (huge, ["too_big", "broken_answer"]),
        (bomb, ["compressed", ""]),
        (heads, ["too_big", ""]),
        (many, ["too_big", "broken_answer"]),
    ] {
        let (address, _tasks) = canned(provider.acceptor(), answer).await;
        let error = loads_error(&provider, address).await;
        assert!(codes.contains(&error.code()), "{error}");
    }
}

#[tokio::test]
async fn garbage_is_a_typed_error() {
    let provider = Provider::start().await;
    let deep = [b"{\"servers\":".as_slice(), &b"[".repeat(100_000)].concat();
    for body in [
        b"<!DOCTYPE html><title>Login to this hotspot</title>".to_vec(),
        b"{\"servers\":{".to_vec(),
        b"{\"servers\":{\"a\":{\"load_pct\":1e400}}}".to_vec(),
        b"{\"servers\":{},\"servers\":{}}".to_vec(),
        "{\"servers\":{}}".encode_utf16().flat_map(u16::to_le_bytes).collect(),
        b"\xff\xfe\x00".to_vec(),
        b"[]".to_vec(),
        Vec::new(),
        deep,
    ] {
        let (address, _tasks) = canned(provider.acceptor(), ok("application/json", &body)).await;
        assert_eq!(
            loads_error(&provider, address).await,
            ApiError::NotJson,
            "{:?}",
            String::from_utf8_lossy(&body[..body.len().min(40)])
        );
    }
    for answer in
        [&b"nonsense\r\n\r\n"[..], b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", b"HTTP/1.1 999999 X\r\n\r\n"]
    {
        let (address, _tasks) = canned(provider.acceptor(), answer.to_vec()).await;
        assert_eq!(loads_error(&provider, address).await, ApiError::Broken, "{:?}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn redirects_are_never_followed() {
    let provider = Provider::start().await;
    let reached = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&reached);
    let (good, _tasks) = hostile(provider.acceptor(), move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        async {}
    })
    .await;
    for target in [
        format!("https://{good}/v1/loads"),
        "http://127.0.0.1/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "/v1/loads".to_owned(),
    ] {
        for status in [301, 302, 303, 307, 308] {
            let answer = format!("HTTP/1.1 {status} Moved\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n");
            let (address, _tasks) = canned(provider.acceptor(), answer.into_bytes()).await;
            assert_eq!(loads_error(&provider, address).await, ApiError::Redirect(status));
        }
    }
    assert_eq!(reached.load(Ordering::Relaxed), 0);
}

struct Certificate<'a> {
    name: &'a str,
    from: i64,
    until: i64,
    signed_by_provider: bool,
    versions: &'a [&'static rustls::SupportedProtocolVersion],
}

fn acceptor(provider: &Provider, about: &Certificate<'_>) -> TlsAcceptor {
    let read = |name| std::fs::read_to_string(provider.path().join(name)).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![about.name.to_owned()]).unwrap();
    let day = time::Duration::days(1);
    params.not_before = OffsetDateTime::now_utc() + day * i32::try_from(about.from).unwrap();
    params.not_after = OffsetDateTime::now_utc() + day * i32::try_from(about.until).unwrap();
    let certificate = if about.signed_by_provider {
        let ca_key = KeyPair::from_pem(&read("tls/ca.key")).unwrap();
        // Only the name and key of an issuer matter.
        let mut issuer = CertificateParams::new(Vec::new()).unwrap();
        issuer.distinguished_name.push(rcgen::DnType::CommonName, "Hamn provider root");
        params.signed_by(&key, &Issuer::new(issuer, ca_key)).unwrap()
    } else {
        params.self_signed(&key).unwrap()
    };
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(about.versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn foreign_expired_and_old_tls_is_refused_and_never_answered_in_the_clear() {
    let provider = Provider::start().await;
    let good = Certificate {
        name: "api.sandbox.test",
        from: -1,
        until: 1,
        signed_by_provider: true,
        versions: &[&rustls::version::TLS13],
    };
    let cases = [
        ("expired", Certificate { from: -9, until: -1, ..good }, Some(true)),
        ("not yet valid", Certificate { from: 1, until: 9, ..good }, Some(true)),
        ("self-signed", Certificate { signed_by_provider: false, ..good }, Some(false)),
        ("other host", Certificate { name: "api.example.test", ..good }, Some(false)),
        ("TLS 1.2", Certificate { versions: &[&rustls::version::TLS12], ..good }, Some(false)),
        ("good", good, None),
    ];
    for (name, certificate, clock) in cases {
        let (address, _tasks) = canned(acceptor(&provider, &certificate), ok("application/json", b"{\"servers\":{}}")).await;
        let answer = client(provider.config_for(address), provider.cache()).loads().await;
        match (answer, clock) {
            (Ok(_), None) => {}
            (Err(error @ ApiError::Tls { clock: seen, .. }), Some(expected)) => {
                assert_eq!(seen, expected, "{name}: {error}");
                let reason = if expected { BlockReason::ClockWrong } else { BlockReason::ApiUnreachable };
                assert_eq!(error.block_reason(), reason, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    // No TLS at all: the first byte that the client sends is a TLS record, and plain HTTP is no answer.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let plain = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut first = [0];
        stream.read_exact(&mut first).await.unwrap();
        stream.write_all(&ok("application/json", b"{\"servers\":{}}")).await.unwrap();
        first[0]
    });
    assert!(matches!(loads_error(&provider, address).await, ApiError::Tls { clock: false, .. }));
    assert_eq!(plain.await.unwrap(), 22);
}

#[tokio::test]
async fn every_socket_is_prepared_before_it_connects() {
    let provider = Provider::start().await;
    let limits = Limits::default();
    let refusing = Arc::new(|_: &hamn_api::socket2::Socket| Err(std::io::ErrorKind::PermissionDenied.into()));
    let refused = Client::with_limits(provider.config(), provider.cache(), refusing, limits).unwrap();
    assert!(matches!(refused.loads().await.unwrap_err(), ApiError::Unreachable(_)));
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    let prepare = Arc::new(move |socket: &hamn_api::socket2::Socket| {
        assert!(socket.peer_addr().is_err(), "connected before it was prepared");
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    Client::with_limits(provider.config(), provider.cache(), prepare, limits).unwrap().loads().await.unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 1);
}
