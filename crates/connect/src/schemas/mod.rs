//! Schemas under numbers: a registry that speaks as Confluent's does (Confluent, Karapace, Apicurio, Redpanda).
//!
//! ```text
//!  reading:  a record names schema 17 ─▶ known? ─ no ─▶ GET /schemas/ids/17 ─▶ kept, at most SCHEMAS_MAX
//!  writing:  the table's schema, once, when the table is opened ─▶ POST /subjects/orders-value/versions ─▶ its number
//! ```
//!
//! What a number means never changes, so an answer is asked for once; what a schema refers to is asked for with it. A request that was not answered, or that the server was not fit
//! for, is made again as [`RETRY`] says; several addresses are tried in turn. A number that the registry does not know makes
//! the record bad and nothing else; a registry that cannot be reached, or that does not let us in, ends the job's run with an
//! error that says so. What was given to log in is never shown.

#[cfg(feature = "schema-registry")]
mod http;
mod options;
mod tls;

use crate::percent::encoded;
use millstream_core::{Error, Result};
use millstream_formats::protobuf::PROTOBUF_CONFLUENT;
use millstream_formats::registry::{Registered, Schemas};
use options::Settings;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "schema-registry")]
use millstream_core::RetryPolicy;
#[cfg(feature = "schema-registry")]
use std::time::Duration;

/// Schemas that are kept at a time, and bytes of them.
const SCHEMAS_MAX: usize = 1000;
const SCHEMAS_BYTES_MAX: usize = 32 << 20;

/// Schemas that one schema may refer to, and how many may be behind one another.
const REFERENCES_MAX: usize = 200;
const REFERENCES_DEPTH_MAX: usize = 32;

/// About half a minute in all, in which a registry is started again.
#[cfg(feature = "schema-registry")]
const RETRY: RetryPolicy =
    RetryPolicy { first: Duration::from_millis(200), most: Duration::from_secs(8), tries_max: 8 };

/// The registry of one table, for its keys or its values.
#[derive(Debug)]
pub(crate) struct Registry {
    settings: Settings,
    /// What the registry calls schemas of this kind.
    kind: &'static str,
    #[cfg(feature = "schema-registry")]
    retry: RetryPolicy,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    schemas: BTreeMap<u32, Arc<Registered>>,
    bytes: usize,
}

/// An answer of the server.
#[cfg_attr(not(feature = "schema-registry"), allow(dead_code))]
struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    /// What the server says of an error, on one line.
    fn said(&self) -> String {
        let json: Option<serde_json::Value> = serde_json::from_str(&self.body).ok();
        let said = json.as_ref().and_then(|j| j["message"].as_str()).unwrap_or(&self.body);
        let said: String = said.chars().take(SAID_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if said.trim().is_empty() { "it gives no reason".into() } else { said }
    }
}

/// Characters of a server's message that are shown. It lists what is incompatible, which may take some lines.
const SAID_MAX: usize = 1000;

impl Registry {
    /// The options of `format` that begin with `prefix`; see [`Settings`].
    pub fn of(
        options: &BTreeMap<String, String>,
        prefix: &str,
        format: &str,
        subject: Option<String>,
        secrets: bool,
    ) -> Result<Arc<Registry>> {
        let settings = Settings::of(options, &format!("{prefix}{format}."), subject, secrets)?;
        Ok(Arc::new(Registry {
            settings,
            kind: if format == PROTOBUF_CONFLUENT { "PROTOBUF" } else { "AVRO" },
            #[cfg(feature = "schema-registry")]
            retry: RETRY,
            known: Mutex::default(),
        }))
    }

