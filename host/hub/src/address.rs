//! Which addresses a hub may send us to.
//!
//! A redirect makes this process ask an address that somebody else chose. From inside a cluster, that reaches what the
//! hub cannot: the services of this machine, of its network, and the cloud's metadata service, which hands credentials
//! to whoever asks. So:
//!
//! - the endpoint's own host may be anything: the operator chose it;
//! - a redirect to a link-local address or a known metadata service is refused, and a *name* that resolves to one is
//!   refused for every request;
//! - a redirect to a loopback or private address is refused unless the endpoint itself is on one (an inner mirror with
//!   an inner store), be it by number or by what its name resolves to.
//!
//! A name that resolves to a private address is let through: in many companies that is how a store or proxy is reached,
//! and nothing that an answer says is believed before its digest is right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Host;

use crate::endpoint::Endpoint;

/// How far away an address is. The order is that of what a redirect from afar may not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Public,
    Private,
    /// This link only, where clouds put their metadata services.
    Link,
}

/// Why a redirect may not lead to a host, if so.
pub(crate) async fn wrong_with_target(endpoint: &Endpoint, target: &Host<&str>) -> Option<&'static str> {
    if endpoint.host().as_ref() == Some(target) {
        return None;
    }
    match reach(target) {
        Reach::Public => None,
        Reach::Private if is_private(endpoint).await => None,
        Reach::Private => Some("it leads to a private address, and the endpoint is not on one"),
        Reach::Link => Some("it leads to a link-local address or a metadata service"),
    }
}

/// Whether a host is this machine by form: `localhost`, a name below it, or a loopback address.
pub(crate) fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => is_localhost(name),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.to_canonical().is_loopback(),
    }
}

/// A name is as far away as its addresses, but only for the endpoint is it worth asking.
async fn is_private(endpoint: &Endpoint) -> bool {
    let Some(host) = endpoint.host() else { return false };
    if reach(&host) != Reach::Public {
        return true;
    }
    let Host::Domain(name) = host else { return false };
    let Ok(found) = tokio::net::lookup_host((name, endpoint.port().unwrap_or(443))).await else { return false };
    found.into_iter().any(|it| reach_of(it.ip()) != Reach::Public)
}

fn reach(host: &Host<&str>) -> Reach {
    match host {
        Host::Domain(name) if is_localhost(name) => Reach::Private,
        Host::Domain(_) => Reach::Public,
        Host::Ipv4(address) => reach_of(IpAddr::V4(*address)),
        Host::Ipv6(address) => reach_of(IpAddr::V6(*address)),
    }
}

fn reach_of(address: IpAddr) -> Reach {
    match embedded(address) {
        IpAddr::V4(address) => reach_of_v4(address),
        IpAddr::V6(address) => reach_of_v6(address),
    }
}

fn reach_of_v4(address: Ipv4Addr) -> Reach {
    /// Metadata services outside 169.254/16: Alibaba Cloud, Azure's wire server, Oracle Cloud.
    const METADATA: [[u8; 4]; 3] = [[100, 100, 100, 200], [168, 63, 129, 16], [192, 0, 0, 192]];
    let octets = address.octets();
    // 100.64/10 is shared address space: carriers, and the pods of some clusters.
    let is_shared = octets[0] == 100 && octets[1] & 0b1100_0000 == 64;
    if address.is_link_local() || METADATA.contains(&octets) {
        Reach::Link
    } else if address.is_private() || address.is_loopback() || is_shared || octets[0] == 0 || octets[0] >= 224 {
        Reach::Private
    } else {
        Reach::Public
    }
}

