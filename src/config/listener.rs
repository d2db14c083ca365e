//! Addresses that a broker listens on and tells its clients.

use std::fmt;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address, IPv6 without brackets. Empty where a listener takes any address.
    pub host: String,
    /// 0 lets the machine choose.
    pub port: u16,
}

impl Endpoint {
    /// Reads `host:port`; an IPv6 address stands in brackets, and the host may be empty.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        let wrong = || format!("{text:?} is no host:port");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| format!("{text:?} has no port between 0 and 65535"))?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains(':') => {
                return Err(format!("{text:?}: an IPv6 address stands in brackets"));
            }
            None => host,
        };
        if host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '[' | ']')) {
            return Err(wrong());
        }
        Ok(Endpoint { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One place where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name: clients that came in by a listener are told the addresses that all brokers advertise under its name.
    pub name: String,
    /// Where to listen; an empty host is any address of the machine.
    pub bind: Endpoint,
    /// What clients are told. An empty host stands for the machine's name, port 0 for the port that was bound.
    pub advertised: Endpoint,
}

/// A listener as its key has it: a name, `://`, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) endpoint: Endpoint,
}

/// Reads `NAME://host:port` items, no name twice.
pub(super) fn parse_named(items: &[&str]) -> Result<Vec<Named>, String> {
    let mut named: Vec<Named> = Vec::new();
    for item in items {
        let (name, address) =
            item.split_once("://").ok_or_else(|| format!("{item:?} is no NAME://host:port"))?;
        let name = name.to_ascii_uppercase();
        if name.is_empty()
            || !name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.'))
        {
            return Err(format!("{item:?} has no name made of letters, digits, '_', '-' and '.'"));
        }
        if named.iter().any(|other| other.name == name) {
            return Err(format!("listener {name} is given twice"));
        }
        named.push(Named { name, endpoint: Endpoint::parse(address)? });
    }
    Ok(named)
}

/// At least one listener.
pub(super) fn parse_listeners(items: &[&str]) -> Result<Vec<Named>, String> {
    let named = parse_named(items)?;
    if named.is_empty() { Err("must name at least one listener".to_owned()) } else { Ok(named) }
}

/// Addresses for clients, which cannot connect to "any address".
pub(super) fn parse_advertised(items: &[&str]) -> Result<Vec<Named>, String> {
    let named = parse_named(items)?;
    for Named { endpoint, .. } in &named {
        if matches!(endpoint.host.as_str(), "0.0.0.0" | "::") {
            return Err(format!(
                "clients cannot connect to {endpoint}: advertise a name or an address of this machine"
            ));
        }
    }
    Ok(named)
}

/// Names of listeners whose protocol is PLAINTEXT, which is the only one there is.
pub(super) fn parse_protocols(items: &[&str]) -> Result<Vec<String>, String> {
    let mut plain = Vec::new();
    for item in items {
        let (name, protocol) = item.split_once(':').ok_or_else(|| format!("{item:?} is no NAME:PROTOCOL"))?;
        match protocol {
            "PLAINTEXT" => plain.push(name.to_ascii_uppercase()),
            // Kafka's own default maps these four names to themselves; files copy it without using them.
            "SSL" | "SASL_PLAINTEXT" | "SASL_SSL" if name == protocol => {}
            "SSL" | "SASL_PLAINTEXT" | "SASL_SSL" => {
                return Err(format!("{item:?}: TLS and SASL are not supported yet, only PLAINTEXT is"));
            }
            _ => return Err(format!("{item:?}: the only protocol is PLAINTEXT")),
        }
    }
    Ok(plain)
}

/// Puts the three keys together.
pub(super) fn join(
    listeners: Vec<Named>,
    advertised: &[Named],
    plain: &[String],
) -> Result<Vec<Listener>, JoinError> {
    if let Some(unbound) = advertised.iter().find(|one| !listeners.iter().any(|other| other.name == one.name))
    {
        return Err(JoinError::Advertised(format!("listener {} is not among `listeners`", unbound.name)));
    }
    let mut joined = Vec::new();
    for Named { name, endpoint } in listeners {
        if !plain.contains(&name) {
            return Err(JoinError::Listeners(match name.as_str() {
                "SSL" | "SASL_PLAINTEXT" | "SASL_SSL" => {
                    format!("listener {name}: TLS and SASL are not supported yet, only PLAINTEXT is")
                }
                _ => format!(
                    "listener {name} has no protocol: add {name}:PLAINTEXT to listener.security.protocol.map"
                ),
            }));
        }
        let told = advertised.iter().find(|other| other.name == name).map(|other| other.endpoint.clone());
        let told = told.unwrap_or_else(|| match endpoint.host.as_str() {
            "0.0.0.0" | "::" => Endpoint { host: String::new(), port: endpoint.port },
            _ => endpoint.clone(),
        });
        joined.push(Listener { name, bind: endpoint, advertised: told });
    }
    Ok(joined)
}

/// Which key is to blame that the keys do not go together.
pub(super) enum JoinError {
    Listeners(String),
    Advertised(String),
}
