//! The one wasmtime engine: what is closed, what is bounded, and where instances live.

use std::num::NonZeroUsize;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy};

use crate::limits::{
    BACKTRACE_FRAMES_MAX, CORE_INSTANCES_PER_COMPONENT, MEMORIES_PER_COMPONENT, POOL_MEMORY_RESIDENT_BYTES,
    TABLES_PER_COMPONENT, TRIAL_INSTANCES, WASM_STACK_BYTES_MAX,
};

/// How many instances there may be, and how large.
pub(crate) struct PoolSize {
    pub(crate) instances: u32,
    pub(crate) memory_bytes: usize,
    pub(crate) table_elements: usize,
}

/// An engine, with a pool of instances where the address space allows it. A process under `ulimit -v`, or on a machine
/// with a small address space, works without: each instance is mapped when it is made, which is slower.
pub(crate) fn build(size: &PoolSize, counts_instructions: bool) -> wasmtime::Result<Engine> {
    let mut config = base(counts_instructions);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(size)));
    match Engine::new(&config) {
        Ok(engine) => {
            tracing::debug!(instances = size.instances, memory_bytes = size.memory_bytes, "instances come from a pool");
            Ok(engine)
        }
        Err(error) => {
            tracing::warn!(
                "no pool of {} instances could be reserved, so each instance is mapped when it is made, which is \
                 slower: {error:#}; raise `ulimit -v` or lower the number of instances",
                size.instances
            );
            let mut config = base(counts_instructions);
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
            // The default of 4 GiB per memory is what did not fit.
            config.memory_reservation(size.memory_bytes as u64);
            config.memory_reservation_for_growth(0);
            Engine::new(&config)
        }
    }
}

fn base(counts_instructions: bool) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        // Async components make every call two to three times dearer, and nothing here uses them.
        .concurrency_support(false)
        .epoch_interruption(true)
        .consume_fuel(counts_instructions)
        .max_wasm_stack(WASM_STACK_BYTES_MAX)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .memory_init_cow(true)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX));
    config
}

fn pool(size: &PoolSize) -> PoolingAllocationConfig {
    let components = size.instances.saturating_add(TRIAL_INSTANCES);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(components)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .total_core_instances(components.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .total_memories(components.saturating_mul(MEMORIES_PER_COMPONENT))
        .total_tables(components.saturating_mul(TABLES_PER_COMPONENT))
        .total_stacks(0)
        .max_memory_size(size.memory_bytes)
        .table_elements(size.table_elements)
        .linear_memory_keep_resident(POOL_MEMORY_RESIDENT_BYTES)
        // Linux 6.7 finds the pages that an instance touched, instead of zeroing all of them.
        .pagemap_scan(Enabled::Auto);
    pool
}

#[cfg(test)]
mod tests {
    use wasmtime::component::{Component, Linker};
    use wasmtime::{Engine, Store};

    use super::{PoolSize, build};

    fn runs_a_memory(engine: &Engine) {
        let component = "(component (core module $m (memory 1)) (core instance (instantiate $m)))";
        let bytes = wat::parse_str(component).expect("the test's own component parses");
        let component = Component::new(engine, bytes).expect("it compiles");
        let mut store = Store::new(engine, ());
        store.set_epoch_deadline(1);
        Linker::new(engine).instantiate(&mut store, &component).expect("there is room for it");
    }

    #[test]
    fn instances_come_from_a_pool_where_it_fits_and_from_the_system_where_not() {
        let size = |instances| PoolSize { instances, memory_bytes: 128 << 20, table_elements: 20_000 };
        let pooled = build(&size(8), false).expect("eight fit");
        assert!(pooled.pooling_allocator_metrics().is_some());
        runs_a_memory(&pooled);

        // A million memories of 4 GiB are more than an address space.
        let mapped = build(&size(1_000_000), false).expect("no pool is no failure");
        assert!(mapped.pooling_allocator_metrics().is_none());
        runs_a_memory(&mapped);
    }
}
