//! The command line: what may be said, and the help. Nothing is checked against the machine here.

use std::path::PathBuf;

use crate::failure::{Failure, Result};
use crate::mariadb::{Choice, Transport, Version};

pub(crate) const HELP: &str = "\
cargo xtask demo [--keep] [--provider emulator|openai] [--query TEXT] [--mariadb VERSION] [--over tls] [FOLDER]
    Indexes the documents of FOLDER (default: this repository's own) through the real API, queue and worker, shows
    the progress, the result per file and a search answer.
      --keep             leave everything running afterwards, and print the addresses and curl lines to try;
                         Ctrl-C stops it
      --provider openai  use the account of OPENAI_API_KEY (OPENAI_BASE_URL changes the address) instead of the
                         emulator that comes with the repository; files and a vector store are created there
      --query TEXT       what to search for at the end (default: words from one of the documents)

cargo xtask test [--mariadb VERSION] [--over tls] [ARGS...]
    Runs all tests: `cargo nextest run --workspace` if cargo-nextest is installed, else `cargo test --workspace`,
    and then the doc tests. With ARGS, which go to the test runner as they are, only what they select runs.

cargo xtask faults [--minutes N] [--seed SEED] [--mariadb VERSION] [--over tls]
    Random faults at the provider, killed workers and edits by two tenants, for 10 minutes or N: once beside strangers who
    have files of the same names and sizes on the account, once on an account of our own. The tests run it for seconds.
    Prints its seed, which decides what is tried in which order.

cargo xtask providers [--server ogx|litellm|all] [ARGS...]
    Runs the end-to-end cases at servers that others wrote: OGX, and the LiteLLM proxy in front of it (default: both).
    Installs them once below .local/providers (needs Python 3.12 or newer; exit code 3 if there is none), starts them
    on loopback, and writes what they can do into docs/providers.md. ARGS are names of cases, or options of nextest.

All need MariaDB 10.11 or newer, and start a private instance of it (own data, own socket, no TCP port) that ends with
the command. Missing server programs are installed by apt: with root rights or password-less sudo as packages
mariadb-server-core and mariadb-client-core, which start no service; without them unpacked into .local/mariadb.

--mariadb VERSION
    A private instance of this version, 10.11 or 11.8, whatever is installed: unpacked from the Debian release that has it
    into .local/mariadb-VERSION.
--over tls
    Programs and tests reach the private instance at a port of 127.0.0.1, over TLS with a verified certificate, instead
    of at its socket.

DATABASE_URI=mysql://user:password@host:3306/name
    Use this server and start none. For the tests its account must be able to create and drop databases.
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Help,
    Demo(DemoOptions),
    /// With arguments for the test runner.
    Test(Choice, Vec<String>),
    Providers(ProvidersOptions),
    Faults(FaultsOptions),
    /// Internal: this program as the process that cleans up after another one.
    Keeper {
        run_id: String,
        folders: Vec<PathBuf>,
    },
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DemoOptions {
    pub(crate) keep: bool,
    pub(crate) provider: Provider,
    pub(crate) query: Option<String>,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) database: Choice,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ProvidersOptions {
    pub(crate) server: Server,
    /// Arguments for the test runner.
    pub(crate) args: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FaultsOptions {
    pub(crate) minutes: u64,
    /// `None`: another one each time.
    pub(crate) seed: Option<u64>,
    pub(crate) database: Choice,
}

/// Which servers the cases run at.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Server {
    #[default]
    All,
    Ogx,
    LiteLlm,
}

/// Where the demo's documents are indexed.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Provider {
    #[default]
    Emulator,
    OpenAi,
}

pub(crate) fn parse(args: impl IntoIterator<Item = String>) -> Result<Request> {
    let mut args = args.into_iter();
    match args.next().as_deref() {
        None | Some("help" | "--help" | "-h") => Ok(Request::Help),
        Some("demo") => parse_demo(args),
        Some("test") => parse_test(args),
        Some("providers") => parse_providers(args),
        Some("faults") => parse_faults(args),
        Some("keeper") => {
            let run_id = args
                .next()
                .ok_or_else(|| Failure::new("keeper is internal and needs a run id"))?;
            Ok(Request::Keeper {
                run_id,
                folders: args.map(PathBuf::from).collect(),
            })
        }
        Some(other) => Err(Failure::new(format!(
            "no command `{other}`; there are demo, test, providers and faults (see --help)"
        ))),
    }
}

/// Our own options come first; what follows is the runner's.
fn parse_test(args: impl Iterator<Item = String>) -> Result<Request> {
    let mut args = args.peekable();
    let mut choice = Choice::default();
    while let Some(option) = args.next_if(|arg| DATABASE_OPTIONS.contains(&arg.as_str())) {
        choose_database(&mut choice, &option, args.next().as_deref())?;
    }
    Ok(Request::Test(choice, args.collect()))
}

const DATABASE_OPTIONS: [&str; 2] = ["--mariadb", "--over"];

fn choose_database(choice: &mut Choice, option: &str, value: Option<&str>) -> Result<()> {
    if option == "--mariadb" {
        let version = value.and_then(Version::parse);
        choice.version = Some(version.ok_or_else(|| Failure::new("--mariadb takes a version, 11.8 say"))?);
    } else {
        choice.transport = match value {
            Some("tls") => Transport::Tls,
            Some("socket") => Transport::Socket,
            _ => return Err(Failure::new("--over takes tls or socket")),
        };
    }
    Ok(())
}

