//! Where a connection may go. A base URL is checked when it is stored and when the client is built; the addresses its name
//! resolves to are checked at connect time, on the very answer that is then connected to, so that a name that changes its mind
//! gains nothing. Redirects are never followed, hence these two places are all there are.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::connection::{FieldError, NetworkPolicy};

/// An address, or all addresses of a name, lie where a connection must not go.
#[derive(Debug, thiserror::Error)]
#[error("the provider's address is not allowed: {reason}")]
pub(crate) struct Refused {
    pub(crate) reason: &'static str,
}

/// Parses and checks a base URL. The result ends in a slash-free path.
pub(crate) fn check_base_url(text: &str, policy: NetworkPolicy) -> Result<Url, FieldError> {
    let refuse = |message: &str| FieldError::new("base_url", message);
    let mut url = Url::parse(text.trim()).map_err(|_| refuse("is not a URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("must not contain credentials"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("must not contain a query or fragment"));
    }
    let host = url.host().ok_or_else(|| refuse("names no host"))?;
    let loopback = is_loopback(&host);
    match url.scheme() {
        "https" => {}
        "http" if loopback && policy.allow_http_loopback => {}
        "http" if loopback => return Err(refuse("http is switched off, even for this machine")),
        "http" => return Err(refuse("must be https; http is for this machine only")),
        _ => return Err(refuse("must be https")),
    }
    let literal = match host {
        Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
        Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
        Host::Domain(_) if loopback && !policy.allow_http_loopback => {
            return Err(refuse("points at this machine"));
        }
        Host::Domain(_) => None,
    };
    if let Some(ip) = literal {
        check_address(ip, policy).map_err(|refused| refuse(refused.reason))?;
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
        }
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => embedded_v4(*ip).map_or(ip.is_loopback(), |v4| v4.is_loopback()),
    }
}

/// Whether an address may be connected to, whatever IPv6 form an IPv4 address hides in.
pub(crate) fn check_address(ip: IpAddr, policy: NetworkPolicy) -> Result<(), Refused> {
    match ip {
        IpAddr::V4(v4) => check_v4(v4, policy),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => check_v4(v4, policy),
            None => check_v6(v6, policy),
        },
    }
}

fn check_v4(ip: Ipv4Addr, policy: NetworkPolicy) -> Result<(), Refused> {
    let [a, b, c, _] = ip.octets();
    let refuse = |reason| Err(Refused { reason });
    if ip.is_loopback() {
        return if policy.allow_http_loopback {
            Ok(())
        } else {
            refuse("it points at this machine")
        };
    }
    if ip.is_link_local() {
        return refuse("it is link-local, where cloud metadata lives");
    }
    // Metadata services outside the link-local range: Alibaba's and Azure's.
    if ip == Ipv4Addr::new(100, 100, 100, 200) || ip == Ipv4Addr::new(168, 63, 129, 16) {
        return refuse("it is a cloud metadata service");
    }
    let shared = a == 100 && (64..128).contains(&b);
    if ip.is_private() || shared {
        return if policy.allow_private {
            Ok(())
        } else {
            refuse("it is a private address")
        };
    }
    let protocol_assignments = a == 192 && b == 0 && c == 0;
    let benchmarking = a == 198 && (b == 18 || b == 19);
    if a == 0
        || a >= 224
        || ip.is_documentation()
        || protocol_assignments
        || benchmarking
        || (a, b, c) == (192, 88, 99)
    {
        return refuse("it is not a public unicast address");
    }
    Ok(())
}

fn check_v6(ip: Ipv6Addr, policy: NetworkPolicy) -> Result<(), Refused> {
    let segments = ip.segments();
    let refuse = |reason| Err(Refused { reason });
    if ip.is_loopback() {
        return if policy.allow_http_loopback {
            Ok(())
        } else {
            refuse("it points at this machine")
        };
    }
    if ip.is_unicast_link_local() {
        return refuse("it is link-local, where cloud metadata lives");
    }
    // Amazon's metadata service has a unique local address.
    if segments == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] {
        return refuse("it is a cloud metadata service");
    }
    let site_local = segments[0] & 0xffc0 == 0xfec0;
    if ip.is_unique_local() || site_local {
        return if policy.allow_private {
            Ok(())
        } else {
            refuse("it is a private address")
        };
    }
    // Only 2000::/3 is given out; within it, documentation and the tunnels whose far end can't be judged are not targets.
    let global = segments[0] & 0xe000 == 0x2000;
    let documentation = (segments[0] == 0x2001 && segments[1] == 0xdb8) || segments[0] == 0x3fff;
    let teredo_or_special = segments[0] == 0x2001 && segments[1] < 0x200;
    if !global || documentation || teredo_or_special {
        return refuse("it is not a public unicast address");
    }
    Ok(())
}

