//! What of a configuration can change while the server runs.

use super::{ModelTable, ModelsSaid, Said};

/// Declares which keys can change while the server runs and which cannot. All of them have to be named, or it does not compile.
macro_rules! keys {
    ($said:ident: live: $($live:ident),+; fixed: $($fixed:ident),+;) => {
        impl $said {
            /// The fixed keys that say something else than in `before`.
            fn fixed_that_changed(&self, before: &Self) -> Vec<&'static str> {
                let Self { $($live: _,)+ $($fixed: _,)+ } = self;
                let mut changed = Vec::new();
                $(if self.$fixed != before.$fixed {
                    changed.push(stringify!($fixed));
                })+
                changed
            }
        }
    };
}

keys! {
    Said:
    // `models` is looked at table by table.
    live: plugin_names, plugin_tables, trusted_keys, api_keys_file, tls_cert_file, tls_key_file, tls_client_ca_file, listen_insecure,
        allowed_hosts, caller_header, queue_max, queue_tokens_max, queue_wait_seconds, requests_per_minute_limit,
        request_timeout_seconds, stall_seconds, models;
    fixed: model, model_id, context_length, kv_cache_type, initial_load, load, idle_unload_seconds, threads, cpus, device, gpu_layers,
        main_gpu, backends_dir, models_dir, hf_endpoint, offline, ca_files, require_explicit_token, hf_token, token,
        huggingface_token, max_concurrency, prefix_cache_size, draft_max, warm_prompts, connections_max, plugin_workers, plugin_watch,
        cache_dir, listen, probe_listen, socket_mode, allowed_uids, admin, drain_seconds, log_format, log;
}

keys! {
    ModelTable:
    live: queue_max, queue_tokens_max, queue_wait_seconds, requests_per_minute_limit, request_timeout_seconds, lines;
    fixed: id, from, load, idle_unload_seconds, context_length, kv_cache_type, threads, cpus, gpu_layers, main_gpu, max_concurrency,
        prefix_cache_size, draft_max, warm_prompts;
}

impl Said {
    /// The keys that say something else than in `before` and take a restart to count, those of `[[model]]` tables among them.
    pub(crate) fn needs_restart(&self, before: &Self) -> Vec<&'static str> {
        let mut changed = self.fixed_that_changed(before);
        for key in self.models.needs_restart(&before.models) {
            if !changed.contains(&key) {
                changed.push(key);
            }
        }
        changed
    }
}

impl ModelsSaid {
    fn needs_restart(&self, before: &Self) -> Vec<&'static str> {
        match (self, before) {
            (Self::Nothing, Self::Nothing) => Vec::new(),
            (Self::One(now), Self::One(before)) if now == before => Vec::new(),
            (Self::Several(now), Self::Several(before)) if now.len() == before.len() => {
                now.iter().zip(before).flat_map(|(now, before)| now.fixed_that_changed(before)).collect()
            }
            _ => vec!["model"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_a_restart_is_named() {
        let before = Said { queue_max: Some(1), max_concurrency: Some(1), ..Said::default() };
        assert!(before.needs_restart(&before).is_empty());
        let live = Said { queue_max: Some(2), api_keys_file: Some("/k".into()), ..before.clone() };
        assert!(live.needs_restart(&before).is_empty());
        let fixed = Said { max_concurrency: Some(2), hf_token: Some("hf_x".into()), ..live };
        assert_eq!(fixed.needs_restart(&before), ["hf_token", "max_concurrency"]);
        assert_eq!(before.needs_restart(&fixed), ["hf_token", "max_concurrency"]);
    }

    #[test]
    fn of_a_model_of_several_only_the_limits_change() {
        let said = |tables: Vec<ModelTable>| Said { models: ModelsSaid::Several(tables), ..Said::default() };
        let table = |id: &str| ModelTable { id: Some(id.to_owned()), ..ModelTable::default() };
        let before = said(vec![table("a"), table("b")]);
        let live = said(vec![table("a"), ModelTable { queue_max: Some(1), queue_wait_seconds: Some(2), ..table("b") }]);
        assert!(live.needs_restart(&before).is_empty());
        let slots = |id: &str| ModelTable { max_concurrency: Some(2), ..table(id) };
        assert_eq!(said(vec![slots("a"), slots("b")]).needs_restart(&before), ["max_concurrency"]);
        assert_eq!(said(vec![table("b"), table("a")]).needs_restart(&before), ["id"]);
        assert_eq!(said(vec![table("a")]).needs_restart(&before), ["model"]);
        let one = Said { models: ModelsSaid::One("file:/a.gguf".to_owned()), ..Said::default() };
        assert!(one.needs_restart(&one).is_empty());
        assert_eq!(one.needs_restart(&before), ["model"]);
    }
}
