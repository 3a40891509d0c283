//! What of a configuration can change while the server runs.

use super::Said;

/// Declares which keys can change while the server runs and which cannot. All of them have to be named, or it does not compile.
macro_rules! keys {
    (live: $($live:ident),+; fixed: $($fixed:ident),+;) => {
        impl Said {
            /// The keys that say something else than in `before` and take a restart to count.
            pub(crate) fn needs_restart(&self, before: &Self) -> Vec<&'static str> {
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
    live: plugin_names, plugin_tables, trusted_keys, api_keys_file, tls_cert_file, tls_key_file, tls_client_ca_file, listen_insecure,
        allowed_hosts, caller_header, queue_max, queue_tokens_max, queue_wait_seconds, requests_per_minute_limit,
        request_timeout_seconds, stall_seconds;
    fixed: model, model_id, context_length, kv_cache_type, initial_load, threads, cpus, device, gpu_layers, main_gpu,
        backends_dir, models_dir, hf_endpoint, offline, ca_files, require_explicit_token, hf_token, token, huggingface_token,
        max_concurrency, prefix_cache_size, draft_max, warm_prompts, plugin_workers, plugin_watch, cache_dir, listen,
        probe_listen, socket_mode, allowed_uids, admin, drain_seconds, log_format, log;
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
}
