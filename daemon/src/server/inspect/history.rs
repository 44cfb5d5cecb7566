//! What happened, read from the journal a page at a time: a long history must not keep calls waiting on the keeper's
//! thread.

use std::collections::VecDeque;

use spiderpool_core::journal::{Journal, Key, Record, Table};
use spiderpool_core::node::fact::Fact;
use spiderpool_proto::node as wire;
use tonic::Status;

use super::{Inspector, fact};

/// Facts that are read at a time: a few milliseconds.
const PAGE: usize = 2048;

/// Most facts in an answer: the latest ones.
const FACTS: usize = 1000;

impl Inspector {
    /// The facts that are wanted, the latest ones.
    pub(super) async fn history(
        &self,
        wanted: impl Fn(&Fact) -> bool + Clone + Send + 'static,
    ) -> Result<Vec<wire::Fact>, Status> {
        let collect = move |found: &mut VecDeque<wire::Fact>, sequence, told: &Fact| {
            if !wanted(told) {
                return;
            }
            if found.len() == FACTS {
                found.pop_front();
            }
            found.push_back(fact(sequence, told));
        };
        Ok(self.facts(VecDeque::new(), collect).await?.into())
    }

    /// Takes every fact into a sum, the oldest first.
    pub(super) async fn facts<T: Send + 'static>(
        &self,
        mut sum: T,
        take: impl Fn(&mut T, u64, &Fact) + Clone + Send + 'static,
    ) -> Result<T, Status> {
        let mut from = 0;
        loop {
            let take = take.clone();
            let look = move |_: &_, journal: &dyn Journal| {
                let next = page(journal, from, |sequence, fact| take(&mut sum, sequence, fact))?;
                Ok((sum, next))
            };
            let (taken, next) = self.look(look).await?;
            sum = taken;
            match next {
                Some(next) => from = next,
                None => return Ok(sum),
            }
        }
    }
}

/// Reads a page of facts. Where the next one begins, if this one is full.
fn page(journal: &dyn Journal, from: u64, mut take: impl FnMut(u64, &Fact)) -> Result<Option<u64>, Status> {
    let (mut count, mut next) = (0, from);
    for row in journal.rows(Table::Facts { from }).take(PAGE) {
        if let (Key::Fact(sequence), Record::Fact(fact)) =
            row.map_err(|damage| Status::data_loss(damage.to_string()))?
        {
            take(sequence, &fact);
            (count, next) = (count + 1, sequence + 1);
        }
    }
    Ok((count == PAGE).then_some(next))
}

#[cfg(test)]
mod tests {
    use spiderpool_core::journal::Batch;
    use spiderpool_core::node::attachment::Attachment;
    use spiderpool_core::node::fact::FactKind;
    use spiderpool_core::world::PodId;

    use super::*;
    use crate::journal::SledJournal;
    use crate::room::Room;

    #[test]
    fn pages_hold_every_fact_once_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = SledJournal::open(folder.path(), &Room::new(folder.path())).unwrap();
        let attachment = Attachment { container: "c".into(), interface: "i".into(), network: "n".into() };
        let fact = Fact {
            at: 1,
            kind: FactKind::Allocated,
            address: [10, 0, 0, 1].into(),
            pool: "p".into(),
            attachment,
            pod: PodId::default(),
        };
        let told = 7..7 + 2 * PAGE as u64 + 1;
        let rows = told.clone().map(|sequence| (Key::Fact(sequence), Some(Record::Fact(fact.clone()))));
        journal.commit(&Batch { rows: rows.collect() }).unwrap();
        let (mut seen, mut from, mut pages) = (Vec::new(), Some(0), 0);
        while let Some(first) = from {
            from = page(&journal, first, |sequence, _| seen.push(sequence)).unwrap();
            pages += 1;
        }
        assert!(seen.into_iter().eq(told));
        assert_eq!(pages, 3);
    }
}