fn reach_of_v6(address: Ipv6Addr) -> Reach {
    /// Amazon's metadata service and its neighbours: `fd00:ec2::/32`.
    const METADATA: [u16; 2] = [0xfd00, 0x0ec2];
    if address.is_unicast_link_local() || address.segments()[..2] == METADATA {
        Reach::Link
    } else if address.is_unique_local() || address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        Reach::Private
    } else {
        Reach::Public
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped (`::ffff:`), NAT64 (`64:ff9b::`), 6to4 (`2002:`).
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [a, b, .., y, z] = v6.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into();
    match (a, b) {
        (0x64, 0xff9b) => v4(y, z),
        (0x2002, _) => v4(b, v6.segments()[2]),
        _ => v6.to_canonical(),
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// The system's resolver, less the addresses that no hub, CDN or proxy has.
#[derive(Debug)]
pub(crate) struct Resolver;

/// Why a name led nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("the name does not resolve: {0}")]
    Unknown(std::io::Error),
    #[error("the name resolves to {0} only, a link-local address or a metadata service")]
    LinkOnly(IpAddr),
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(ResolveError::Unknown)?;
            Ok(reachable(found.collect())?)
        })
    }
}

fn reachable(found: Vec<SocketAddr>) -> Result<Addrs, ResolveError> {
    let (refused, reachable): (Vec<_>, Vec<_>) = found.into_iter().partition(|it| reach_of(it.ip()) == Reach::Link);
    match (reachable.is_empty(), refused.first()) {
        (true, Some(link)) => Err(ResolveError::LinkOnly(link.ip())),
        _ => Ok(Box::new(reachable.into_iter())),
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    async fn check(endpoint: &str, target: &str, is_allowed: bool) {
        let parsed = Endpoint::parse(endpoint).expect("an endpoint");
        let url = Url::parse(target).expect("a URL");
        let wrong = wrong_with_target(&parsed, &url.host().expect("a host")).await;
        assert_eq!(wrong.is_none(), is_allowed, "{endpoint} -> {target}: {wrong:?}");
    }

    #[tokio::test]
    async fn a_public_hub_cannot_send_us_to_inner_addresses() {
        // By number, so that no resolver is asked.
        let hub = "https://203.0.113.7";
        for public in ["https://cdn.example/x", "https://8.8.8.8/", "https://[2606:4700::1]/", "https://100.128.0.1/"] {
            check(hub, public, true).await;
        }
        for inner in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://localhost:8080/",
            "http://LOCALHOST./",
            "http://a.localhost/",
            "http://10.1.2.3/",
            "http://172.16.0.1/",
            "http://192.168.1.1/",
            "http://100.64.0.1/",
            "http://0.0.0.0/",
            "http://255.255.255.255/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:10.0.0.1]/",
            "http://[64:ff9b::10.0.0.1]/",
            "http://[2002:a00:1::]/",
            "http://[fd12::1]/",
            "http://169.254.169.254/latest/meta-data",
            "http://[fe80::1]/",
        ] {
            check(hub, inner, false).await;
        }
    }

    #[tokio::test]
    async fn an_inner_hub_may_use_inner_stores_but_no_metadata_service() {
        for hub in ["http://10.0.0.5:8080", "http://127.0.0.1:1", "http://localhost:1"] {
            check(hub, "http://10.1.2.3:9000/", true).await;
            check(hub, "http://127.0.0.2:9000/", true).await;
            for metadata in [
                "http://169.254.169.254/",
                "http://[fd00:ec2::254]/",
                "http://100.100.100.200/",
                "http://168.63.129.16/",
                "http://192.0.0.192/",
                "http://[::ffff:169.254.169.254]/",
            ] {
                check(hub, metadata, false).await;
            }
        }
        check("http://169.254.1.1", "http://169.254.1.1/x", true).await;
        check("http://169.254.1.1", "http://169.254.169.254/x", false).await;
    }

    #[test]
    fn a_name_of_the_metadata_service_leads_nowhere() {
        let socket = |given: &str| given.parse::<SocketAddr>().expect("an address");
        let metadata = socket("169.254.169.254:0");
        assert!(matches!(reachable(vec![metadata]), Err(ResolveError::LinkOnly(ip)) if ip == metadata.ip()));
        let both = reachable(vec![metadata, socket("10.0.0.1:0")]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(both.collect::<Vec<_>>(), [socket("10.0.0.1:0")]);
    }
}