fn parse_providers(args: impl Iterator<Item = String>) -> Result<Request> {
    let mut options = ProvidersOptions::default();
    let mut args = args;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => return Ok(Request::Help),
            "--server" => {
                options.server = match args.next().as_deref() {
                    Some("ogx") => Server::Ogx,
                    Some("litellm") => Server::LiteLlm,
                    Some("all") => Server::All,
                    _ => return Err(Failure::new("--server takes ogx, litellm or all")),
                };
            }
            _ => options.args.push(arg),
        }
    }
    Ok(Request::Providers(options))
}

fn parse_faults(mut args: impl Iterator<Item = String>) -> Result<Request> {
    let mut options = FaultsOptions {
        minutes: 10,
        seed: None,
        database: Choice::default(),
    };
    while let Some(arg) = args.next() {
        let mut number = || {
            let number = args.next().and_then(|number| number.parse().ok());
            number.ok_or_else(|| Failure::new(format!("{arg} takes a number")))
        };
        match arg.as_str() {
            "--help" | "-h" => return Ok(Request::Help),
            "--minutes" => options.minutes = number()?,
            "--seed" => options.seed = Some(number()?),
            option if DATABASE_OPTIONS.contains(&option) => {
                choose_database(&mut options.database, option, args.next().as_deref())?;
            }
            other => {
                return Err(Failure::new(format!(
                    "faults has no option `{other}` (see cargo xtask --help)"
                )));
            }
        }
    }
    Ok(Request::Faults(options))
}

fn parse_demo(args: impl Iterator<Item = String>) -> Result<Request> {
    let mut options = DemoOptions::default();
    let mut args = args;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            option if DATABASE_OPTIONS.contains(&option) => {
                choose_database(&mut options.database, option, args.next().as_deref())?;
            }
            "--help" | "-h" => return Ok(Request::Help),
            "--keep" => options.keep = true,
            "--provider" => {
                options.provider = match args.next().as_deref() {
                    Some("emulator") => Provider::Emulator,
                    Some("openai") => Provider::OpenAi,
                    _ => return Err(Failure::new("--provider takes emulator or openai")),
                };
            }
            "--query" => {
                let query = args
                    .next()
                    .ok_or_else(|| Failure::new("--query takes the text to search for"))?;
                options.query = Some(query);
            }
            flag if flag.starts_with('-') => {
                return Err(Failure::new(format!(
                    "demo has no option `{flag}` (see cargo xtask --help)"
                )));
            }
            folder if options.folder.is_none() => options.folder = Some(folder.into()),
            extra => {
                return Err(Failure::new(format!(
                    "demo takes one folder, `{extra}` is a second one"
                )));
            }
        }
    }
    Ok(Request::Demo(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn nothing_and_help_print_the_help() {
        for line in ["", "help", "--help", "-h", "demo --help", "demo --keep -h"] {
            assert_eq!(parsed(line).unwrap(), Request::Help, "{line}");
        }
    }

    #[test]
    fn demo_takes_its_options_in_any_order() {
        let expected = Request::Demo(DemoOptions {
            keep: true,
            provider: Provider::OpenAi,
            query: Some("lease".to_owned()),
            folder: Some("docs".into()),
            ..DemoOptions::default()
        });
        assert_eq!(
            parsed("demo docs --keep --query lease --provider openai").unwrap(),
            expected
        );
        assert_eq!(
            parsed("demo --provider openai --query lease --keep docs").unwrap(),
            expected
        );
        assert_eq!(parsed("demo").unwrap(), Request::Demo(DemoOptions::default()));
    }

    #[test]
    fn test_passes_everything_through() {
        let args = ["-p", "rag-db", "--help"].map(str::to_owned).to_vec();
        let expected = Request::Test(Choice::default(), args);
        assert_eq!(parsed("test -p rag-db --help").unwrap(), expected);
    }

    #[test]
    fn both_take_a_version_and_a_way_to_it() {
        let database = Choice {
            version: Some(Version::new(11, 8)),
            transport: Transport::Tls,
        };
        assert_eq!(
            parsed("test --mariadb 11.8 --over tls -p rag-db --over").unwrap(),
            Request::Test(database, ["-p", "rag-db", "--over"].map(str::to_owned).to_vec())
        );
        let expected = Request::Demo(DemoOptions {
            database,
            ..DemoOptions::default()
        });
        assert_eq!(parsed("demo --over tls --mariadb 11.8").unwrap(), expected);
    }

    #[test]
    fn providers_takes_a_server_and_passes_the_rest_through() {
        let expected = Request::Providers(ProvidersOptions {
            server: Server::Ogx,
            args: vec!["killed".to_owned()],
        });
        assert_eq!(parsed("providers --server ogx killed").unwrap(), expected);
        let all = Request::Providers(ProvidersOptions::default());
        assert_eq!(parsed("providers").unwrap(), all);
    }

    #[test]
    fn faults_takes_a_time_and_a_seed() {
        let expected = Request::Faults(FaultsOptions {
            minutes: 60,
            seed: Some(7),
            database: Choice::default(),
        });
        assert_eq!(parsed("faults --seed 7 --minutes 60").unwrap(), expected);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("deploy", "no command `deploy`"),
            ("demo --fast", "no option `--fast`"),
            ("demo a b", "`b` is a second one"),
            ("demo --provider", "emulator or openai"),
            ("demo --provider yandex", "emulator or openai"),
            ("test --mariadb", "takes a version"),
            ("test --mariadb newest", "takes a version"),
            ("demo --over air", "tls or socket"),
            ("demo --query", "takes the text"),
            ("providers --server openai", "ogx, litellm or all"),
            ("faults --minutes many", "--minutes takes a number"),
            ("faults 5", "no option `5`"),
        ] {
            let message = parsed(line).unwrap_err().to_string();
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
