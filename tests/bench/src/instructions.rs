//! How many instructions a program runs for a call: a number that repeats where times do not. Counted by callgrind.

use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, io::Write as _};

use anyhow::{Context, Result, bail};
use spiderpool_lab::Lab;

use crate::call::Call;
use crate::contender::{Contender, Sandbox};

/// Counts of the same call.
const RUNS: usize = 5;

/// A call, and what was counted: the least and the most.
#[derive(Debug)]
pub(crate) struct Count {
    pub(crate) name: String,
    pub(crate) least: u64,
    pub(crate) most: u64,
}

/// Calls of the IPAM program on a node whose daemon serves.
pub(crate) fn ipam(lab: &Lab) -> Result<Vec<Count>> {
    let node = lab.nodes().first().context("the lab has no node")?;
    let (contender, namespace) = (Contender::spiderpool(node), node.sandbox("counted")?);
    counts(lab.folder(), "spiderpool", &["VERSION", "ADD", "DEL"], |run, verb| {
        contender.call(verb, &Sandbox::new(&format!("counted-{run}"), &namespace))
    })
}

/// Counts the calls of these verbs, one after the other and all of them several times.
pub(crate) fn counts(
    folder: &Path,
    program: &str,
    verbs: &[&str],
    call: impl Fn(usize, &str) -> Call,
) -> Result<Vec<Count>> {
    let out = folder.join("callgrind.out");
    let count_of = |verb| Count { name: format!("{program} {verb}"), least: u64::MAX, most: 0 };
    let mut counts: Vec<Count> = verbs.iter().map(count_of).collect();
    for run in 0..RUNS {
        for (verb, sum) in verbs.iter().zip(&mut counts) {
            let counted = count(&call(run, verb), &out)?;
            (sum.least, sum.most) = (sum.least.min(counted), sum.most.max(counted));
        }
    }
    Ok(counts)
}

fn count(call: &Call, out: &Path) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.arg("--quiet").arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(&call.program).envs(call.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().context("start valgrind: run tests/tools/setup")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(call.config.as_bytes()).context("write standard input")?;
    }
    let status = child.wait().context("wait for valgrind")?;
    if !status.success() {
        bail!("{} under valgrind failed ({status})", call.program.display());
    }
    let text = fs::read_to_string(out).context("read what callgrind counted")?;
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
    totals.context("callgrind counted nothing")?.trim().parse().context("a count of callgrind")
}
