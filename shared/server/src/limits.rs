//! What a server's connections may cost.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::rate::LeastRate;

/// What a server's connections may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Of the head of a request, and of pieces in which bodies are read; larger heads are answered with 431.
    pub max_header_bytes: usize,
    /// Until the whole head of a connection's first request has arrived.
    pub first_request: Duration,
    /// Until the whole head of the next one has arrived, after an answer.
    pub next_request: Duration,
    /// Open at once; never more than half of the process's file descriptors.
    pub max_connections: usize,
    /// From one address, which is a /64 of IPv6; `None`: half of all.
    pub max_connections_per_address: Option<usize>,
    /// How slowly answers may be taken.
    pub answers: LeastRate,
}

/// The caps that hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caps {
    pub(crate) all: usize,
    pub(crate) per_address: usize,
}

impl Limits {
    /// `descriptors` is how many the process may have.
    pub(crate) fn caps(&self, descriptors: usize) -> Caps {
        let all = self.max_connections.min(descriptors / 2).max(1);
        let per_address = self.max_connections_per_address.unwrap_or(all / 2);
        Caps {
            all,
            per_address: per_address.clamp(1, all),
        }
    }
}

/// How many file descriptors the process may have, once its own limit is as high as the system lets it be. The usual
/// default of 1024 is meant for programs that call `select`.
pub(crate) fn descriptors() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let allowed = if current != maximum && setrlimit(Resource::Nofile, raised).is_ok() {
        maximum
    } else {
        current
    };
    allowed.map_or(usize::MAX, |allowed| {
        usize::try_from(allowed).unwrap_or(usize::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_has_all_connections_unless_it_is_said_and_descriptors_are_left() {
        let mut limits = Limits {
            max_header_bytes: 8192,
            first_request: Duration::from_secs(1),
            next_request: Duration::from_secs(1),
            max_connections: 1000,
            max_connections_per_address: None,
            answers: LeastRate {
                idle: Duration::from_secs(1),
                bytes_per_second: 0,
            },
        };
        let caps = |limits: &Limits, descriptors| {
            let Caps { all, per_address } = limits.caps(descriptors);
            (all, per_address)
        };
        assert_eq!(caps(&limits, 1 << 20), (1000, 500));
        assert_eq!(caps(&limits, 200), (100, 50));
        assert_eq!(caps(&limits, 1), (1, 1));
        limits.max_connections_per_address = Some(1000);
        assert_eq!(caps(&limits, 1 << 20), (1000, 1000));
        assert_eq!(caps(&limits, 200), (100, 100));
    }
}
