//! Steps: what the Pod's namespace looks like.

use anyhow::Result;
use spiderpool_lab::{Program, difference};

use crate::report::Report;
use crate::stage::{NET1, Stage};

pub(crate) fn show(report: &mut Report, stage: &Stage) -> Result<()> {
    report.step("The Pod's interfaces", "eth0 is Calico's; net1 is a macvlan on the node's ens192.");
    interfaces(report, stage)?;
    report.step(
        "The Pod's rules",
        "What is sent from net1's address asks table 101, what is sent from eth0's asks table 100.",
    );
    table(report, stage, Table::Rules, false)?;
    report.step(
        "The Pod's routes",
        "By default a Pod speaks through eth0. The cluster's Services, Pods and the node itself are behind eth0 too.",
    );
    table(report, stage, Table::Main, false)?;
    report.step("Table 101", "From net1's address: the underlay's gateway, but to the cluster through eth0.");
    table(report, stage, Table::Number("101"), false)?;
    report.step("Table 100", "From eth0's address: always back through eth0.");
    table(report, stage, Table::Number("100"), false)
}

/// Which part of the routing policy.
#[derive(Clone, Copy)]
pub(crate) enum Table {
    Rules,
    Main,
    Number(&'static str),
}

/// Shows one table of the Pod and holds it against what must be there, no more and no less.
pub(crate) fn table(report: &mut Report, stage: &Stage, table: Table, default_by_net1: bool) -> Result<()> {
    let tables = stage.tables(default_by_net1)?;
    let (arguments, expected, name) = match table {
        Table::Rules => (vec!["rule"], tables.rules(), "the rules".to_owned()),
        Table::Main => (vec!["route"], tables.main(), "the main table".to_owned()),
        Table::Number(number) => {
            let expected = if number == "100" { tables.table_100() } else { tables.table_101() };
            (vec!["route", "show", "table", number], expected, format!("table {number}"))
        }
    };
    let printed = report.run(stage.prompt(), stage.pod.namespace(), &Program::new("ip").args(arguments))?;
    let difference = difference(&expected, &printed.stdout);
    // `ip` fails for a table that does not exist; then there is nothing on standard output.
    let fact = match expected.len() {
        0 => format!("{name}: nothing, as it must be"),
        1 => format!("{name}: exactly the line that must be there"),
        count => format!("{name}: exactly the {count} lines that must be there"),
    };
    report.check(&fact, difference.is_none(), || difference.unwrap_or_default())
}

fn interfaces(report: &mut Report, stage: &Stage) -> Result<()> {
    let tables = stage.tables(false)?;
    let shown = report.run(stage.prompt(), stage.pod.namespace(), &Program::new("ip").arg("a"))?.success()?.stdout;
    let words: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    let has = |wanted: &str| {
        let wanted: Vec<_> = wanted.split(' ').collect();
        words.iter().any(|line| line.windows(wanted.len()).any(|part| part == wanted))
    };
    for (link, mtu, address) in [
        ("eth0", 1430, format!("{}/32 scope global eth0", tables.eth0)),
        (NET1, 1500, format!("{}/16 brd 10.6.255.255 scope global {NET1}", tables.net1)),
    ] {
        let line = words.iter().find(|line| line.get(1).is_some_and(|name| name.starts_with(&format!("{link}@"))));
        let up = line.is_some_and(|line| line.windows(2).any(|pair| pair == ["state", "UP"]));
        let mtu_fits = line.is_some_and(|line| line.windows(2).any(|pair| pair == ["mtu", &mtu.to_string()]));
        let fact = format!("{link} is up with MTU {mtu} and has {address}");
        report.check(&fact, up && mtu_fits && has(&format!("inet {address}")), || shown.clone())?;
    }
    let addressed = stage.pod.namespace().ip_json(&["-4", "addr", "show", "scope", "global"])?;
    let count = addressed.as_array().map_or(0, Vec::len);
    report.check("no other interface has an IPv4 address", count == 2, || shown.clone())
}
