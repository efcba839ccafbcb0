//! The commands `cargo xtask demo`, `test`, `providers` and `faults`: what to say on the command line and
//! which command runs. The set-up that they share is in `mariadb/`, the promise that nothing outlives a command in `run` and `keeper`.
//!
//! Std only, so that it builds in seconds; therefore no signal handlers, no database client and no HTTP library here.

mod arguments;
mod cargo;
mod demo;
mod failure;
mod faults;
mod keeper;
mod mariadb;
mod providers;
mod ready;
mod run;
mod test;

use std::process::ExitCode;

use arguments::{HELP, Request};

fn main() -> ExitCode {
    let result = match arguments::parse(std::env::args().skip(1)) {
        Ok(Request::Help) => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Ok(Request::Demo(options)) => demo::run(&options),
        Ok(Request::Test(database, runner_args)) => test::run(database, &runner_args, &[]),
        Ok(Request::Faults(options)) => faults::run(&options),
        Ok(Request::Providers(options)) => providers::run(&options),
        Ok(Request::Keeper { run_id, folders }) => {
            keeper::wait_and_clean(&run_id, &folders);
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => Err(failure),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("xtask: {failure}");
        ExitCode::FAILURE
    })
}
