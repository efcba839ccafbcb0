//! Jobs a second, and what one costs, at growing backlogs: the raw loop and worker processes through apalis, taking turns
//! in short slices.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use rag_bench::figures::median;

use crate::cost::Reading;
use crate::database::Database;
use crate::raw;
use crate::report::Report;
use crate::worker::Worker;

/// Enough for every slice that starts from "none waiting".
const FRESH: u64 = 80_000;
/// Workers have started all their slots by then.
const WARM_UP: Duration = Duration::from_millis(300);
const MILLION: u64 = 1_000_000;

#[derive(Clone, Copy)]
struct Setup {
    name: &'static str,
    concurrency: usize,
    /// Claimed ahead, so that a batch is `concurrency` and this together.
    prefetch: usize,
}

const SETUPS: [Setup; 3] = [
    Setup {
        name: "c1 b1",
        concurrency: 1,
        prefetch: 0,
    },
    Setup {
        name: "c16 b16",
        concurrency: 16,
        prefetch: 0,
    },
    Setup {
        name: "c16 b100",
        concurrency: 16,
        prefetch: 84,
    },
];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Contender {
    /// So many connections.
    Raw(usize),
    /// So many processes.
    Apalis(usize),
    /// The same, of another build: `OTHER_WORKER` names its worker program.
    Other(usize),
}

impl Contender {
    fn name(self) -> String {
        match self {
            Self::Raw(n) => format!("raw ×{n}"),
            Self::Apalis(n) => format!("apalis ×{n}"),
            Self::Other(n) => format!("other ×{n}"),
        }
    }
}

/// One slice.
#[derive(Clone, Copy, Default)]
struct Sample {
    rate: f64,
    statements: f64,
    commits: f64,
    server_us: f64,
    client_us: f64,
}

type Samples = BTreeMap<Contender, Vec<Sample>>;

fn middle(samples: &Samples, contender: Contender, of: impl Fn(&Sample) -> f64) -> f64 {
    median(samples[&contender].iter().map(of).collect())
}

/// The median of what each round makes of two contenders that ran after each other.
fn ratio(samples: &Samples, over: Contender, under: Contender, of: impl Fn(&Sample) -> f64) -> f64 {
    let pairs = samples[&over].iter().zip(&samples[&under]);
    median(pairs.map(|(over, under)| of(over) / of(under)).collect())
}

pub(crate) async fn measure(database: &Database, quick: bool, report: &mut Report) -> Result<()> {
    let (time, rounds) = if quick { (0.7, 3) } else { (1.2, 5) };
    let backlogs: &[u64] = if quick {
        &[0, 100_000]
    } else {
        &[0, 10_000, 100_000, MILLION]
    };
    let mut contenders = vec![
        Contender::Raw(1),
        Contender::Apalis(1),
        Contender::Apalis(4),
        Contender::Raw(4),
    ];
    let other = std::env::var_os("OTHER_WORKER").map(PathBuf::from);
    if other.is_some() {
        contenders.extend([Contender::Other(1), Contender::Other(4)]);
    }
    let time = Duration::from_secs_f64(time);
    let mut measured = Vec::new();
    for &waiting in backlogs {
        database.clear().await?;
        for setup in SETUPS {
            let mut samples = Samples::new();
            for _ in 0..rounds {
                for &contender in &contenders {
                    prepare(database, waiting).await?;
                    let sample = slice(database, setup, contender, other.as_ref(), time).await?;
                    samples.entry(contender).or_default().push(sample);
                }
            }
            eprintln!("measured {} at {waiting} waiting", setup.name);
            measured.push((waiting, setup, samples));
        }
    }
    rates(&measured, &contenders, report);
    costs(&measured, &contenders, report);
    bars(&measured, report);
    Ok(())
}

/// What a job costs with a million waiting and a million finished, against none: two databases of one server take turns.
///
/// Counting all jobs is put off: it may take a fiftieth of a worker's time, but not of each slice in which it comes due.
pub(crate) async fn compare_million(empty: &Database, report: &mut Report) -> Result<()> {
    empty.clear().await?;
    let full = empty.create_beside("full").await?;
    let compared = full_against_empty(&full, empty, report).await;
    full.drop().await?;
    compared
}