    /// The number of a schema, which is registered where it is new.
    pub fn register(&self, schema: &str) -> Result<u32> {
        let Some(subject) = &self.settings.subject else {
            return Err(Error::internal("a schema is registered without a subject"));
        };
        let (path, doing) = match self.settings.registers {
            true => (format!("/subjects/{}/versions", encoded(subject)), "register a schema"),
            false => (format!("/subjects/{}", encoded(subject)), "look up a schema"),
        };
        // Without a type it is one of Avro: what was before there were others understands that.
        let body = match self.kind {
            "AVRO" => serde_json::json!({ "schema": schema }),
            kind => serde_json::json!({ "schema": schema, "schemaType": kind }),
        };
        let body = body.to_string();
        let answer = self.ask(&path, Some(body), doing)?;
        match answer.status {
            200..300 => {
                let json: Option<serde_json::Value> = serde_json::from_str(&answer.body).ok();
                let id = json.and_then(|j| j["id"].as_u64()).and_then(|id| u32::try_from(id).ok());
                id.ok_or_else(|| self.strange(doing, &answer))
            }
            409 => Err(Error::usage(format!(
                "the schema registry at {} refuses the table's schema for the subject '{subject}', since it is not \
                 compatible with those before it: {}",
                self.settings.shown(),
                answer.said()
            ))
            .remedy(
                "change the columns so that old readers understand them (a new one has to be nullable), write to another \
                 subject, or change the subject's compatibility",
            )),
            404 if !self.settings.registers => Err(Error::usage(format!(
                "the schema registry at {} does not have the table's schema under the subject '{subject}': {}",
                self.settings.shown(),
                answer.said()
            ))
            .remedy(format!(
                "register it first, give the registered one as '{}', or leave '{}' out",
                self.settings.key("schema"),
                self.settings.key("properties.auto.register.schemas")
            ))),
            422 => Err(Error::usage(format!(
                "the schema registry at {} takes the table's schema for none: {}",
                self.settings.shown(),
                answer.said()
            ))
            .remedy("correct the schema; that of the table's columns is written down in docs/connectors.md")),
            _ => Err(self.strange(doing, &answer)),
        }
    }

    fn fetch(&self, id: u32) -> Result<std::result::Result<Arc<Registered>, String>> {
        let doing = format!("give schema {id}");
        let answer = self.ask(&format!("/schemas/ids/{id}"), None, &doing)?;
        if answer.status == 404 {
            return Ok(Err(format!(
                "the record was written with schema {id}, which the registry at {} does not have: {}",
                self.settings.shown(),
                answer.said()
            )));
        }
        let json: Option<serde_json::Value> = serde_json::from_str(&answer.body).ok();
        let Some(json) = json.filter(|_| answer.status == 200) else { return Err(self.strange(&doing, &answer)) };
        let kind = json["schemaType"].as_str().unwrap_or("AVRO");
        if kind != self.kind {
            return Ok(Err(format!(
                "schema {id} of the registry is {kind}, and the table's format reads {}",
                self.kind
            )));
        }
        let Some(text) = json["schema"].as_str() else { return Err(self.strange(&doing, &answer)) };
        let mut schema = Registered { text: text.to_owned(), references: Vec::new() };
        match self.follow(&json, 0, &mut schema)? {
            Ok(()) => Ok(Ok(Arc::new(schema))),
            Err(why) => Ok(Err(format!("schema {id} of the registry {why}"))),
        }
    }

    /// Adds what a schema refers to, each behind what it needs itself. What is wrong with it comes back as a half sentence.
    fn follow(
        &self,
        json: &serde_json::Value,
        depth: usize,
        of: &mut Registered,
    ) -> Result<std::result::Result<(), String>> {
        for reference in json["references"].as_array().into_iter().flatten() {
            let (name, subject, version) =
                (reference["name"].as_str(), reference["subject"].as_str(), reference["version"].as_u64());
            let (Some(name), Some(subject), Some(version)) = (name, subject, version) else {
                return Ok(Err("has a reference without a name, a subject or a version".into()));
            };
            if of.reference(name).is_some() {
                continue;
            }
            if depth >= REFERENCES_DEPTH_MAX || of.references.len() >= REFERENCES_MAX || of.bytes() > SCHEMAS_BYTES_MAX
            {
                return Ok(Err(format!(
                    "refers to more than {REFERENCES_MAX} others, {REFERENCES_DEPTH_MAX} of them behind one another or {} MiB",
                    SCHEMAS_BYTES_MAX >> 20
                )));
            }
            let doing = format!("give version {version} of the subject '{subject}'");
            let answer = self.ask(&format!("/subjects/{}/versions/{version}", encoded(subject)), None, &doing)?;
            if answer.status == 404 {
                return Ok(Err(format!(
                    "refers to version {version} of the subject '{subject}', which is not there: {}",
                    answer.said()
                )));
            }
            let found: Option<serde_json::Value> = serde_json::from_str(&answer.body).ok();
            let Some(found) = found.filter(|_| answer.status == 200) else { return Err(self.strange(&doing, &answer)) };
            if let Err(why) = self.follow(&found, depth + 1, of)? {
                return Ok(Err(why));
            }
            let Some(text) = found["schema"].as_str() else { return Err(self.strange(&doing, &answer)) };
            of.references.push((name.to_owned(), text.to_owned()));
        }
        Ok(Ok(()))
    }

