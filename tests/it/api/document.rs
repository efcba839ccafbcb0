//! The document against the server: a typed client that is generated from it, and requests of all kinds that are made up
//! from it. Ignored unless asked for, because the tools are Python's: `tests/api/tools.sh` installs them.

use std::path::{Path, PathBuf};
use std::process::Output;

use rag_emulator::Emulator;
use rag_tests::{DOMAIN, PROVIDER_KEY, Stack};
use serde_json::{Value, json};
use tokio::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A program that `tests/api/tools.sh` has installed.
fn tool(name: &str) -> Command {
    let folder = root().join(".local/api-tools/bin");
    assert!(folder.join(name).is_file(), "run tests/api/tools.sh first");
    let mut command = Command::new(folder.join(name));
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{}:{path}", folder.display()))
        .kill_on_drop(true);
    command
}

fn text(output: &Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    format!("{out}\n{err}")
}

/// Generates a client and checks it together with its user; the error is what the tools said.
async fn typed_client(document: &Value, folder: &Path) -> Result<(), String> {
    let path = folder.join("openapi.json");
    std::fs::write(&path, document.to_string()).unwrap();
    let mut generate = tool("openapi-python-client");
    generate.args([
        "generate",
        "--fail-on-warning",
        "--overwrite",
        "--meta",
        "none",
        "--path",
    ]);
    generate.arg(&path).arg("--output-path");
    let generated = generate
        .arg(folder.join("rag_indexer_client"))
        .output()
        .await
        .unwrap();
    if !generated.status.success() {
        return Err(text(&generated));
    }
    std::fs::copy(
        root().join("tests/api/use_client.py"),
        folder.join("use_client.py"),
    )
    .unwrap();
    let mut check = tool("mypy");
    check
        .args(["--no-error-summary", "--config-file"])
        .arg(root().join("tests/api/mypy.ini"));
    check.arg("use_client.py").current_dir(folder);
    let checked = check.output().await.unwrap();
    if checked.status.success() {
        Ok(())
    } else {
        Err(text(&checked))
    }
}

#[tokio::test]
#[ignore = "needs the tools of tests/api"]
async fn a_generated_client_is_typed_and_works() {
    let stack = Stack::start().await;
    let _worker = stack.worker("worker");
    let document = stack.client.get("/openapi.json").await.expect(200);
    let folder = tempfile::tempdir().unwrap();
    typed_client(&document, folder.path()).await.unwrap();

    let mut used = tool("python");
    used.arg("use_client.py").current_dir(folder.path());
    used.env("API", &stack.api_url)
        .env("KEY", stack.client.key())
        .env("DOMAIN", DOMAIN);
    let used = used.output().await.unwrap();
    assert!(used.status.success(), "{}", text(&used));
}

/// The test above can fail: each of these is a mistake that a handler's description can have.
#[tokio::test]
#[ignore = "needs the tools of tests/api"]
async fn a_bad_document_makes_no_client() {
    let document: Value = serde_json::from_str(include_str!("../../../api/openapi.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    typed_client(&document, folder.path()).await.unwrap();
    for (pointer, wrong) in [
        (
            "/components/schemas/File/properties/size_bytes",
            json!({"type": "string"}),
        ),
        (
            "/components/schemas/Index/properties/indexing_status",
            json!({"$ref": "#/components/schemas/Gone"}),
        ),
        (
            "/paths/~1api~1v1~1indexes~1{index_id}~1status/get/operationId",
            json!("get_job"),
        ),
        (
            "/paths/~1api~1v1~1files/post/requestBody/content/multipart~1form-data/schema",
            json!({"type": "string"}),
        ),
    ] {
        let mut document = document.clone();
        *document.pointer_mut(pointer).unwrap() = wrong;
        let folder = tempfile::tempdir().unwrap();
        let checked = typed_client(&document, folder.path()).await;
        assert!(checked.is_err(), "nobody minds {pointer}");
    }
}

/// `SCHEMATHESIS` adds options, `--max-examples 500` for instance.
#[tokio::test]
#[ignore = "needs the tools of tests/api"]
async fn made_up_requests_find_nothing() {
    let stack = Stack::builder()
        .emulator(Emulator::builder().indexing(5, 0.0))
        .start()
        .await;
    let _worker = stack.worker("worker");
    let folder = tempfile::tempdir().unwrap();
    let mut run = tool("schemathesis");
    run.arg("--config-file")
        .arg(root().join("tests/api/schemathesis.toml"));
    run.arg("run")
        .arg(format!("{}/api/v1/openapi.json", stack.api_url));
    run.args(
        std::env::var("SCHEMATHESIS")
            .iter()
            .flat_map(|options| options.split_whitespace()),
    );
    run.env("PROVIDER", stack.emulator.url())
        .env("PROVIDER_KEY", PROVIDER_KEY);
    run.env("KEY", stack.admin.key()).current_dir(folder.path());
    run.env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", root().join("tests/api"));
    let status = run.status().await.unwrap();
    let logs = stack.logs();
    let panics: Vec<&str> = logs.lines().filter(|line| line.contains("panicked")).collect();
    assert!(panics.is_empty(), "{panics:#?}");
    assert!(status.success(), "what schemathesis found is above");
}
