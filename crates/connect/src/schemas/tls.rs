//! Certificates for a registry over HTTPS: whom we believe, and who we are.
//!
//! Java keeps them in stores of its own, under a password; here they are files of PEM, as every other program writes them. They are
//! read when a table is opened. What stands in a file is never shown.

use super::options::Lookup;
use crate::options::{Secret, referenced};
use millstream_core::{Error, Result};

const TRUSTED: &str = "ssl.truststore.location";
const TRUSTED_PASSWORD: &str = "ssl.truststore.password";
const OWN: &str = "ssl.keystore.location";
const OWN_PASSWORD: &str = "ssl.keystore.password";

/// A file of certificates has some kB for each.
const PEM_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, Default)]
#[cfg_attr(not(feature = "schema-registry"), allow(dead_code))]
pub(super) struct Tls {
    /// Certificates in whose place none of the system's are believed.
    pub trusted: Option<Vec<u8>>,
    /// A certificate and its key.
    pub own: Option<Secret>,
}

impl Tls {
    /// Files are read only with `secrets`, since a script may be checked where they are not.
    pub fn of(options: &Lookup<'_>, https: bool, secrets: bool) -> Result<Tls> {
        for (password, of) in [(TRUSTED_PASSWORD, TRUSTED), (OWN_PASSWORD, OWN)] {
            if options.get(password).is_some() {
                return Err(Error::sql(format!(
                    "'{}' is for a store of Java, which is not read",
                    options.key(password)
                ))
                .remedy(format!(
                    "leave it out, and name a file of PEM without a password as '{}'; openssl pkcs12 -nodes makes one",
                    options.key(of)
                )));
            }
        }
        let mut tls = Tls::default();
        for (name, what) in [(TRUSTED, "certificates"), (OWN, "a certificate and its key")] {
            let Some(path) = options.get(name) else { continue };
            let key = options.key(name);
            if !https {
                return Err(Error::sql(format!("'{key}' is set, and no address of the registry begins with https://"))
                    .remedy("correct the address, or leave the option out"));
            }
            if !secrets {
                continue;
            }
            let path = referenced(&key, path)?;
            let bytes = pem(&path).map_err(|why| {
                Error::usage(format!("'{key}': {path} {why}")).remedy(format!(
                    "name a file of PEM with {what}; openssl pkcs12 -nodes makes one of a store of Java"
                ))
            })?;
            match name {
                OWN => {
                    let text = String::from_utf8(bytes).unwrap_or_default();
                    if !text.contains("PRIVATE KEY-----") {
                        return Err(Error::usage(format!("'{key}': there is no private key in {path}"))
                            .remedy("put the certificate and its key into one file of PEM"));
                    }
                    tls.own = Some(Secret(text));
                }
                _ => tls.trusted = Some(bytes),
            }
        }
        Ok(tls)
    }
}

fn pem(path: &str) -> std::result::Result<Vec<u8>, String> {
    let bytes = crate::options::small_file(path, PEM_BYTES_MAX)?.ok_or("is not there")?;
    match bytes.windows(11).any(|w| w == b"-----BEGIN ") {
        true => Ok(bytes),
        false => Err("is no file of PEM".into()),
    }
}
