//! The standalone folder: read again when it changes; what is bad is refused, with its place, and the last good state
//! stays.

use anyhow::{Result, ensure};
use serde_json::Value;
use spiderpool_lab::example::POOL;
use spiderpool_lab::{Stopwatch, comes_true, wait_for};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::rig::{Document, Rig, SOON, address, example_pool, pools};

fn refused(rig: &Rig) -> Result<Vec<String>> {
    let node = rig.inspect().node()?;
    let texts = node["refused"].as_array().cloned().unwrap_or_default();
    Ok(texts.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

#[test]
fn a_bad_document_is_named_and_the_last_good_state_stays() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    let folder = rig.node().standalone();
    let good = Document::pool("p", "10.8.0.0/24", "10.8.0.10-10.8.0.19");
    rig.pool(&good)?;
    let head = "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderIPPool\nmetadata:\n  name: p\nspec:\n";
    let table = [
        (format!("{head}  subnet: 10.8.0.0/24\n  ips: [10.8.0.19-10.8.0.10]\n"), "p.yaml:7", "spec.ips[0]"),
        (format!("{head}  subnet: 10.8.0.5/24\n"), "p.yaml:6", "spec.subnet"),
        (format!("{head}  subnet: 10.8.0.0/24\n  ips: [10.9.0.1]\n"), "p.yaml:7", "spec.ips[0]"),
        (format!("{head}  subnet: 10.8.0.0/24\n  gateway: 10.9.0.1\n"), "p.yaml:7", "spec.gateway"),
        (format!("{head}  subnet: 10.8.0.0/24\n  disabled: true\n"), "p.yaml:7", "spec.disabled"),
        (format!("{head}  subnet: 10.8.0.0/24\n  ips: [10.6.0.1\n"), "p.yaml:", ""),
        (head.replace("SpiderIPPool", "SpiderPool"), "p.yaml:2", "kind"),
    ];
    for (index, (text, place, field)) in table.iter().enumerate() {
        folder.write("p.yaml", text)?;
        wait_for(&format!("{place} {field} to be refused"), SOON, || {
            let refused = refused(&rig)?;
            Ok(refused.iter().any(|text| text.contains(place) && text.contains(field)).then_some(()))
        })
        .map_err(|error| error.context(format!("{text}\nrefused: {:?}", refused(&rig))))?;
        let line = place.split(':').nth(1).unwrap_or_default();
        rig.logged(&["Refused a document", "p.yaml", &format!("line={line}"), field])?;
        let result = rig.ipam(&format!("c{index}"), &sandbox).call("ADD", pools(&["p"]))?.result()?;
        ensure!(address(&result)? == format!("10.8.0.1{index}"), "{result}");
    }
    // The bad document survives a restart, and so does the last good state.
    rig.node().daemon().restart()?;
    ensure!(refused(&rig)?.len() == 1, "{:?}", refused(&rig)?);
    rig.ipam("c7", &sandbox).call("ADD", pools(&["p"]))?.result()?;
    folder.write("p.yaml", &good.text())?;
    wait_for("nothing to be refused", SOON, || Ok(refused(&rig)?.is_empty().then_some(())))
}

/// Rule: No data is not no Pods. A folder that is away says nothing: pools stay, and so does what is in use of them.
#[test]
fn a_folder_that_is_away_takes_nothing_back() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    rig.ipam("c", &sandbox).call("ADD", example_pool())?.result()?;
    let before = rig.inspect().counts(POOL)?;
    let folder = rig.node().standalone().path();
    let aside = folder.with_extension("aside");
    fs::rename(folder, &aside)?;
    let said = "Cannot read the folder; what is known stays";
    wait_for("the folder to be missed", SOON, || Ok(rig.node().daemon().log()?.contains(said).then_some(())))?;
    let after = rig.inspect().counts(POOL)?;
    ensure!(after == before, "{after:?}, before: {before:?}");
    rig.ipam("d", &sandbox).call("ADD", example_pool())?.result()?;
    // Another one comes in its place, and is followed.
    fs::create_dir(folder)?;
    for file in fs::read_dir(&aside)? {
        let file = file?;
        fs::copy(file.path(), folder.join(file.file_name()))?;
    }
    for name in ["first", "second"] {
        rig.node()
            .standalone()
            .write(&format!("{name}.yaml"), &Document::pool(name, "10.8.0.0/24", "10.8.0.10").text())?;
        wait_for("the new folder's pool", SOON, || {
            Ok(rig.inspect().pools()?.iter().any(|pool| pool["name"] == name).then_some(()))
        })?;
        rig.node().standalone().remove(&format!("{name}.yaml"))?;
    }
    ensure!(rig.inspect().counts(POOL)?.in_use == 2);
    Ok(())
}

