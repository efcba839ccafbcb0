//! Work that ours and the SDK do in turns.

use anyhow::Result;

use crate::documents::Documents;
use crate::provider::{Pace, Provider};
use crate::report::Report;
use crate::sdk::Sdk;
use crate::stack::Stack;
use crate::usage::Usage;

/// A build of one index, and what the SDK calls `upload_and_poll`.
pub(crate) struct Compared {
    pub(crate) work: &'static str,
    pub(crate) files: usize,
    pub(crate) pace: Pace,
    /// Uploads at the same time; `None`: what each does by default.
    pub(crate) at_once: Option<usize>,
    /// Ours may take so much of the SDK's time.
    pub(crate) wall_ratio: f64,
    /// And so much of its CPU time.
    pub(crate) cpu_ratio: Option<f64>,
    /// And so many times what the uploads take alone.
    pub(crate) of_bound: Option<f64>,
}

impl Compared {
    pub(crate) async fn measure(&self, sdk: &Sdk, pairs: usize, report: &mut Report) -> Result<()> {
        let documents = Documents::write(self.files)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for pair in 0..pairs {
            // Neither is always the first.
            for turn in [pair % 2, (pair + 1) % 2] {
                if turn == 0 {
                    ours.push(self.ours(&documents).await?);
                } else {
                    let provider = Provider::start(self.pace).await?;
                    theirs.push(sdk.build(&provider, documents.folder(), self.at_once).await?);
                }
            }
        }
        let (ours, theirs) = (Usage::median(&ours), Usage::median(&theirs));
        self.report(&ours, &theirs, report);
        Ok(())
    }

    async fn ours(&self, documents: &Documents) -> Result<Usage> {
        let provider = Provider::start(self.pace).await?;
        let stack = Stack::start(&provider).await?;
        let files = stack.upload(documents.folder()).await?;
        let index = stack.index(&files).await?;
        let at_once = self.at_once.map(|at_once| at_once.to_string());
        let settings: Vec<_> = at_once
            .iter()
            .map(|at_once| ("BUILD_UPLOAD_CONCURRENCY", at_once.as_str()))
            .collect();
        let worker = stack.worker(&settings).await?;
        let usage = stack.build(&[index], &[worker]).await?;
        stack.end().await?;
        Ok(usage)
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people, of a few digits")]
    fn report(&self, ours: &Usage, theirs: &Usage, report: &mut Report) {
        let work = self.work;
        report.run(work, "ours", Some(self.files as f64), ours);
        report.run(work, "SDK", None, theirs);
        let mut ratio = |what: &str, limit: f64, ours: f64, theirs: f64| {
            let bar = format!("{what} ≤ {limit:.2} × SDK");
            let measured = format!("{:.2} × ({ours:.2} s, SDK {theirs:.2} s)", ours / theirs);
            report.at_most(work, &bar, limit, ours / theirs, &measured);
        };
        ratio("wall", self.wall_ratio, ours.wall, theirs.wall);
        if let Some(limit) = self.cpu_ratio {
            ratio("CPU", limit, ours.cpu, theirs.cpu);
        }
        if let (Some(limit), Some(at_once)) = (self.of_bound, self.at_once) {
            let bound = self.files as f64 / at_once as f64 * self.pace.latency_ms as f64 / 1e3;
            let bar = format!("wall ≤ {limit:.2} × uploads alone ({bound:.1} s)");
            report.at_most(
                work,
                &bar,
                limit,
                ours.wall / bound,
                &format!("{:.2} ×", ours.wall / bound),
            );
        }
    }
}