/// The IPv4 address that traffic to this IPv6 address ends at: mapped, compatible, NAT64 (well-known prefix) and 6to4 forms.
/// The local-use NAT64 prefix has no fixed form and is refused as not public.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match ip.segments() {
        // ::1 and :: are IPv6's own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => return None,
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
}

type Lookup = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Resolves as the system does, and lets through only the addresses the policy allows.
#[derive(Clone)]
pub(crate) struct GuardedResolver {
    policy: NetworkPolicy,
    /// For plain http: whatever the name says, the connection must not leave the machine.
    loopback_only: bool,
    lookup: Arc<Lookup>,
}

impl GuardedResolver {
    pub(crate) fn for_url(url: &Url, policy: NetworkPolicy) -> Self {
        Self {
            policy,
            loopback_only: url.scheme() == "http",
            lookup: Arc::new(|name| {
                Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
            }),
        }
    }

    /// Resolves every name to these addresses.
    #[cfg(test)]
    pub(crate) fn answering(policy: NetworkPolicy, answer: &[&str]) -> Self {
        let answer: Vec<SocketAddr> = answer
            .iter()
            .map(|ip| SocketAddr::new(ip.parse().unwrap(), 0))
            .collect();
        let lookup = move |_| {
            let answer = Ok(answer.clone());
            Box::pin(async move { answer }) as BoxFuture<'static, _>
        };
        Self {
            policy,
            loopback_only: false,
            lookup: Arc::new(lookup),
        }
    }

