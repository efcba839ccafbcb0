//! `cargo xtask faults`: the tests of `tests/it/random_faults`, for as long as is wanted.

use std::process::ExitCode;

use crate::arguments::FaultsOptions;
use crate::failure::Result;
use crate::test;

pub(crate) fn run(options: &FaultsOptions) -> Result<ExitCode> {
    let seconds = options.minutes.saturating_mul(60);
    let mut variables = vec![("RANDOM_FAULTS_SECONDS", seconds.to_string())];
    if let Some(seed) = options.seed {
        variables.push(("RANDOM_FAULTS_SEED", seed.to_string()));
    }
    // What they print says the seed, whatever comes of them.
    variables.push(("NEXTEST_SUCCESS_OUTPUT", "immediate".to_owned()));
    let args = ["--test", "it", "random_faults::"].map(str::to_owned);
    test::run(options.database, &args, &variables)
}
