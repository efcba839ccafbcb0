//! Who may have a connection: so many in all, and so many from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::limits::Caps;
use rag_telemetry::Growing;

const OPEN: &str = "rag_http_connections";
const REFUSED: &str = "rag_http_connections_refused_total";

/// The bits of an IPv6 address that a provider gives to one customer.
const CUSTOMER: u128 = !(u64::MAX as u128);

/// The connections that are open.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    caps: Caps,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    refusals: Growing,
}

/// One open connection; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Admission,
    address: IpAddr,
}

impl Admission {
    pub(crate) fn new(caps: Caps) -> Self {
        metrics::describe_gauge!(OPEN, "Open HTTP connections");
        metrics::describe_counter!(
            REFUSED,
            "HTTP connections that were closed at once, by the cap that they broke: all or address"
        );
        metrics::gauge!(OPEN).set(0.0);
        for cap in ["all", "address"] {
            metrics::counter!(REFUSED, "cap" => cap).absolute(0);
        }
        Self(Arc::new(Inner {
            caps,
            open: Mutex::default(),
        }))
    }

    /// `None`: there are too many; that is noted here.
    pub(crate) fn admit(&self, peer: IpAddr) -> Option<Admitted> {
        let address = customer(peer);
        let Caps { all, per_address } = self.0.caps;
        let mut open = self.open();
        let own = open.by_address.get(&address).copied().unwrap_or_default();
        let cap = if open.all >= all {
            "all"
        } else if own >= per_address {
            "address"
        } else {
            open.all += 1;
            open.by_address.insert(address, own + 1);
            metrics::gauge!(OPEN).increment(1.0);
            return Some(Admitted {
                admission: self.clone(),
                address,
            });
        };
        metrics::counter!(REFUSED, "cap" => cap).increment(1);
        if let Some(refused) = open.refusals.due(Instant::now()) {
            tracing::warn!(
                refused,
                open = open.all,
                max = all,
                most_per_address = per_address,
                latest = %peer,
                broken = cap,
                "too many connections: what comes on top is closed at once"
            );
        }
        None
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.admission.open();
        open.all -= 1;
        if let Some(own) = open.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                open.by_address.remove(&self.address);
            }
        }
        metrics::gauge!(OPEN).decrement(1.0);
    }
}

/// What counts as one address.
fn customer(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & CUSTOMER)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_leaves_room_for_others_and_all_together_have_an_end() {
        let admission = Admission::new(Caps {
            all: 5,
            per_address: 2,
        });
        let mut admitted = vec![
            admission.admit(ip("10.0.0.1")),
            admission.admit(ip("::ffff:10.0.0.1")),
        ];
        assert!(admission.admit(ip("10.0.0.1")).is_none());
        admitted.push(admission.admit(ip("2001:db8::1")));
        admitted.push(admission.admit(ip("2001:db8::ffff:1")));
        assert!(admission.admit(ip("2001:db8::2")).is_none(), "the same /64");
        admitted.push(admission.admit(ip("2001:db8:0:1::1")));
        assert!(admitted.iter().all(Option::is_some));
        assert!(admission.admit(ip("10.0.0.2")).is_none(), "all are taken");

        admitted.remove(0);
        assert!(admission.admit(ip("10.0.0.2")).is_some());
        admitted.clear();
        let open = admission.open();
        assert_eq!((open.all, open.by_address.len()), (0, 0));
    }
}