    fn filter(&self, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
        let mut refused = None;
        let mut allowed = Vec::new();
        for address in addresses {
            let verdict = check_address(address.ip(), self.policy).and_then(|()| {
                if self.loopback_only && !address.ip().is_loopback() {
                    return Err(Refused {
                        reason: "plain http must not leave this machine",
                    });
                }
                Ok(())
            });
            match verdict {
                Ok(()) => allowed.push(address),
                Err(reason) => refused = Some(reason),
            }
        }
        match refused {
            Some(refused) if allowed.is_empty() => Err(refused),
            _ => Ok(allowed),
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = (resolver.lookup)(name.as_str().to_owned()).await?;
            let allowed = resolver.filter(found)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: NetworkPolicy = NetworkPolicy {
        allow_http_loopback: false,
        allow_private: false,
    };
    const LOOPBACK: NetworkPolicy = NetworkPolicy {
        allow_http_loopback: true,
        allow_private: false,
    };
    const PRIVATE: NetworkPolicy = NetworkPolicy {
        allow_http_loopback: false,
        allow_private: true,
    };

    #[test]
    fn addresses_are_judged_in_every_form() {
        // address, allowed by: strict, loopback, private
        for (address, expected) in [
            ("8.8.8.8", [true, true, true]),
            ("127.0.0.1", [false, true, false]),
            ("127.8.9.10", [false, true, false]),
            ("::1", [false, true, false]),
            ("::ffff:127.0.0.1", [false, true, false]),
            ("10.1.2.3", [false, false, true]),
            ("172.16.0.1", [false, false, true]),
            ("172.32.0.1", [true, true, true]),
            ("192.168.1.1", [false, false, true]),
            ("100.64.0.1", [false, false, true]),
            ("::ffff:10.0.0.1", [false, false, true]),
            ("::10.0.0.1", [false, false, true]),
            ("64:ff9b::10.0.0.1", [false, false, true]),
            ("64:ff9b::8.8.8.8", [true, true, true]),
            ("2002:0a00:0001::1", [false, false, true]),
            ("fd12:3456::1", [false, false, true]),
            ("169.254.169.254", [false; 3]),
            ("::ffff:169.254.169.254", [false; 3]),
            ("64:ff9b::169.254.169.254", [false; 3]),
            ("64:ff9b:1::1", [false; 3]),
            ("2002:a9fe:a9fe::1", [false; 3]),
            ("fe80::1", [false; 3]),
            ("fd00:ec2::254", [false; 3]),
            ("100.100.100.200", [false; 3]),
            ("168.63.129.16", [false; 3]),
            ("0.0.0.0", [false; 3]),
            ("::", [false; 3]),
            ("224.0.0.1", [false; 3]),
            ("255.255.255.255", [false; 3]),
            ("192.0.2.1", [false; 3]),
            ("2001:db8::1", [false; 3]),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", [false; 3]),
            ("ff02::1", [false; 3]),
            ("2606:4700::1111", [true, true, true]),
        ] {
            let ip: IpAddr = address.parse().unwrap();
            let verdicts = [STRICT, LOOPBACK, PRIVATE].map(|policy| check_address(ip, policy).is_ok());
            assert_eq!(verdicts, expected, "{address}");
        }
    }

    #[test]
    fn base_urls_are_judged() {
        for (url, policy, allowed) in [
            ("https://api.example.com/v1", STRICT, true),
            ("https://api.example.com:8443/v1/", STRICT, true),
            ("http://api.example.com/v1", LOOPBACK, false),
            ("http://127.0.0.1:9000/v1", LOOPBACK, true),
            ("http://localhost:9000/v1", LOOPBACK, true),
            ("http://[::1]:9000/v1", LOOPBACK, true),
            ("http://127.0.0.1:9000/v1", STRICT, false),
            ("https://127.0.0.1/v1", STRICT, false),
            ("https://localhost/v1", STRICT, false),
            ("https://localhost./v1", STRICT, false),
            ("http://10.0.0.1/v1", PRIVATE, false),
            ("https://10.0.0.1/v1", PRIVATE, true),
            ("https://10.0.0.1/v1", STRICT, false),
            // The URL parser knows that these are IPv4 addresses too.
            ("https://2852039166/v1", PRIVATE, false),
            ("https://0xa9.0xfe.0xa9.0xfe/v1", PRIVATE, false),
            ("https://[::ffff:169.254.169.254]/v1", PRIVATE, false),
            ("https://user:pass@api.example.com/v1", STRICT, false),
            ("https://api.example.com/v1?key=1", STRICT, false),
            ("ftp://api.example.com/v1", STRICT, false),
            ("file:///etc/passwd", STRICT, false),
            ("api.example.com", STRICT, false),
            ("", STRICT, false),
        ] {
            assert_eq!(check_base_url(url, policy).is_ok(), allowed, "{url}");
        }
        let url = check_base_url("https://api.example.com/v1///", STRICT).unwrap();
        assert_eq!(url.as_str(), "https://api.example.com/v1");
    }

    fn resolver(policy: NetworkPolicy, loopback_only: bool, answer: &[&str]) -> GuardedResolver {
        GuardedResolver {
            loopback_only,
            ..GuardedResolver::answering(policy, answer)
        }
    }

    async fn resolve(resolver: &GuardedResolver) -> Result<Vec<IpAddr>, String> {
        let name: Name = "provider.example".parse().unwrap();
        match resolver.resolve(name).await {
            Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn a_name_that_resolves_inwards_is_refused() {
        let error = resolve(&resolver(STRICT, false, &["169.254.169.254"]))
            .await
            .unwrap_err();
        assert!(error.contains("not allowed"), "{error}");
        let mixed = resolve(&resolver(STRICT, false, &["10.0.0.1", "8.8.8.8"]))
            .await
            .unwrap();
        assert_eq!(mixed, ["8.8.8.8".parse::<IpAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn plain_http_stays_on_this_machine_whatever_its_name_resolves_to() {
        assert!(resolve(&resolver(LOOPBACK, true, &["8.8.8.8"])).await.is_err());
        assert!(resolve(&resolver(LOOPBACK, true, &["127.0.0.1"])).await.is_ok());
    }
}