    fn strange(&self, doing: &str, answer: &Answer) -> Error {
        let shown = self.settings.shown();
        match answer.status {
            401 | 403 => {
                let what = match self.settings.logs_in() {
                    true => "does not take the login that was given",
                    false => "wants a login, and none was given",
                };
                Error::usage(format!(
                    "the schema registry at {shown} was to {doing}, and {what} (status {})",
                    answer.status
                ))
                .remedy(format!(
                    "set '{}' = 'name:password' or '{}'",
                    self.settings.key("basic-auth.user-info"),
                    self.settings.key("bearer-auth.token")
                ))
            }
            status => Error::io(format!(
                "the schema registry at {shown} was to {doing}, and answered with status {status}: {}",
                self.settings.without_secrets(&answer.said())
            ))
            .remedy(format!(
                "see that '{}' names a registry that speaks as Confluent's does",
                self.settings.key("url")
            )),
        }
    }

    /// An answer that is none of a server in trouble.
    #[cfg(feature = "schema-registry")]
    fn ask(&self, path: &str, body: Option<String>, doing: &str) -> Result<Answer> {
        let mut tries = self.retry.tries(path);
        loop {
            let mut failed = String::new();
            for url in &self.settings.urls {
                match http::ask(&self.settings, url, path, body.as_deref()) {
                    Ok(answer) if answer.status == 429 || answer.status >= 500 => {
                        failed = format!("it answers with status {}: {}", answer.status, answer.said());
                    }
                    Ok(answer) => return Ok(answer),
                    Err(why) => failed = why,
                }
            }
            match tries.after_failure() {
                Some(pause) => std::thread::sleep(pause),
                None => {
                    return Err(Error::io(format!(
                        "the schema registry at {} was to {doing}, and could not be asked in {} tries: {}",
                        self.settings.shown(),
                        tries.failed(),
                        self.settings.without_secrets(&failed)
                    ))
                    .remedy(format!(
                        "see that it runs, and that '{}' is where it can be reached",
                        self.settings.key("url")
                    )));
                }
            }
        }
    }

    #[cfg(not(feature = "schema-registry"))]
    fn ask(&self, _: &str, _: Option<String>, _: &str) -> Result<Answer> {
        Err(Error::internal("this build asks no registry"))
    }
}

impl Schemas for Registry {
    fn schema(&self, id: u32) -> Result<std::result::Result<Arc<Registered>, String>> {
        // Held while the answer comes: who wants the same schema at the same time need not ask for it too.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = known.schemas.get(&id) {
            return Ok(Ok(schema.clone()));
        }
        let fetched = self.fetch(id)?;
        if let Ok(schema) = &fetched {
            if known.schemas.len() >= SCHEMAS_MAX || known.bytes + schema.bytes() > SCHEMAS_BYTES_MAX {
                *known = Known::default();
            }
            known.bytes += schema.bytes();
            known.schemas.insert(id, schema.clone());
        }
        Ok(fetched)
    }
}

#[cfg(all(test, feature = "schema-registry"))]
mod tests;
