//! The options of a `jdbc` table, read once: what is wrong with them is said at the declaration.
//!
//! Secrets enter here and go to the connection alone: neither `Debug` nor an error shows them.

use super::lookup;
use super::lookup::options::LookupSettings;
pub use crate::options::{GUARANTEE, Guarantee};
use crate::options::{Secret, check_keys, duration, number, referenced, required, size};
use crate::outbox::{OUTBOX_BYTES, OUTBOX_BYTES_MAX_DEFAULT};
use millstream_core::error::did_you_mean;
use millstream_core::{ByteSize, Error, Result, TableSpec};
use std::fmt;
use std::time::Duration;

pub const URL: &str = "url";
pub const TABLE_NAME: &str = "table-name";
pub const USERNAME: &str = "username";
pub const PASSWORD: &str = "password";
pub const DRIVER: &str = "driver";
pub const FLUSH_ROWS: &str = "sink.buffer-flush.max-rows";
pub const FLUSH_INTERVAL: &str = "sink.buffer-flush.interval";
pub const MAX_RETRIES: &str = "sink.max-retries";
pub const PATIENCE: &str = "connection.max-retry-timeout";

const KNOWN: [&str; 11] = [
    URL,
    TABLE_NAME,
    USERNAME,
    PASSWORD,
    DRIVER,
    FLUSH_ROWS,
    FLUSH_INTERVAL,
    MAX_RETRIES,
    GUARANTEE,
    OUTBOX_BYTES,
    PATIENCE,
];

/// Options of Flink's that say how a table is read: without meaning for a sink, and no reason to refuse a file that
/// also runs there.
const OF_READING: [&str; 6] = [
    "scan.partition.column",
    "scan.partition.num",
    "scan.partition.lower-bound",
    "scan.partition.upper-bound",
    "scan.fetch-size",
    "scan.auto-commit",
];

/// Rows held back before they are sent, without exactly-once. Flink's default is 100; COPY gains up to some thousand.
const FLUSH_ROWS_DEFAULT: usize = 10_000;
const FLUSH_INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
const MAX_RETRIES_DEFAULT: u32 = 3;
const MAX_RETRIES_MAX: u32 = 1_000;

/// How long a server may take to accept a connection or to answer one statement.
const PATIENCE_DEFAULT: Duration = Duration::from_secs(60);

const PORT_DEFAULT: u16 = 5432;

/// Parameters of a JDBC URL that say how Java's driver works and change nothing here.
const OF_THE_DRIVER: [&str; 12] = [
    "reWriteBatchedInserts",
    "prepareThreshold",
    "preparedStatementCacheQueries",
    "binaryTransfer",
    "defaultRowFetchSize",
    "autosave",
    "preferQueryMode",
    "stringtype",
    "tcpKeepAlive",
    "socketTimeout",
    "connectTimeout",
    "loginTimeout",
];
const PARAMETERS: [&str; 6] = ["user", "password", "currentSchema", "ApplicationName", "sslmode", "ssl"];

/// Where the server is and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub hosts: Vec<(String, u16)>,
    pub database: String,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub schema: Option<String>,
    pub application: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            if host.contains(':') { write!(f, "{comma}[{host}]:{port}")? } else { write!(f, "{comma}{host}:{port}")? }
        }
        write!(f, "/{}", self.database)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub address: Address,
    /// As SQL writes it: folded to lower case unless quoted, with its schema where one is given.
    pub table: String,
    /// `None`: the best that the job allows.
    pub guarantee: Option<Guarantee>,
    pub flush_rows: usize,
    pub flush_interval: Option<Duration>,
    pub retries: u32,
    pub patience: Duration,
    pub outbox_bytes_max: ByteSize,
    pub lookup: LookupSettings,
}