#[test]
fn a_pool_that_is_added_serves_before_the_folder_is_read_anew() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    rig.ipam("c", &sandbox).call("ADD", pools(&["late"]))?.error(100, &["late"])?;
    let pool = Document::pool("late", "10.8.0.0/24", "10.8.0.10-10.8.0.19");
    let later = Document::pool("later", "10.9.0.0/24", "10.9.0.10-10.9.0.19");
    let serves = |name: &str, document: &Document| {
        rig.node().standalone().write(&format!("{name}.yaml"), &document.text())?;
        wait_for(&format!("{name} to serve"), SOON, || {
            Ok(rig.ipam(name, &sandbox).call("ADD", pools(&[name]))?.is_success().then_some(()))
        })
    };
    serves("late", &pool)?;
    // The folder was read a moment ago: that is done every five seconds, whatever is heard of it.
    let stopwatch = Stopwatch::start();
    serves("later", &later)?;
    ensure!(stopwatch.elapsed() < Duration::from_secs(4), "{:?}", stopwatch.elapsed());
    Ok(())
}

/// Rule: Only from the lease. What a pool lost is not given out any more; what is in use stays until its DEL.
#[test]
fn a_pool_that_shrinks_or_goes_keeps_what_is_in_use() -> Result<()> {
    let rig = Rig::start_with(&["--budget", "0.2"])?;
    rig.pool(&Document::pool("p", "10.8.0.0/24", "10.8.0.10-10.8.0.13"))?;
    let sandbox = rig.node().sandbox("a")?;
    let add = |container: &str| rig.ipam(container, &sandbox).call("ADD", pools(&["p"]));
    let first = add("c1")?.result()?;
    add("c2")?.result()?;
    let total = |count: u128| {
        comes_true(SOON, || {
            let counts = rig.inspect().counts("p")?;
            ensure!(counts.total == count, "{count} addresses should be leased: {counts:?}");
            Ok(())
        })
    };
    // Without .10, which is in use, and .13, which is free.
    rig.node().standalone().write("p.yaml", &Document::pool("p", "10.8.0.0/24", "10.8.0.11-10.8.0.12").text())?;
    total(3)?;
    ensure!(address(&add("c3")?.result()?)? == "10.8.0.12");
    add("c4")?.error(11, &["pool p: 3 leased here, 3 in use"])?;
    ensure!(add("c1")?.result()? == first, "a retry gets what it holds");
    ensure!(rig.inspect().address([10, 8, 0, 10])?["state"] == "ADDRESS_STATE_IN_USE");
    // Over a restart, too.
    rig.node().daemon().kill()?;
    rig.node().daemon().start_with(&["--budget", "0.2"])?;
    ensure!(rig.inspect().counts("p")?.in_use == 3);
    rig.ipam("c1", &sandbox).call("DEL", pools(&["p"]))?.silent()?;
    total(2)?;
    ensure!(rig.inspect().address([10, 8, 0, 10])?["state"] == "ADDRESS_STATE_NOT_LEASED");

    rig.node().standalone().remove("p.yaml")?;
    wait_for("the pool to go", SOON, || {
        Ok(add("c5")?.error(100, &["p (there is no SpiderIPPool of this name"]).is_ok().then_some(()))
    })?;
    ensure!(rig.inspect().counts("p")?.in_use == 2, "in use: {:?}", rig.inspect().counts("p")?);
    // Back again: the ones in use are known.
    rig.pool(&Document::pool("p", "10.8.0.0/24", "10.8.0.10-10.8.0.13"))?;
    total(4)?;
    let (five, six) = (address(&add("c5")?.result()?)?, address(&add("c6")?.result()?)?);
    ensure!(five == "10.8.0.10" && six == "10.8.0.13", "{five} {six}");
    add("c7")?.error(11, &["4 leased here, 4 in use"])?;
    Ok(())
}

