//! Steps: the same Pod with its default route on net1.

use anyhow::{Context, Result};
use spiderpool_lab::example::{CALICO_NEXT_HOP, DNS_POD, FAR_HOST};
use spiderpool_lab::{Program, difference};

use crate::report::Report;
use crate::routes::{Table, table};
use crate::stage::{NET1, Stage, log_of};
use crate::traffic::{Ping, ping, service};

pub(crate) fn show(report: &mut Report, stage: &Stage) -> Result<()> {
    report.step("net1 is taken away", "CNI DEL gives the address back and leaves eth0 as Calico made it.");
    report.progress("Deleting net1", || {
        stage.pod.del(&stage.chain, NET1, &[]).with_context(|| log_of(&stage.lab, "worker01"))
    })?;
    untouched(report, stage)?;

    report.step(
        "net1 comes back with the Pod's default route",
        "As with the annotation ipam.spidernet.io/default-route-nic: net1 (without Pod objects: a key of the chain).",
    );
    let chain = stage.chain.clone().default_route_nic(NET1);
    report
        .progress("Adding net1", || stage.pod.add(&chain, NET1, &[]).with_context(|| log_of(&stage.lab, "worker01")))?;
    for part in [Table::Rules, Table::Main, Table::Number("101"), Table::Number("100")] {
        table(report, stage, part, true)?;
    }

    let tables = stage.tables(true)?;
    report
        .step("The host in another subnet again", "Main's default route is now the underlay's gateway: net1, unasked.");
    let seen_as = Some(tables.net1);
    ping(report, stage, Ping { options: &[], to: FAR_HOST, from: tables.net1, by: NET1, ttl: 62, seen_as })?;

    report
        .step("The cluster is still behind eth0", "East-west traffic keeps to Calico, wherever the default route is.");
    ping(report, stage, Ping { options: &[], to: DNS_POD, from: tables.eth0, by: "eth0", ttl: 62, seen_as: None })?;
    service(report, stage, tables)
}

/// What a Pod has that only Calico has touched.
fn untouched(report: &mut Report, stage: &Stage) -> Result<()> {
    let rules = ["0: from all lookup local", "32766: from all lookup main", "32767: from all lookup default"];
    let routes = [format!("default via {CALICO_NEXT_HOP} dev eth0"), format!("{CALICO_NEXT_HOP} dev eth0 scope link")];
    for (argument, expected) in [("rule", rules.map(str::to_owned).to_vec()), ("route", routes.to_vec())] {
        let printed = report.run(stage.prompt(), stage.pod.namespace(), &Program::new("ip").arg(argument))?;
        let difference = difference(&expected, &printed.stdout);
        report.check("nothing of net1 is left", difference.is_none(), || difference.unwrap_or_default())?;
    }
    Ok(())
}