impl Settings {
    /// Reads the options. References to environment variables are followed only with `secrets`, since a script may be
    /// checked where they are not set.
    pub fn of(table: &TableSpec, secrets: bool) -> Result<Settings> {
        check_keys(table, &KNOWN.into_iter().chain(lookup::options::KNOWN).chain(OF_READING).collect::<Vec<_>>())?;
        let mut address = parse_url(required(table, URL, "jdbc:postgresql://localhost:5432/mydb")?)?;
        if let Some(user) = table.option(USERNAME) {
            address.user = Some(if secrets { referenced(USERNAME, user)? } else { user.to_owned() });
        }
        if let Some(password) = table.option(PASSWORD) {
            let password = if secrets { referenced(PASSWORD, password)? } else { password.to_owned() };
            address.password = Some(Secret(password));
        }
        if let Some(driver) = table.option(DRIVER).filter(|d| *d != "org.postgresql.Driver") {
            return Err(Error::sql(format!("'{DRIVER}' cannot be '{driver}'"))
                .remedy("leave it out: 'jdbc' is spoken with PostgreSQL, by a driver of our own"));
        }
        let guarantee = Guarantee::of(table)?;
        // Flink's 0: not by rows, not by time.
        let flush_rows = match number::<usize>(table, FLUSH_ROWS, "a number of rows, or 0 for no such bound")? {
            None => FLUSH_ROWS_DEFAULT,
            Some(0) => usize::MAX,
            Some(rows) => rows,
        };
        let flush_interval = Some(duration(table, FLUSH_INTERVAL)?.unwrap_or(FLUSH_INTERVAL_DEFAULT));
        let retries = number::<u32>(table, MAX_RETRIES, "a number, such as 3")?.unwrap_or(MAX_RETRIES_DEFAULT);
        if retries > MAX_RETRIES_MAX {
            return Err(Error::sql(format!("'{MAX_RETRIES}' cannot be {retries}"))
                .remedy(format!("use a number up to {MAX_RETRIES_MAX}")));
        }
        let patience = duration(table, PATIENCE)?.unwrap_or(PATIENCE_DEFAULT);
        if patience < Duration::from_secs(1) {
            return Err(Error::sql(format!("'{PATIENCE}' is shorter than a second"))
                .remedy("use at least '1 s': the time that a server may take to answer"));
        }
        Ok(Settings {
            address,
            table: required(table, TABLE_NAME, "public.orders")?.trim().to_owned(),
            guarantee,
            flush_rows,
            flush_interval: flush_interval.filter(|i| !i.is_zero()),
            retries,
            patience,
            outbox_bytes_max: size(table, OUTBOX_BYTES)?.unwrap_or(OUTBOX_BYTES_MAX_DEFAULT),
            lookup: LookupSettings::of(table)?,
        })
    }
}

