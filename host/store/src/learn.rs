//! Which commit a directory is of, and which files that commit has: from the records beside the files where they suffice,
//! from the hub where they do not, and from the files' headers alone where there is neither.

use std::collections::BTreeMap;
use std::sync::Arc;

use hub::{HubError, Listing};
use model::{HubReference, select};

use crate::knowledge::Knowledge;
use crate::layout::Place;
use crate::local::LocalModel;
use crate::lock::blocking;
use crate::manifest::now_s;
use crate::pull::{Haul, Held, Pull};
use crate::sidecars::{read_listing, write_listing};
use crate::{Phase, StoreError, adopt};

/// What the hub said.
#[derive(Debug)]
pub(crate) struct Asked {
    listing: Listing,
    /// When the revision was resolved; a commit is not.
    resolved_at: Option<u64>,
}

/// What is known when the hub has been asked, or need not be.
pub(crate) enum Learnt {
    /// Commit and listing.
    All { resolved_at: Option<u64> },
    /// The model is here.
    Enough(Box<LocalModel>),
}

impl Pull {
    /// Asks the hub about a model of which nothing is here.
    pub(crate) async fn ask_for_new(&self) -> Result<Asked, StoreError> {
        let asked = self.ask(None).await.map_err(|error| match error {
            error if is_unanswered(&error) => {
                let directory = self.layout.directory(&self.reference);
                let why = "there is no such directory".to_owned();
                StoreError::Incomplete {
                    reference: self.reference.clone().into(),
                    directory,
                    why,
                    source: error.into(),
                }
            }
            error => self.refused(error),
        })?;
        select(asked.listing.files.keys(), &self.reference.choice).map_err(|source| self.unselectable(source))?;
        Ok(asked)
    }

    /// What the revision is now, and which files it has, which may be recorded already.
    async fn ask(&self, place: Option<&Place>) -> Result<Asked, HubError> {
        self.progress.enter(Phase::Resolving);
        let HubReference { repository, revision, .. } = &self.reference;
        let (commit, resolved_at) = match revision.commit() {
            Some(commit) => (commit, None),
            None => (self.hub.resolve(repository, revision).await?.commit, Some(now_s())),
        };
        if resolved_at.is_some() {
            tracing::info!(%repository, %revision, %commit, "the revision is this commit now");
        }
        let recorded = match place.cloned() {
            Some(place) => {
                let commit = commit.clone();
                blocking(move || Ok(read_listing(&place, &commit))).await.ok().flatten()
            }
            None => None,
        };
        let listing = match recorded {
            Some(listing) => listing,
            None => self.hub.listing(repository, &commit).await?,
        };
        Ok(Asked { listing, resolved_at })
    }

    /// Completes what is known by what the hub says: the commit and its listing. Records that suffice end the pull.
    pub(crate) async fn learn(
        &self,
        held: &Held,
        knowledge: &mut Knowledge,
        early: Option<Asked>,
        is_update: bool,
    ) -> Result<Learnt, StoreError> {
        let place = &held.place;
        if is_update {
            let asked = match early {
                Some(asked) => asked,
                None => self.ask(Some(place)).await.map_err(|error| self.refused(error))?,
            };
            return self.turn_to(place, knowledge, asked).await;
        }
        if knowledge.listing.is_some() {
            return Ok(Learnt::All { resolved_at: None });
        }
        if let Some(model) = self.by_records(held, knowledge).await? {
            return Ok(Learnt::Enough(Box::new(model)));
        }
        let asked = match (&knowledge.commit, early) {
            // The directory was filled while we asked; it stays what it is.
            (Some(commit), early) if early.as_ref().is_none_or(|asked| asked.listing.commit != *commit) => {
                self.progress.enter(Phase::Resolving);
                let listing = self.hub.listing(&self.reference.repository, commit).await;
                listing.map(|listing| Asked { listing, resolved_at: None })
            }
            (_, Some(asked)) => Ok(asked),
            (_, None) => self.ask(Some(place)).await,
        };
        match asked {
            Ok(asked) => self.turn_to(place, knowledge, asked).await,
            Err(error) => self.without_hub(place, knowledge, error).await,
        }
    }

    /// From now on the directory is of this commit.
    async fn turn_to(&self, place: &Place, knowledge: &mut Knowledge, asked: Asked) -> Result<Learnt, StoreError> {
        let Asked { listing, resolved_at } = asked;
        knowledge.commit = Some(listing.commit.clone());
        knowledge.listing = Some(listing.clone());
        let place = place.clone();
        blocking(move || {
            if read_listing(&place, &listing.commit).as_ref() == Some(&listing) {
                return Ok(());
            }
            match write_listing(&place, &listing) {
                Err(error) if error.is_refusal_to_write() => {
                    tracing::debug!(%error, "cannot keep the listing");
                    Ok(())
                }
                written => written,
            }
        })
        .await?;
        Ok(Learnt::All { resolved_at })
    }

    /// The model, if it is here and the records that `hf` left suffice to verify it.
    async fn by_records(&self, held: &Held, knowledge: &Knowledge) -> Result<Option<LocalModel>, StoreError> {
        self.progress.enter(Phase::Verifying);
        let (at, known, reference) = (held.place.clone(), knowledge.clone(), self.reference.clone());
        let (progress, stop) = (Arc::clone(&self.progress), self.stop.clone());
        let adopted = blocking(move || adopt::by_records(&at, &known, &reference, &progress, &stop)).await?;
        let Some((wish, items)) = adopted else { return Ok(None) };
        let knowledge = knowledge.clone();
        let haul = Haul { knowledge, wish, items, ready: BTreeMap::new(), resolved_at: None };
        self.settle(held, haul).await.map(Some)
    }

    /// The hub has not answered: what is here is taken if its headers are sound. If it refused, that is the answer.
    async fn without_hub(&self, place: &Place, knowledge: &Knowledge, error: HubError) -> Result<Learnt, StoreError> {
        if !is_unanswered(&error) {
            let is_gone = error.refusal().is_some_and(|it| it.kind() == hub::RefusalKind::RevisionMissing);
            return Err(match (&knowledge.commit, self.reference.revision.commit()) {
                (Some(commit), None) if is_gone => StoreError::CommitGone {
                    reference: self.reference.clone().into(),
                    commit: commit.clone(),
                    directory: place.path.clone(),
                    source: error.into(),
                },
                _ => self.refused(error),
            });
        }
        let (at, known, reference, why) = (place.clone(), knowledge.clone(), self.reference.clone(), error.to_string());
        let adopted = blocking(move || Ok(adopt::by_headers(&at, &known, &reference, &why))).await?;
        match adopted {
            Ok(model) => Ok(Learnt::Enough(Box::new(model))),
            Err(why) => {
                let (reference, directory) = (self.reference.clone().into(), place.path.clone());
                Err(StoreError::Incomplete { reference, directory, why, source: error.into() })
            }
        }
    }
}

/// Whether nobody answered, so that what is here is all there is to go by.
fn is_unanswered(error: &HubError) -> bool {
    matches!(error, HubError::Offline { .. }) || error.is_transient()
}
