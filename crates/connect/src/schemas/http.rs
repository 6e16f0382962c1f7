//! One request to a registry.
//!
//! Requests are few: one for each schema. Each has a thread, an executor and a client of its own, so that whoever waits for the answer
//! may be a worker, the planner, or inside of an executor, and nothing is left behind.

use super::Answer;
use super::options::{Login, Settings};
use std::time::Duration;

/// From the request's start to the last byte of its answer.
const REQUEST_MAX: Duration = Duration::from_secs(20);
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A schema's text is quoted in the answer, which may double it.
const ANSWER_BYTES_MAX: usize = 4 << 20;

const ACCEPT: &str = "application/vnd.schemaregistry.v1+json, application/json";

/// Asks for `path`; with a body it is posted. What kept the answer from coming comes back as a sentence.
pub(super) fn ask(settings: &Settings, url: &str, path: &str, body: Option<&str>) -> Result<Answer, String> {
    std::thread::scope(|scope| {
        let asking = std::thread::Builder::new().name("schema-registry".into()).spawn_scoped(scope, || {
            let executor = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
            executor.map_err(|e| e.to_string())?.block_on(request(settings, url, path, body))
        });
        let asking = asking.map_err(|e| format!("no thread could be started: {e}"))?;
        asking.join().unwrap_or_else(|_| Err("the thread that asked was lost".into()))
    })
}

async fn request(settings: &Settings, url: &str, path: &str, body: Option<&str>) -> Result<Answer, String> {
    let mut client = reqwest::Client::builder().timeout(REQUEST_MAX).connect_timeout(CONNECT_MAX);
    if let Some(trusted) = &settings.tls.trusted {
        client = client.tls_built_in_root_certs(false);
        for certificate in reqwest::Certificate::from_pem_bundle(trusted).map_err(|e| told(&e))? {
            client = client.add_root_certificate(certificate);
        }
    }
    if let Some(own) = &settings.tls.own {
        // What the parser says of a key is kept back: it may quote it.
        let identity = reqwest::Identity::from_pem(own.reveal().as_bytes());
        client = client
            .identity(identity.map_err(|_| "the certificate and key of 'ssl.keystore.location' are not understood")?);
    }
    let client = client.build().map_err(|e| told(&e))?;
    let url = format!("{url}{path}");
    let request = match body {
        None => client.get(url),
        Some(body) => {
            client.post(url).header("Content-Type", "application/vnd.schemaregistry.v1+json").body(body.to_owned())
        }
    };
    let request = match &settings.login {
        Login::None => request,
        Login::Basic(name, password) => request.basic_auth(name.reveal(), Some(password.reveal())),
        Login::Bearer(token) => request.bearer_auth(token.reveal()),
    };
    let mut answer = request.header("Accept", ACCEPT).send().await.map_err(|e| told(&e))?;
    let status = answer.status().as_u16();
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| told(&e))? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("its answer has more than {} MiB", ANSWER_BYTES_MAX >> 20));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body: String::from_utf8_lossy(&bytes).into_owned() })
}

/// An error with what is behind it, which is where the reason stands.
fn told(e: &reqwest::Error) -> String {
    let mut told = e.to_string();
    let mut behind = std::error::Error::source(e);
    while let Some(cause) = behind {
        let text = cause.to_string();
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        behind = cause.source();
    }
    told
}
