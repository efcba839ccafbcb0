//! A vector-store provider that speaks the OpenAI protocol, keeps a ledger and injects faults.

fn main() {}
