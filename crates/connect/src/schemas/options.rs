//! Where a registry is and how to log in, from the options of a table.

use super::tls::Tls;
use crate::options::{Secret, referenced};
use millstream_core::{Error, Result};
use millstream_formats::options::flag;
use std::collections::BTreeMap;

const URL: &str = "url";
const SUBJECT: &str = "subject";
const CREDENTIALS: &str = "basic-auth.credentials-source";
const USER: &str = "basic-auth.user-info";
const TOKEN_SOURCE: &str = "bearer-auth.credentials-source";
const TOKEN: &str = "bearer-auth.token";
/// Of what Flink hands on to Confluent's client, what can be settled here: whether a schema that is new is registered.
const REGISTERS: &str = "properties.auto.register.schemas";

#[derive(Debug)]
#[cfg_attr(not(feature = "schema-registry"), allow(dead_code))]
pub(super) struct Settings {
    /// What stands before the names of options in messages: `value.avro-confluent.`.
    prefix: String,
    /// Without a login and without `/` at the end.
    pub urls: Vec<String>,
    /// What schemas are registered under; `None`: none is.
    pub subject: Option<String>,
    /// Whether a schema that is new is registered.
    pub registers: bool,
    pub login: Login,
    pub tls: Tls,
}

/// The options of one format.
pub(super) struct Lookup<'a> {
    options: &'a BTreeMap<String, String>,
    prefix: &'a str,
}

impl Lookup<'_> {
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.options.get(&self.key(name)).map(|v| v.trim()).filter(|v| !v.is_empty())
    }
}

#[derive(Debug)]
#[cfg_attr(not(feature = "schema-registry"), allow(dead_code))]
pub(super) enum Login {
    None,
    Basic(Secret, Secret),
    Bearer(Secret),
}

impl Settings {
    /// Reads the options. `subject`: where the table does not name one. References to environment variables are followed only with
    /// `secrets`.
    pub fn of(
        options: &BTreeMap<String, String>,
        prefix: &str,
        subject: Option<String>,
        secrets: bool,
    ) -> Result<Settings> {
        if cfg!(not(feature = "schema-registry")) {
            return Err(Error::sql("this build of Millstream is without formats that ask a schema registry").remedy(
                "build it with `cargo build -p millstream --features schema-registry`, or without --no-default-features",
            ));
        }
        let lookup = Lookup { options, prefix };
        let key = |name: &str| lookup.key(name);
        let get = |name: &str| lookup.get(name);
        let Some(listed) = get(URL) else {
            return Err(Error::sql(format!("a format with a schema registry needs the option '{}'", key(URL)))
                .remedy(format!("add '{}' = 'http://localhost:8081'", key(URL))));
        };
        let mut login = Login::None;
        let mut urls = Vec::new();
        for url in listed.split(',').map(str::trim).filter(|u| !u.is_empty()) {
            let wrong = |what: &str| {
                // The address may have a password in it, so it is not shown.
                Error::sql(format!("'{}' {what}", key(URL)))
                    .remedy("write http://host:port or https://host:port, several separated by commas")
            };
            let Some((scheme, rest)) = url.split_once("://").filter(|(s, _)| ["http", "https"].contains(s)) else {
                return Err(wrong("names no address of HTTP"));
            };
            let rest = rest.trim_end_matches('/');
            let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
            let host = match host.rsplit_once('@') {
                Some((user, host)) => {
                    login = basic(user).ok_or_else(|| wrong("has a login that is no name:password"))?;
                    host
                }
                None => host,
            };
            if host.is_empty() || host.contains(|c: char| c.is_whitespace()) {
                return Err(wrong("names no host"));
            }
            urls.push(format!("{scheme}://{host}{}{path}", if path.is_empty() { "" } else { "/" }));
        }
        if urls.is_empty() {
            return Err(Error::sql(format!("'{}' names no registry", key(URL)))
                .remedy("write for example http://localhost:8081"));
        }
        let secret = |name: &str| -> Result<Option<String>> {
            let Some(value) = get(name) else { return Ok(None) };
            Ok(Some(if secrets { referenced(&key(name), value)? } else { value.to_owned() }))
        };
        let only = |name: &str, known: &str| match get(name) {
            Some(source) if source != known && source != "URL" => {
                Err(Error::sql(format!("'{}' cannot be '{source}'", key(name))).remedy(format!("use '{known}'")))
            }
            _ => Ok(()),
        };
        only(CREDENTIALS, "USER_INFO")?;
        only(TOKEN_SOURCE, "STATIC_TOKEN")?;
        match (secret(USER)?, secret(TOKEN)?) {
            (Some(_), Some(_)) => {
                return Err(Error::sql(format!("'{}' and '{}' are both set", key(USER), key(TOKEN)))
                    .remedy("leave one of the two out"));
            }
            (Some(user), None) => {
                login = match basic(&user) {
                    Some(login) => login,
                    None if !secrets => Login::None,
                    None => {
                        return Err(Error::sql(format!("'{}' is no login", key(USER)))
                            .remedy("write name:password, or ${NAME} for an environment variable that holds it"));
                    }
                };
            }
            (None, Some(token)) => login = Login::Bearer(Secret(token)),
            (None, None) => {}
        }
        let https = urls.iter().any(|url| url.starts_with("https://"));
        let tls = Tls::of(&lookup, https, secrets)?;
        Ok(Settings {
            prefix: prefix.to_owned(),
            urls,
            subject: get(SUBJECT).map(str::to_owned).or(subject),
            registers: flag(options, &key(REGISTERS))?.unwrap_or(true),
            login,
            tls,
        })
    }

    /// An option as the table names it.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub fn shown(&self) -> String {
        self.urls.join(",")
    }

    pub fn logs_in(&self) -> bool {
        !matches!(self.login, Login::None)
    }

    /// A text of somebody else's, in which what was given to log in may stand.
    pub fn without_secrets(&self, text: &str) -> String {
        let secrets = match &self.login {
            Login::None => Vec::new(),
            Login::Basic(_, password) => vec![password.reveal()],
            Login::Bearer(token) => vec![token.reveal()],
        };
        secrets.into_iter().filter(|s| !s.is_empty()).fold(text.to_owned(), |text, s| text.replace(s, "***"))
    }
}

fn basic(user: &str) -> Option<Login> {
    let (name, password) = user.split_once(':').filter(|(name, _)| !name.is_empty())?;
    Some(Login::Basic(Secret(name.to_owned()), Secret(password.to_owned())))
}
