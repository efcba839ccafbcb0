//! The demo's client: indexes a folder of documents through the API and shows what happened.

fn main() {}