/// Rule: One holder. Two pools may not share an address; one that moves from pool to pool is given once.
#[test]
fn an_address_moves_from_pool_to_pool_with_its_holder() -> Result<()> {
    let rig = Rig::start_with(&["--budget", "0.2", "--cooldown", "0"])?;
    let folder = rig.node().standalone();
    rig.pool(&Document::pool("old", "10.8.0.0/24", "10.8.0.10-10.8.0.11"))?;
    let sandbox = rig.node().sandbox("a")?;
    rig.ipam("c1", &sandbox).call("ADD", pools(&["old"]))?.result()?;
    folder.write("clash.yaml", &Document::pool("clash", "10.8.0.0/24", "10.8.0.11-10.8.0.12").text())?;
    wait_for("the overlap to be refused", SOON, || {
        let clash = refused(&rig)?.into_iter().find(|text| text.contains("clash.yaml:"));
        Ok(clash.filter(|text| text.contains("old")).map(drop))
    })?;
    folder.remove("clash.yaml")?;
    folder.remove("old.yaml")?;
    rig.pool(&Document::pool("new", "10.8.0.0/24", "10.8.0.10-10.8.0.11"))?;
    let second = rig.ipam("c2", &sandbox).call("ADD", pools(&["new"]))?.result()?;
    ensure!(address(&second)? == "10.8.0.11", "the other one is held: {second}");
    rig.ipam("c3", &sandbox).call("ADD", pools(&["new"]))?.error(11, &["pool new"])?;
    rig.ipam("c1", &sandbox).call("DEL", pools(&["old"]))?.silent()?;
    wait_for("the address to be free in the new pool", SOON, || {
        Ok(rig.ipam("c3", &sandbox).call("ADD", pools(&["new"]))?.is_success().then_some(()))
    })?;
    ensure!(rig.inspect().counts("old")?.total == 0 && rig.inspect().counts("new")?.in_use == 2);
    Ok(())
}

/// Files that are no documents, and documents that no daemon needs.
#[test]
fn what_is_no_document_is_left_alone() -> Result<()> {
    let rig = Rig::start()?;
    let folder = rig.node().standalone();
    folder.write("README.txt", "not a document")?;
    folder.write(".hidden.yaml", "{")?;
    folder.write("empty.yaml", "# nothing\n---\n---\n")?;
    let pool = Document::pool("json", "10.8.0.0/24", "10.8.0.10");
    rig.pool(&pool)?;
    ensure!(refused(&rig)?.is_empty(), "{:?}", refused(&rig)?);
    let sandbox = rig.node().sandbox("a")?;
    rig.ipam("c", &sandbox).call("ADD", example_pool())?.result().map(drop)
}

/// A pool that is used out, and asked for all the time, can be made larger.
#[test]
fn the_folder_is_read_while_calls_are_refused() -> Result<()> {
    let rig = Rig::start_with(&["--budget", "0.2"])?;
    rig.pool(&Document::pool("p", "10.8.0.0/24", "10.8.0.10"))?;
    let sandbox = rig.node().sandbox("a")?;
    rig.ipam("holder", &sandbox).call("ADD", pools(&["p"]))?.result()?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (rig, sandbox, over) = (&rig, &sandbox, &over);
        for caller in 0..4 {
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    drop(rig.ipam(&format!("c{caller}"), sandbox).call("ADD", pools(&["p"])));
                }
            });
        }
        thread::sleep(Duration::from_millis(300));
        let larger = Document::pool("p", "10.8.0.0/24", "10.8.0.10-10.8.0.19");
        let outcome = rig.node().standalone().write("p.yaml", &larger.text()).and_then(|()| {
            wait_for("the callers to be served", Duration::from_secs(2), || {
                Ok((rig.inspect().counts("p")?.in_use == 5).then_some(()))
            })
        });
        over.store(true, Ordering::Relaxed);
        outcome
    })
}
