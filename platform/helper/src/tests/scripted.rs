//! A provider that answers as a test wants: real TLS on loopback, everything else in memory.

use hamn_api::ProviderConfig;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;

const KEY: &str = "r83LIc0Q2F8s3dY9x5y17Yz8wTADJc7giW1t5eSmoXc=";

/// What the provider knows and does.
pub(super) struct State {
    /// Every call: method, path, account of its token ("-" without one).
    pub(super) calls: Vec<String>,
    /// Devices by id: account, key, idempotency key.
    pub(super) devices: BTreeMap<String, (String, String, String)>,
    /// Calls that are refused, by the beginning of "METHOD /path".
    pub(super) refuse: BTreeMap<&'static str, (u16, &'static str)>,
    /// Calls that are carried out and whose answer is lost, as often as this.
    pub(super) lose: BTreeMap<&'static str, u32>,
    pub(super) account_status: &'static str,
    pub(super) loads: Value,
    pub(super) list: (Vec<u8>, String),
    /// What `GET /ip` says.
    pub(super) seen: Value,
    /// No connection is answered.
    pub(super) silent: bool,
    numbers: u32,
    key: minisign::KeyPair,
}

/// The provider. It ends with the runtime.
pub(super) struct Scripted {
    pub(super) config: ProviderConfig,
    state: Arc<Mutex<State>>,
}

impl Scripted {
    pub(super) async fn start() -> Self {
        let certificate = rcgen::generate_simple_self_signed(["api.test".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let config = ProviderConfig {
            urls: vec!["https://api.test".to_owned()],
            addresses: vec![address],
            tls_roots_pem: certificate.cert.pem(),
            list_keys: vec![key.pk.to_base64()],
        };
        let state = Arc::new(Mutex::new(State {
            calls: Vec::new(),
            devices: BTreeMap::new(),
            refuse: BTreeMap::new(),
            lose: BTreeMap::new(),
            account_status: "active",
            loads: json!({ "servers": {} }),
            list: (Vec::new(), String::new()),
            seen: json!({ "ip": "198.51.100.1", "family": "v4", "via_vpn": true }),
            silent: false,
            numbers: 0,
            key,
        }));
        let scripted = Self { config, state: Arc::clone(&state) };
        scripted.state().sign(&list(1));
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), state));
        scripted
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// How many calls began like this since the last look.
    pub(super) fn count(&self, beginning: &str) -> usize {
        self.state().calls.iter().filter(|call| call.starts_with(beginning)).count()
    }
}

/// A list with two servers in Sweden, one of which has an exit in the United States.
pub(super) fn list(serial: u64) -> Value {
    let server = |id: &str, address: &str| {
        json!({ "id": id, "name": id, "datacenter": "se-sto", "state": "online", "weight": 100, "features": [],
            "exits": [{ "id": "se", "country": "SE", "ipv4": address, "default": true }, { "id": "us", "country": "US", "ipv4": "198.51.100.129" }],
            "endpoints": [{ "protocol": "wireguard", "service": "shared", "addresses": [address], "public_key": KEY, "ports": [51820],
                "gateway_ipv4": "10.64.0.1", "gateway_ipv6": "fd5a:7e57::1" }] })
    };
    json!({ "format": 1, "serial": serial, "generated_at": "2026-11-20T20:00:00Z", "expires_at": "2036-11-27T20:00:00Z",
        "regions": [{ "id": "se", "country": "SE", "name": "Sweden", "datacenters": [
            { "id": "se-sto", "slug": "stockholm", "city": "Stockholm", "latitude": 59.33, "longitude": 18.07 }] }],
        "servers": [server("vpn05", "198.51.100.1"), server("vpn06", "198.51.100.2")],
        "dns": { "plain": ["10.64.0.1"] }, "api": { "endpoints": [] } })
}

