//! Phones as the API server returns them, and an API server that returns what a test says.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use capf::api::Phone;
use capf::cli::client::Cluster;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A phone that nothing was asked of, with `change` laid over it.
pub fn phone_json(device_name: &str, status: Value) -> Value {
    json!({
        "apiVersion": "capf.dev/v1alpha1", "kind": "Phone",
        "metadata": {"name": device_name.to_ascii_lowercase(), "namespace": "voice"},
        "spec": {"deviceName": device_name, "proxyRef": {"name": "main"}},
        "status": status,
    })
}

pub fn phone(device_name: &str, status: Value) -> Phone {
    serde_json::from_value(phone_json(device_name, status)).unwrap()
}

/// A status with an operation of this phase and reason, whose string waits in the Secret `<device>-string`.
pub fn operation(phase: &str, reason: Option<&str>, secret: Option<&str>) -> Value {
    let mut operation = json!({
        "name": "op", "certificateOperation": "InstallUpgrade", "authenticationMode": "ByAuthenticationString",
        "requestedBy": "Phone", "phase": phase, "operationCompletesBy": "2027-01-10T00:00:00Z",
    });
    if let Some(reason) = reason {
        operation["reason"] = json!(reason);
    }
    if let Some(secret) = secret {
        operation["authenticationStringSecret"] = json!(secret);
    }
    let word = match phase {
        "Pending" => "pending",
        "Successful" => "successful",
        _ => "failed",
    };
    json!({"observedGeneration": 1, "operation": operation, "operationStatus": format!("Install/Upgrade {word}")})
}

/// A status with a live LSC that ends at this time.
pub fn with_lsc(end: &str) -> Value {
    json!({
        "observedGeneration": 1, "lscState": "Installed",
        "lsc": {
            "serialNumber": "0012e5", "sha256Fingerprint": "aa", "publicKeySha256": "bb", "issuer": "CN=CAPF",
            "notBefore": "2026-01-01T00:00:00Z", "notAfter": end,
        },
    })
}

/// What an API server says of a failure.
pub fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
    });
    (code, status)
}

pub fn list(phones: Vec<Value>, next: Option<&str>) -> (u16, Value) {
    let metadata = json!({"resourceVersion": "1", "continue": next.unwrap_or_default()});
    (200, json!({"apiVersion": "capf.dev/v1alpha1", "kind": "PhoneList", "metadata": metadata, "items": phones}))
}

pub fn secret(type_: &str, digits: &[u8]) -> (u16, Value) {
    let data: k8s_openapi::ByteString = k8s_openapi::ByteString(digits.to_vec());
    let data = json!({"authenticationString": data});
    (200, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "type": type_, "data": data}))
}

/// A request: its path, and its query decoded.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub query: HashMap<String, String>,
}

/// An API server on the loopback interface, for the life of the test.
pub struct FakeServer {
    pub cluster: Cluster,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl FakeServer {
    /// Answers each request with what `answer` says, by the number of requests before it.
    pub async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(usize, Asked) -> A + Send + Sync + 'static,
        A: Future<Output = (u16, Value)> + Send,
    {
        // Fails when another test of this process was first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&asked), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                let service = service_fn(move |request: Request<Incoming>| {
                    let asked = asked_by(&request);
                    let number = {
                        let mut log = log.lock().unwrap();
                        log.push(asked.clone());
                        log.len() - 1
                    };
                    let answer = Arc::clone(&answer);
                    async move {
                        let (code, body) = answer(number, asked).await;
                        let body = Full::new(Bytes::from(body.to_string()));
                        Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
        config.default_retry = false;
        let client = kube::Client::try_from(config).unwrap();
        Self { cluster: Cluster { client, namespace: Some("voice".into()) }, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn asked_by(request: &Request<Incoming>) -> Asked {
    let decode = |text: &str| text.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
    let query = request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    Asked {
        path: request.uri().path().to_owned(),
        query: query.map(|(name, value)| (name.to_owned(), decode(value))).collect(),
    }
}
