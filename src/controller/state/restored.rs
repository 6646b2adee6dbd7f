//! Progress of the search for lost records. `restored` searches.

use crate::api::CrossAccountRegistryGrant;
use crate::controller::state::repository::RepositoryKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use tokio::sync::OnceCell;

type Grants = Vec<Arc<CrossAccountRegistryGrant>>;

/// Repositories that were searched since the start.
#[derive(Default)]
pub struct Restored {
    searched: Mutex<HashMap<RepositoryKey, Arc<OnceCell<()>>>>,
    /// The grants before any record was changed. Filled only if a frozen grant has no record.
    at_start: OnceLock<Grants>,
}

impl Restored {
    /// Stores these grants at the first call.
    pub fn note_start(&self, grants: impl FnOnce() -> Grants) {
        self.at_start.get_or_init(grants);
    }

    /// Returns the grants before any record was changed.
    pub fn at_start(&self) -> &[Arc<CrossAccountRegistryGrant>] {
        self.at_start.get().map_or(&[], Vec::as_slice)
    }

    /// Returns the cell that the search of a repository fills once.
    pub fn search(&self, repository: &RepositoryKey) -> Arc<OnceCell<()>> {
        let mut searched = self.searched.lock().expect("no panic while held");
        searched.entry(repository.clone()).or_default().clone()
    }

    /// Forgets a search, so that the repository is searched again at its next sync.
    pub fn forget_search(&self, repository: &RepositoryKey) {
        let mut searched = self.searched.lock().expect("no panic while held");
        searched.remove(repository);
    }
}
