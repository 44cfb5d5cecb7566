//! Step: who has which address.

use anyhow::{Context, Result};
use serde_json::Value;
use spiderpool_lab::{Node, Pod, Program, example};

use crate::report::Report;
use crate::stage::{NET1, Stage};

const COLUMNS: [&str; 7] = ["NAME", "INTERFACE", "IPV4POOL", "IPV4", "IPV6POOL", "IPV6", "NODE"];
/// The same in the daemon's answer.
const FIELDS: [&str; 7] = ["podName", "interface", "ipv4Pool", "ipv4", "ipv6Pool", "ipv6", "node"];

type Row = [String; 7];

pub(crate) fn show(report: &mut Report, stage: &Stage) -> Result<()> {
    report.step(
        "The addresses that were given",
        "Each daemon says over its socket what `kubectl get se` lists in a cluster.",
    );
    let mut rows = Vec::new();
    for name in ["worker01", "controller"] {
        let node = stage.lab.node(name)?;
        let program = Program::new(&stage.lab.tools().grpcurl)
            .args(["-plaintext", "-unix"])
            .arg(node.daemon().socket())
            .arg("spiderpool.node.v1.Inspect/ListAllocations");
        report.command(name, &program);
        rows.extend(parse(&node.namespace().run(&program)?.success()?.json()?));
    }
    report.text(&table(&rows));
    let expected = [
        expected(&stage.pod, stage.lab.node("worker01")?)?,
        expected(&stage.neighbour, stage.lab.node("controller")?)?,
    ];
    report.check("the table lists what the kernel has on net1 of both Pods", rows == expected, || {
        format!("listed:\n{}\nin the kernel:\n{}", table(&rows), table(&expected))
    })?;
    for (pod, node) in [(&stage.pod, "worker01"), (&stage.neighbour, "controller")] {
        let (address, _) = pod.address(NET1)?;
        let fact = format!("{address} is one of {node}'s share of the pool {}", example::POOL);
        let spec = stage.lab.node(node)?.spec();
        report.check(&fact, spec.owns(address), || format!("its share is {:?}", spec.ranges))?;
    }
    Ok(())
}

fn parse(answer: &Value) -> Vec<Row> {
    let allocations = answer["allocations"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |allocation: &Value| FIELDS.map(|field| allocation[field].as_str().unwrap_or_default().to_owned());
    allocations.iter().map(row).collect()
}

fn expected(pod: &Pod, node: &Node) -> Result<Row> {
    let (address, prefix) = pod.address(NET1).context("the address of net1")?;
    let ipv4 = format!("{address}/{prefix}");
    Ok([&pod.spec().name, NET1, example::POOL, &ipv4, "", "", node.name()].map(str::to_owned))
}

/// Columns as wide as their widest cell, three spaces apart, as kubectl prints them.
fn table(rows: &[Row]) -> String {
    let heading = COLUMNS.map(str::to_owned);
    let lines: Vec<&Row> = [&heading].into_iter().chain(rows).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or_default();
    let widths: Vec<_> = (0..COLUMNS.len()).map(width).collect();
    let text = lines.iter().map(|line| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    });
    text.collect::<Vec<_>>().join("\n")
}