async fn full_against_empty(full: &Database, empty: &Database, report: &mut Report) -> Result<()> {
    const ROUNDS: usize = 7;
    let time = Duration::from_millis(1200);
    let contenders = [Contender::Raw(1), Contender::Apalis(1)];
    let mut rows = Vec::new();
    let mut most: f64 = 0.0;
    for setup in SETUPS {
        let mut ratios: BTreeMap<Contender, Vec<f64>> = BTreeMap::new();
        for _ in 0..ROUNDS {
            for contender in contenders {
                let mut costs = Vec::new();
                for (database, waiting) in [(full, MILLION), (empty, 0)] {
                    prepare(database, waiting).await?;
                    database.put_off_counting().await?;
                    let sample = slice(database, setup, contender, None, time).await?;
                    costs.push(sample.server_us + sample.client_us);
                }
                ratios.entry(contender).or_default().push(costs[0] / costs[1]);
            }
        }
        eprintln!("compared {} with a million waiting and with none", setup.name);
        let [raw, ours] = contenders.map(|contender| median(ratios[&contender].clone()));
        most = most.max(ours);
        rows.push([setup.name.to_owned(), format!("{raw:.2}"), format!("{ours:.2}")]);
    }
    report.table(
        "A job's CPU time with 1,000,000 waiting and as many finished, as a multiple of that with none",
        &["setup", "raw ×1", "apalis ×1"],
    );
    for row in &rows {
        report.row(row);
    }
    report.bar(
        most <= 1.2,
        "a job costs at most 1.2 times as much CPU with a million waiting and a million finished",
        &format!("most: {most:.2}"),
    );
    Ok(())
}

fn backlog(waiting: u64) -> String {
    if waiting == MILLION {
        "1,000,000, and as many finished".to_owned()
    } else {
        waiting.to_string()
    }
}

fn rates(measured: &[(u64, Setup, Samples)], contenders: &[Contender], report: &mut Report) {
    let names: Vec<String> = contenders.iter().map(|contender| contender.name()).collect();
    let mut columns = vec!["waiting", "setup"];
    columns.extend(names.iter().map(String::as_str));
    columns.extend(["apalis / raw", "apalis ×4 / ×1"]);
    report.table("Jobs a second", &columns);
    for (waiting, setup, samples) in measured {
        let mut row = vec![backlog(*waiting), setup.name.to_owned()];
        for &contender in contenders {
            row.push(format!("{:.0}", middle(samples, contender, |sample| sample.rate)));
        }
        let rate = |sample: &Sample| sample.rate;
        row.push(format!(
            "{:.2}",
            ratio(samples, Contender::Apalis(1), Contender::Raw(1), rate)
        ));
        row.push(format!(
            "{:.2}",
            ratio(samples, Contender::Apalis(4), Contender::Apalis(1), rate)
        ));
        report.row(&row);
    }
}

fn costs(measured: &[(u64, Setup, Samples)], contenders: &[Contender], report: &mut Report) {
    report.table(
        "What a job costs",
        &[
            "waiting",
            "setup",
            "who",
            "statements",
            "commits",
            "server's CPU, µs",
            "client's CPU, µs",
        ],
    );
    let ends = [measured.first(), measured.last()].map(|end| end.map(|(waiting, ..)| *waiting));
    for (waiting, setup, samples) in measured {
        if !ends.contains(&Some(*waiting)) {
            continue;
        }
        for &contender in contenders {
            let of = |of: fn(&Sample) -> f64| middle(samples, contender, of);
            report.row(&[
                backlog(*waiting),
                setup.name.to_owned(),
                contender.name(),
                format!("{:.2}", of(|sample| sample.statements)),
                format!("{:.2}", of(|sample| sample.commits)),
                format!("{:.0}", of(|sample| sample.server_us)),
                format!("{:.0}", of(|sample| sample.client_us)),
            ]);
        }
    }
}

