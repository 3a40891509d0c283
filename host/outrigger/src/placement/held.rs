//! Memory that other models of this process hold, for whoever is loaded beside them.
//!
//! What there is, is measured, so what others have taken is gone from it already. Two things are not: weights, which are mapped from
//! their file and which the kernel counts as memory that it could give back, and what a prefix cache will take once conversations
//! come.

use bytesize::ByteSize;
use model::memory::{Budget, Memory};

use super::Plan;

/// What a model holds, or will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// The model's name.
    pub(crate) id: String,
    /// All of it in the machine's memory, for people.
    host_bytes: u64,
    device_bytes: u64,
    /// What a measurement of the machine's free memory leaves out.
    unseen_bytes: u64,
    /// What a measurement of a cgroup leaves out: there, what is mapped counts as used.
    unseen_by_cgroup_bytes: u64,
    /// What a measurement of a device leaves out.
    unseen_by_device_bytes: u64,
}

impl Held {
    /// What a model that is loaded as `plan` says holds.
    pub(crate) fn loaded(id: &str, plan: &Plan) -> Self {
        let (placement, cache_bytes) = (&plan.placement, plan.prefix_cache_bytes as u64);
        // Copies in another order are in memory of their own, and the file's pages are needed no more.
        let copied_bytes = if plan.gpu_layers == 0 { placement.footprint.rearranged_bytes } else { 0 };
        let mapped_bytes = placement.host.weights_bytes.saturating_sub(copied_bytes);
        Self {
            id: id.to_owned(),
            host_bytes: placement.host.total_bytes().saturating_add(cache_bytes),
            device_bytes: placement.device.total_bytes(),
            unseen_bytes: mapped_bytes.saturating_add(cache_bytes),
            unseen_by_cgroup_bytes: cache_bytes,
            unseen_by_device_bytes: 0,
        }
    }

    /// The same of a model that is still to be loaded: no measurement shows any of it.
    pub(crate) fn planned(id: &str, plan: &Plan) -> Self {
        let loaded = Self::loaded(id, plan);
        Self {
            unseen_bytes: loaded.host_bytes,
            unseen_by_cgroup_bytes: loaded.host_bytes,
            unseen_by_device_bytes: loaded.device_bytes,
            ..loaded
        }
    }
}

/// What of `budgets` is left beside the models of `held`.
pub(super) fn left(budgets: Vec<Budget>, held: &[Held]) -> Vec<Budget> {
    let sum = |of: fn(&Held) -> u64| held.iter().map(of).fold(0, u64::saturating_add);
    let (unseen, by_cgroup) = (sum(|it| it.unseen_bytes), sum(|it| it.unseen_by_cgroup_bytes));
    let mut on_devices = sum(|it| it.unseen_by_device_bytes);
    let left = |budget: Budget| {
        let gone = match budget.memory {
            Memory::Ram => unseen,
            Memory::Cgroup { .. } => by_cgroup,
            // Spread over them somehow; together they have less by as much.
            Memory::Device { .. } => on_devices.min(budget.have_bytes),
        };
        if budget.is_device() {
            on_devices -= gone;
        }
        Budget { have_bytes: budget.have_bytes.saturating_sub(gone), ..budget }
    };
    budgets.into_iter().map(left).collect()
}

/// `beside `chat`, which holds 3.2 GB, and …`: what is said where a model does not fit.
pub(crate) fn beside(held: &[Held]) -> Option<String> {
    let size = |bytes| ByteSize::b(bytes).display().si().to_string();
    let one = |held: &Held| {
        let on_device = if held.device_bytes == 0 {
            String::new()
        } else {
            format!(" and {} of a GPU's memory", size(held.device_bytes))
        };
        format!("`{}`, which holds {}{on_device}", held.id, size(held.host_bytes))
    };
    let all: Vec<String> = held.iter().map(one).collect();
    (!all.is_empty()).then(|| format!("beside {}", all.join(", and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(unseen_bytes: u64, unseen_by_cgroup_bytes: u64, unseen_by_device_bytes: u64) -> Held {
        let (host_bytes, device_bytes) = (3_200_000_000, unseen_by_device_bytes);
        Held {
            id: "chat".to_owned(),
            host_bytes,
            device_bytes,
            unseen_bytes,
            unseen_by_cgroup_bytes,
            unseen_by_device_bytes,
        }
    }

    #[test]
    fn each_memory_has_less_by_what_its_measurement_leaves_out() {
        let device = |have_bytes| Budget { memory: Memory::Device { name: "d".to_owned() }, have_bytes };
        let cgroup = Memory::Cgroup { limit_file: "memory.max".into(), limit_bytes: 100 };
        let budgets = vec![
            Budget { memory: Memory::Ram, have_bytes: 50 },
            Budget { memory: cgroup, have_bytes: 40 },
            device(10),
            device(20),
        ];
        let have = |held: &[Held]| left(budgets.clone(), held).iter().map(|it| it.have_bytes).collect::<Vec<_>>();
        assert_eq!(have(&[]), [50, 40, 10, 20]);
        assert_eq!(have(&[held(30, 5, 0)]), [20, 35, 10, 20]);
        assert_eq!(have(&[held(30, 5, 7), held(30, 5, 8)]), [0, 30, 0, 15]);
    }

    #[test]
    fn who_is_there_already_is_named_with_what_it_holds() {
        assert_eq!(beside(&[]), None);
        assert_eq!(beside(&[held(1, 1, 0)]).unwrap(), "beside `chat`, which holds 3.2 GB");
        assert_eq!(
            beside(&[held(1, 1, 1_000_000), held(1, 1, 0)]).unwrap(),
            "beside `chat`, which holds 3.2 GB and 1.0 MB of a GPU's memory, and `chat`, which holds 3.2 GB"
        );
    }
}
