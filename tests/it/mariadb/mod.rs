//! Servers and accounts of MariaDB: how programs log in, what they refuse, and outages.

mod accounts;
mod outage;
mod refusals;
mod rights;
mod settings;
mod switchover;
mod tls;
