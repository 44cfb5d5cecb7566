//! Figures side by side with Debian's host-local, in one run and one table.
//!
//! Times are no test: a slow run ends well. A call that fails ends the bench with exit status 1.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod call;
mod contender;
mod contest;
mod figures;
mod fill;
mod instructions;
mod machine;
mod plans;
mod routes;
mod scale;
mod sustained;
mod table;

use std::fs;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use spiderpool_lab::{Lab, NodeSpec, Product};

use crate::table::Findings;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    println!("Building a node in namespaces, starting its daemon");
    let product = Product::find()?;
    let [few, many] = scale::NODES;
    let [alone, beside] = plans::NODES;
    let lab = Lab::start_with(vec![
        node("bench", 131, 64..=127),
        node(few, 132, 128..=128),
        node(many, 133, 129..=129),
        node(alone, 134, 130..=130),
        node(beside, 135, 131..=131),
    ])?;
    let node = lab.nodes().first().context("the lab has no node")?;
    node.daemon().start()?;
    let machine = machine::facts(lab.folder())?;
    println!("ADD and DEL by spiderpool and by host-local, in turn: a minute and a half");
    let contest = contest::run(&lab)?;
    println!("ADD and DEL by coordinator: a minute");
    let routes = routes::run(&lab)?;
    println!("Instructions of the IPAM program, by callgrind");
    let instructions = instructions::ipam(&lab)?;
    println!("Ten to a million allocations on a node of their own: some minutes");
    let scale = scale::run(&lab)?;
    println!("A thousand and ten thousand plans on a node of their own: two minutes");
    let plans = plans::run(&lab)?;
    let programs = [
        ("spiderpool", product.shims.join("spiderpool")),
        ("coordinator", product.shims.join("coordinator")),
        ("spiderpool-agent", product.agent.clone()),
    ];
    let sizes =
        programs.into_iter().map(|(name, path)| Ok((name, fs::metadata(path)?.len()))).collect::<Result<_>>()?;
    let findings = Findings { machine, contest, routes, instructions, scale, plans, sizes };
    print!("{}", findings.render());
    let complaint =
        [&findings.contest.complaint, &findings.routes.complaint, &findings.scale.complaint, &findings.plans.complaint];
    let complaint = complaint.into_iter().find_map(Option::as_ref);
    if findings.failures() > 0 || complaint.is_some() {
        bail!("{} calls failed; the first: {}", findings.failures(), complaint.map_or("", String::as_str));
    }
    Ok(())
}

/// One node, with the addresses 10.6.FIRST.0 to 10.6.LAST.255: enough that no cooldown is in the way.
fn node(name: &str, host: u8, blocks: RangeInclusive<u8>) -> NodeSpec {
    NodeSpec {
        name: name.to_owned(),
        address: Ipv4Addr::new(10, 6, 212, host),
        ranges: vec![(Ipv4Addr::new(10, 6, *blocks.start(), 0), Ipv4Addr::new(10, 6, *blocks.end(), 255))],
    }
}