fn bars(measured: &[(u64, Setup, Samples)], report: &mut Report) {
    let rate = |sample: &Sample| sample.rate;
    let (one, four) = (Contender::Apalis(1), Contender::Apalis(4));
    let mut worst = [f64::INFINITY; 2];
    for (.., samples) in measured {
        worst[0] = worst[0].min(ratio(samples, one, Contender::Raw(1), rate));
        worst[1] = worst[1].min(ratio(samples, four, one, rate));
    }
    report.bar(
        worst[0] >= 0.9,
        "through apalis at least 0.9 of the raw loop at equal batch",
        &format!("least: {:.2}", worst[0]),
    );
    report.bar(
        worst[1] >= 1.0,
        "four processes together never slower than one",
        &format!("least: {:.2}", worst[1]),
    );
}

/// The backlog as it was before the last slice, and nothing left over from it.
async fn prepare(database: &Database, waiting: u64) -> Result<()> {
    let finished = if waiting == MILLION { waiting } else { 0 };
    for (state, wanted) in [("ready", waiting.max(FRESH)), ("done", finished)] {
        let there: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM queue_jobs WHERE state = ? AND kind = 'nothing'")
                .bind(state)
                .fetch_one(&database.pool)
                .await?;
        let there = u64::try_from(there)?;
        if there < wanted {
            database.fill(state, wanted - there).await?;
        } else if there > wanted {
            sqlx::query(
                "DELETE FROM queue_jobs WHERE state = ? AND kind = 'nothing' ORDER BY state DESC, kind DESC, order_us DESC \
                 LIMIT ?",
            )
            .bind(state)
            .bind(there - wanted)
            .execute(&database.pool)
            .await?;
        }
    }
    database.settle().await
}

async fn slice(
    database: &Database,
    setup: Setup,
    contender: Contender,
    other: Option<&PathBuf>,
    time: Duration,
) -> Result<Sample> {
    let own = Worker::program()?;
    match (contender, other) {
        (Contender::Raw(loops), _) => {
            let us = [std::process::id()];
            let before = Reading::take(database, &us).await?;
            let (jobs, seconds) = raw::run(database, loops, setup.concurrency + setup.prefetch, time).await?;
            let cost = Reading::take(database, &us).await?.since(before);
            Ok(sample(jobs, seconds, cost))
        }
        (Contender::Other(processes), Some(program)) => {
            through_apalis(database, setup, program, processes, time).await
        }
        (Contender::Apalis(processes) | Contender::Other(processes), _) => {
            through_apalis(database, setup, &own, processes, time).await
        }
    }
}

fn sample(jobs: f64, seconds: f64, cost: Reading) -> Sample {
    Sample {
        rate: jobs / seconds,
        statements: cost.statements / jobs,
        commits: cost.commits / jobs,
        server_us: cost.server_us.unwrap_or(0.0) / jobs,
        client_us: cost.client_us / jobs,
    }
}

async fn through_apalis(
    database: &Database,
    setup: Setup,
    program: &PathBuf,
    processes: usize,
    time: Duration,
) -> Result<Sample> {
    let settings = [("CONCURRENCY", setup.concurrency), ("PREFETCH", setup.prefetch)];
    let mut workers = Vec::new();
    for _ in 0..processes {
        workers.push(Worker::start_program(program, database, &settings)?);
    }
    while database.queue().list_workers().await?.len() < processes {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(WARM_UP).await;
    let pids: Vec<u32> = workers.iter().map(Worker::pid).collect();
    let (before, from_us) = (Reading::take(database, &pids).await?, database.now_us().await?);
    tokio::time::sleep(time).await;
    let (after, until_us) = (Reading::take(database, &pids).await?, database.now_us().await?);
    for worker in &workers {
        worker.terminate()?;
    }
    for worker in workers {
        worker.wait()?;
    }
    let (jobs, span_us) = database.done_between(from_us, until_us).await?;
    // All of a small backlog may have been done before the time was over.
    Ok(sample(jobs, span_us / 1e6, after.since(before)))
}