impl State {
    /// Serves this as the list, properly signed.
    pub(super) fn sign(&mut self, list: &Value) {
        let bytes = list.to_string().into_bytes();
        let comment = format!("serial={}", list["serial"]);
        let signature = minisign::sign(Some(&self.key.pk), &self.key.sk, bytes.as_slice(), Some(&comment), None).unwrap();
        self.list = (bytes, signature.into_string());
    }

    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    fn answer(&mut self, method: &str, path: &str, head: &BTreeMap<String, String>, body: &Value) -> (u16, Vec<u8>) {
        let token = head.get("authorization").map_or("-", |value| value.trim_start_matches("Bearer "));
        // "at-ACCOUNT-NUMBER"
        let account = token.split('-').nth(1).filter(|account| !account.is_empty()).unwrap_or("-").to_owned();
        self.calls.push(format!("{method} {path} {account}"));
        let call = format!("{method} {path}");
        if let Some((status, code)) =
            self.refuse.iter().find(|(beginning, _)| call.starts_with(**beginning)).map(|(_, answer)| *answer)
        {
            return problem(status, code);
        }
        let id = path.trim_start_matches("/v1/devices").trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
        match (method, path) {
            ("GET", "/v1/servers") => return (200, self.list.0.clone()),
            ("GET", "/v1/servers.minisig") => return (200, self.list.1.clone().into_bytes()),
            ("GET", "/v1/loads") => return json_answer(&self.loads),
            ("GET", "/v1/ip") => return json_answer(&self.seen),
            ("POST", "/v1/sessions") => return self.tokens(body["account"].as_str().unwrap_or_default().to_owned().as_str()),
            ("POST", "/v1/sessions/refresh") => {
                let account = body["refresh_token"].as_str().unwrap_or_default().split('-').nth(1).unwrap_or_default().to_owned();
                return self.tokens(&account);
            }
            ("DELETE", "/v1/sessions/current") => return (204, Vec::new()),
            ("GET", "/v1/account") => {
                return json_answer(&json!({ "id": account, "status": self.account_status, "device_limit": 6 }));
            }
            ("POST", "/v1/devices") => return self.register(&account, head, body),
            ("GET", "/v1/devices") => {
                let items: Vec<Value> = self
                    .devices
                    .iter()
                    .filter(|(_, (owner, ..))| *owner == account)
                    .map(|(id, device)| view(id, device))
                    .collect();
                return json_answer(&json!({ "items": items }));
            }
            _ => {}
        }
        if self.devices.get(&id).is_none_or(|(owner, ..)| *owner != account) {
            return problem(404, "device_not_found");
        }
        match (method, path.ends_with("/wireguard-key")) {
            ("DELETE", _) => {
                self.devices.remove(&id);
                return (204, Vec::new());
            }
            ("PUT", true) => self.devices.get_mut(&id).unwrap().1 = body["wg_public_key"].as_str().unwrap().to_owned(),
            _ => {}
        }
        json_answer(&view(&id, &self.devices[&id]))
    }

    fn tokens(&mut self, account: &str) -> (u16, Vec<u8>) {
        let number = self.number();
        json_answer(&json!({ "session_id": format!("ses-{number}"), "access_token": format!("at-{account}-{number}"),
            "refresh_token": format!("rt-{account}-{number}"), "account": { "id": account, "status": "active", "device_limit": 6 } }))
    }

    fn register(&mut self, account: &str, head: &BTreeMap<String, String>, body: &Value) -> (u16, Vec<u8>) {
        let (key, idempotency) = (body["wg_public_key"].as_str().unwrap().to_owned(), head["idempotency-key"].clone());
        if let Some((id, device)) = self.devices.iter().find(|(_, (owner, _, used))| owner == account && *used == idempotency) {
            return json_answer(&view(id, device));
        }
        if self.devices.values().any(|(_, known, _)| *known == key) {
            return problem(409, "public_key_in_use");
        }
        let id = format!("dev{}", self.number());
        self.devices.insert(id.clone(), (account.to_owned(), key, idempotency));
        json_answer(&view(&id, &self.devices[&id]))
    }
}

fn view(id: &str, (_, key, _): &(String, String, String)) -> Value {
    json!({ "id": id, "name": "computer", "wg_public_key": key, "ipv4": "10.64.0.10/32", "ipv6": "fd5a:7e57::10/128", "created_at": "2026-11-20T20:00:00Z" })
}

fn json_answer(value: &Value) -> (u16, Vec<u8>) {
    (200, value.to_string().into_bytes())
}

fn problem(status: u16, code: &str) -> (u16, Vec<u8>) {
    (status, json!({ "status": status, "code": code, "title": "No" }).to_string().into_bytes())
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            if state.lock().unwrap().silent {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            let Ok(mut stream) = tls.accept(stream).await else { return };
            let Some((method, path, head, body)) = read_request(&mut stream).await else { return };
            let (status, body) = state.lock().unwrap().answer(&method, &path, &head, &body);
            let call = format!("{method} {path}");
            let lost = state
                .lock()
                .unwrap()
                .lose
                .iter_mut()
                .find(|(beginning, left)| call.starts_with(**beginning) && **left > 0)
                .is_some_and(|(_, left)| {
                    *left -= 1;
                    true
                });
            if lost {
                return;
            }
            let kind = if status < 300 { "application/json" } else { "application/problem+json" };
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(&[answer.into_bytes(), body].concat()).await;
            let _ = stream.shutdown().await;
        });
    }
}

type Request = (String, String, BTreeMap<String, String>, Value);

async fn read_request(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let head: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = head.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while bytes.len() < end + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = serde_json::from_slice(&bytes[end + 4..]).unwrap_or(Value::Null);
    Some((method, path, head, body))
}
