//! A store that lives as long as its value: the reference that the durable ones are held against, and a simulator's disk.

use std::collections::BTreeSet;
use std::time::SystemTime;

use slalom_common::id::{LeaseId, RunKey, StoreId};

use super::{Stamped, Store, StoreError, at_ms, time_of};
use crate::scheduler::record::Record;

/// Records in memory, in order.
#[derive(Clone, PartialEq, Debug)]
pub struct MemoryStore {
    id: StoreId,
    records: Vec<Stamped>,
}

impl MemoryStore {
    /// An empty one. Whoever makes it draws its id, so that a simulator's is always the same.
    pub const fn new(id: StoreId) -> Self {
        Self { id, records: Vec::new() }
    }
}

impl Store for MemoryStore {
    fn id(&self) -> StoreId {
        self.id
    }

    fn append(&mut self, batch: &[Record], at: SystemTime) -> Result<(), StoreError> {
        let at = time_of(at_ms(at));
        self.records.extend(batch.iter().map(|record| Stamped { at, record: record.clone() }));
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<Record>, StoreError> {
        Ok(self.records.iter().map(|stamped| stamped.record.clone()).collect())
    }

    fn history(&mut self, run: &RunKey) -> Result<Vec<Stamped>, StoreError> {
        let mut leases = BTreeSet::<LeaseId>::new();
        let mut history = Vec::new();
        for stamped in &self.records {
            let named = stamped.record.runs().into_iter().filter(|(key, _)| key == run);
            let granted: Vec<Option<LeaseId>> = named.map(|(_, lease)| lease).collect();
            leases.extend(granted.iter().flatten());
            let under_its_lease = stamped.record.lease().is_some_and(|lease| leases.contains(&lease));
            if !granted.is_empty() || under_its_lease {
                history.push(stamped.clone());
            }
        }
        Ok(history)
    }
}
