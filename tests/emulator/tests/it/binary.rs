//! The program: its ready line, its options, its end.

use reqwest::multipart;
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

struct Running {
    child: Child,
    url: String,
}

impl Running {
    fn start(temporary: &std::path::Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rag-emulator"))
            .args(arguments)
            .env("TMPDIR", temporary)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line
            .trim()
            .strip_prefix("rag-emulator listening on ")
            .unwrap()
            .to_owned();
        assert!(
            url.starts_with("http://127.0.0.1:") && url.ends_with("/v1"),
            "{url}"
        );
        Self { child, url }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn it_ends_at_once_and_leaves_nothing_behind() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::new();
    for signal in ["-TERM", "-INT"] {
        let temporary = tempfile::tempdir().unwrap();
        let mut running = Running::start(
            temporary.path(),
            &["--indexing-ms-base", "60000", "--api-key", "key"],
        );
        let origin = running.url.trim_end_matches("/v1").to_owned();
        let bytes = vec![b'x'; 1 << 20];
        let form = multipart::Form::new()
            .text("purpose", "assistants")
            .part("file", multipart::Part::bytes(bytes).file_name("big.txt"));
        let upload = http
            .post(format!("{}/files", running.url))
            .bearer_auth("key")
            .multipart(form);
        let file: Value = upload.send().await.unwrap().json().await.unwrap();
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);

        // Work that will not end, and a request that is never answered, hold nothing up.
        let store = http
            .post(format!("{}/vector_stores", running.url))
            .bearer_auth("key");
        store
            .json(&json!({ "file_ids": [file["id"]] }))
            .send()
            .await
            .unwrap()
            .error_for_status()
            .unwrap();
        let hang = json!({ "then": { "action": "lose_answer", "how": "hang" } });
        http.post(format!("{origin}/_emulator/faults"))
            .json(&hang)
            .send()
            .await
            .unwrap();
        let waiting = tokio::spawn(
            http.get(format!("{}/models", running.url))
                .bearer_auth("key")
                .send(),
        );
        tokio::time::sleep(Duration::from_millis(100)).await;

        let started = Instant::now();
        running.signal(signal);
        let status = running.child.wait().unwrap();
        assert!(
            status.success() && started.elapsed() < Duration::from_secs(10),
            "{:?}",
            started.elapsed()
        );
        assert!(waiting.await.unwrap().is_err());
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
    }
}