/// Reads `jdbc:postgresql://host:port,host:port/database?parameter=value`, with or without `jdbc:`. An error never
/// shows the text, which may hold a password.
fn parse_url(url: &str) -> Result<Address> {
    let example = "write jdbc:postgresql://host:5432/database";
    let plain = url.trim();
    let plain = plain.strip_prefix("jdbc:").unwrap_or(plain);
    let scheme = plain.split(':').next().unwrap_or_default();
    if !matches!(scheme, "postgresql" | "postgres") {
        let what = if scheme.is_empty() || scheme.len() == plain.len() || scheme.contains('@') {
            format!("'{URL}' is no URL of a PostgreSQL server")
        } else {
            format!("'{URL}' names a server of the kind '{scheme}', and there is only PostgreSQL")
        };
        return Err(Error::sql(what).remedy(example));
    }
    let wrong = |why: &str| Error::sql(format!("'{URL}': {why}")).remedy(example);
    let rest = &plain[scheme.len() + 1..];
    let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
        // Java's short form, jdbc:postgresql:database.
        None => ("", rest.trim_start_matches('/')),
    };
    if database.is_empty() {
        return Err(wrong("it names no database"));
    }
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (Some(login), hosts),
        None => (None, authority),
    };
    let decode = |text: &str| percent_decode(text).ok_or_else(|| wrong("a % is followed by no two hexadecimal digits"));
    let mut address = Address {
        hosts: Vec::new(),
        database: decode(database)?,
        user: None,
        password: None,
        schema: None,
        application: "millstream".into(),
    };
    if let Some(login) = login {
        let (user, password) = login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)));
        address.user = Some(decode(user)?).filter(|u| !u.is_empty());
        address.password = password.map(|p| Ok::<_, Error>(Secret(decode(p)?))).transpose()?;
    }
    for host in hosts.split(',') {
        let (host, port) = match host.strip_prefix('[') {
            Some(v6) => {
                let (host, port) = v6.split_once(']').ok_or_else(|| wrong("a [ is not closed"))?;
                (host, port.strip_prefix(':'))
            }
            None => host.split_once(':').map_or((host, None), |(h, p)| (h, Some(p))),
        };
        let port = match port {
            None | Some("") => PORT_DEFAULT,
            Some(port) => port.parse().map_err(|_| wrong("a port is a number up to 65535"))?,
        };
        address.hosts.push((if host.is_empty() { "localhost".into() } else { decode(host)? }, port));
    }
    for parameter in parameters.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = decode(value)?;
        match name {
            "user" => address.user = Some(value),
            "password" => address.password = Some(Secret(value)),
            "currentSchema" => address.schema = Some(value),
            "ApplicationName" | "application_name" => address.application = value,
            "sslmode" if matches!(value.as_str(), "disable" | "allow" | "prefer") => {}
            "ssl" if value == "false" => {}
            "sslmode" | "ssl" => {
                return Err(Error::sql(format!("'{URL}' asks for TLS, which this connector does not speak yet"))
                    .remedy(
                        "take it out where the network is trusted, or connect through a TLS tunnel on this machine",
                    ));
            }
            _ if OF_THE_DRIVER.contains(&name) => {}
            _ => {
                return Err(Error::sql(format!("'{URL}' has the unknown parameter '{name}'")).remedy(
                    match did_you_mean(name, PARAMETERS) {
                        Some(guess) => format!("did you mean '{guess}'? There are {}", PARAMETERS.join(", ")),
                        None => format!("there are {}", PARAMETERS.join(", ")),
                    },
                ));
            }
        }
    }
    Ok(address)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let (high, low) = (char::from(bytes.next()?).to_digit(16)?, char::from(bytes.next()?).to_digit(16)?);
            out.push((high * 16 + low) as u8);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_in_all_its_forms() {
        let address =
            parse_url("jdbc:postgresql://db.example:6000/shop?currentSchema=s&sslmode=prefer").expect("valid");
        assert_eq!(address.to_string(), "db.example:6000/shop");
        assert_eq!(address.schema.as_deref(), Some("s"));
        let address = parse_url("postgresql://ann:p%40ss%3A@[::1]:5/shop").expect("valid");
        assert_eq!(address.to_string(), "[::1]:5/shop");
        assert_eq!(address.user.as_deref(), Some("ann"));
        assert_eq!(address.password.expect("given").reveal(), "p@ss:");
        let address = parse_url("jdbc:postgresql://a,b:7/shop?user=u&password=p").expect("valid");
        assert_eq!(address.to_string(), "a:5432,b:7/shop");
        assert_eq!(parse_url("jdbc:postgresql:shop").expect("valid").to_string(), "localhost:5432/shop");
    }

    #[test]
    fn a_wrong_url_is_explained_without_its_password() {
        for (url, what) in [
            ("jdbc:mysql://u:hunter2@h/db", "of the kind 'mysql'"),
            ("u:hunter2@h/db", "names a server of the kind 'u'"),
            ("hunter2@h/db", "is no URL"),
            ("postgresql://u:hunter2@h", "names no database"),
            ("postgresql://u:hunter2@h:hunter2/db", "a port is a number"),
            ("postgresql://u:hunter2%zz@h/db", "hexadecimal"),
            ("postgresql://u:hunter2@h/db?sslmode=require", "asks for TLS"),
            ("postgresql://u:hunter2@h/db?curentSchema=s", "unknown parameter 'curentSchema'"),
        ] {
            let e = parse_url(url).expect_err(url).to_string();
            assert!(e.contains(what) && !e.contains("hunter2"), "{url}: {e}");
        }
        let address = parse_url("postgresql://u:hunter2@h/db").expect("valid");
        assert!(!format!("{address:?} {address}").contains("hunter2"));
    }
}
