//! The programs of the demo: with which settings they are started, in which order, and how to reach them.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::secret::provider_secrets_key;
use super::{DOMAIN, Home};
use crate::failure::{Failure, Result, Trying};
use crate::mariadb;
use crate::ready::{Program, accepts, answers_ok, free_address};
use crate::run::Run;

const START_WITHIN: Duration = Duration::from_secs(30);
/// The emulator takes any key; this one is no secret.
const EMULATOR_KEY: &str = "sk-emulator-demo";

/// An account at a real provider.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) url: String,
    pub(crate) key: String,
}

/// Everything that runs, and what a client needs to know about it.
#[derive(Debug)]
pub(crate) struct System {
    programs: Vec<Program>,
    api: SocketAddr,
    emulator: Option<SocketAddr>,
    provider_type: &'static str,
    account: Account,
    admin_key: String,
    service_key: String,
}

impl System {
    pub(crate) fn start(
        run: &Run,
        binaries: &Path,
        home: &Home,
        database_uri: &str,
        account: Option<Account>,
    ) -> Result<Self> {
        let mut programs = Vec::new();
        let (provider_type, account, emulator) = if let Some(account) = account {
            ("openai", account, None)
        } else {
            let address = free_address(8090)?;
            let log = home.logs.join("emulator.log");
            let mut command = run.background(binaries.join("rag-emulator"), &log)?;
            command.args(["--listen", &address.to_string()]);
            let mut program = run.spawn("rag-emulator", command, &log)?;
            program.wait_until(START_WITHIN, || accepts(address))?;
            programs.push(program);
            let account = Account {
                url: format!("http://{address}/v1"),
                key: EMULATOR_KEY.to_owned(),
            };
            ("sentralix", account, Some(address))
        };

        let api = free_address(8080)?;
        let worker = free_address(9091)?;
        let secrets_key = provider_secrets_key(&home.secrets_key)?;
        let with_settings = |mut command: Command| {
            command
                .env(mariadb::VARIABLE, database_uri)
                .env("FILES_ROOT", &home.files)
                .env("PROVIDER_SECRETS_KEY", &secrets_key)
                .env(
                    "PROVIDER_ALLOW_LOOPBACK_HTTP",
                    if emulator.is_some() { "true" } else { "false" },
                )
                .env("API_LISTEN", api.to_string())
                .env("API_AUTH", "keys")
                .env("WORKER_LISTEN", worker.to_string())
                // The emulator indexes in milliseconds; somebody is watching.
                .env(
                    "BUILD_POLL_MIN_MS",
                    if emulator.is_some() { "200" } else { "1000" },
                )
                .env("LOG_FORMAT", "text");
            command
        };
        let rag_api = |args: &[&str]| {
            let mut command = with_settings(run.command(binaries.join("rag-api")));
            command.args(args);
            output(command, args)
        };
        rag_api(&["migrate"])?;
        let admin_key = rag_api(&["keys", "create", "--name", "demo-admin", "--role", "admin"])?;
        let service_key = rag_api(&[
            "keys",
            "create",
            "--name",
            "demo-service",
            "--role",
            "service",
            "--domain",
            DOMAIN,
        ])?;

        let log = home.logs.join("api.log");
        let mut command = with_settings(run.background(binaries.join("rag-api"), &log)?);
        command.arg("serve");
        programs.push(run.spawn("rag-api", command, &log)?);
        let log = home.logs.join("worker.log");
        let command = with_settings(run.background(binaries.join("rag-worker"), &log)?);
        programs.push(run.spawn("rag-worker", command, &log)?);
        for program in &mut programs {
            match program.name {
                "rag-api" => program.wait_until(START_WITHIN, || answers_ok(api, "/health/ready"))?,
                "rag-worker" => program.wait_until(START_WITHIN, || accepts(worker))?,
                _ => {}
            }
        }
        Ok(Self {
            programs,
            api,
            emulator,
            provider_type,
            account,
            admin_key,
            service_key,
        })
    }

    /// The client, with everything but the folder. Keys go by the environment: arguments can be read by others.
    pub(crate) fn client(&self, run: &Run, binaries: &Path) -> Command {
        let mut client = run.command(binaries.join("rag-demo"));
        client
            .args(["--api", &format!("http://{}", self.api), "--domain", DOMAIN])
            .args([
                "--provider-type",
                self.provider_type,
                "--provider-url",
                &self.account.url,
            ])
            .env("RAG_DEMO_ADMIN_KEY", &self.admin_key)
            .env("RAG_DEMO_SERVICE_KEY", &self.service_key)
            .env("RAG_DEMO_PROVIDER_KEY", &self.account.key);
        if let Some(emulator) = self.emulator {
            client.args(["--emulator-control", &format!("http://{emulator}")]);
        }
        client
    }

    /// A failure if one of the programs ended.
    pub(crate) fn ended(&mut self) -> Option<Failure> {
        self.programs.iter_mut().find_map(Program::ended)
    }

    /// Addresses and lines to paste.
    pub(crate) fn how_to_try(&self, logs: &Path) -> String {
        let Self {
            api,
            admin_key,
            service_key,
            ..
        } = self;
        let mut text = format!(
            "Everything is running. Ctrl-C stops it and removes its data.\n\n\
             API          http://{api}\n\
             Swagger UI   http://{api}/docs\n"
        );
        if let Some(emulator) = self.emulator {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "Emulator     http://{emulator}/v1 (its ledger: http://{emulator}/_emulator/ledger)"
            );
        }
        let _ = write!(
            text,
            "Logs         {}\n\n\
             To try:\n  \
             A=http://{api}  KEY={service_key}  ADMIN={admin_key}\n  \
             curl -sH \"Authorization: Bearer $KEY\" -H 'X-Domain-Id: {DOMAIN}' $A/api/v1/indexes\n  \
             ID=…        # an index's id from there\n  \
             curl -sH \"Authorization: Bearer $KEY\" -H 'X-Domain-Id: {DOMAIN}' $A/api/v1/indexes/$ID/status\n  \
             curl -sH \"Authorization: Bearer $KEY\" -H 'X-Domain-Id: {DOMAIN}' $A/api/v1/indexes/$ID/provider-files\n  \
             curl -sH \"Authorization: Bearer $KEY\" -H 'X-Domain-Id: {DOMAIN}' -X POST -i $A/api/v1/indexes/$ID/build\n  \
             curl -sH \"Authorization: Bearer $ADMIN\" $A/api/v1/admin/providers/connections",
            logs.display()
        );
        text
    }
}

/// The last line that a command prints; its complaints if it fails.
fn output(mut command: Command, args: &[&str]) -> Result<String> {
    let shown = format!("rag-api {}", args.join(" "));
    let output = command.output().trying(|| format!("start {shown}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!(
            "{shown} failed ({}): {}",
            output.status,
            complaint.trim()
        )));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().last().unwrap_or_default().trim().to_owned())
}
