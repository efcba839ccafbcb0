//! How many chunks the provider made of each file. The protocol does not tell; the emulator does, in the picture of its
//! whole state that it gives for tests and demonstrations.

use std::collections::HashMap;

use reqwest::Client;
use serde::Deserialize;

use crate::api::answer;
use crate::error::DemoError;

#[derive(Debug, Deserialize)]
struct State {
    stores: Vec<Store>,
}

#[derive(Debug, Deserialize)]
struct Store {
    id: String,
    files: Vec<StoreFile>,
}

#[derive(Debug, Deserialize)]
struct StoreFile {
    filename: String,
    chunks: u64,
}

/// Chunks by file name at the provider, for one vector store.
pub(crate) async fn per_file(
    http: &Client,
    control: &str,
    store: &str,
) -> Result<HashMap<String, u64>, DemoError> {
    let url = format!("{}/_emulator/state", control.trim_end_matches('/'));
    let state: State = answer("asking the emulator for its state", http.get(url)).await?;
    Ok(of_store(state, store))
}

fn of_store(state: State, store: &str) -> HashMap<String, u64> {
    let stores = state.stores.into_iter().filter(|found| found.id == store);
    stores
        .flat_map(|found| found.files)
        .map(|file| (file.filename, file.chunks))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_files_of_the_store_count() {
        let json = r#"{"files": [], "stores": [
            {"id": "vs_1", "files": [{"filename": "a.md", "chunks": 3, "status": "completed"}]},
            {"id": "vs_2", "files": [{"filename": "a.md", "chunks": 9}, {"filename": "b.md", "chunks": 1}]}
        ]}"#;
        let state: State = serde_json::from_str(json).unwrap();
        assert_eq!(of_store(state, "vs_1"), HashMap::from([("a.md".to_owned(), 3)]));
    }
}
