//! What it does with the host's `kv` and `metrics`: its configuration says it, call by call, and the answers become
//! notes. `{"script": "add store key 2; get store key"}`.

use crate::act::config;
use crate::bindings::outrigger::plugin::types::Annotations;
use crate::bindings::outrigger::plugin::{kv, metrics};

/// Makes the calls; each with its answer.
pub(crate) fn run() -> Annotations {
    let script = config("script").unwrap_or_default();
    let lines = script.split(';').map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| (line.to_owned(), answer(&line.split(' ').collect::<Vec<_>>()))).collect()
}

fn answer(words: &[&str]) -> String {
    match *words {
        ["get", store, key] => {
            let found =
                kv::get(store, &text(key)).map(|found| found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
            format!("{found:?}")
        }
        ["set", store, key, value] => format!("{:?}", kv::set(store, &text(key), text(value).as_bytes(), None)),
        ["set", store, key, value, ttl] => {
            format!("{:?}", kv::set(store, &text(key), text(value).as_bytes(), Some(number(ttl))))
        }
        ["delete", store, key] => format!("{:?}", kv::delete(store, &text(key))),
        ["add", store, key, delta] => format!("{:?}", kv::add(store, &text(key), number(delta), None)),
        ["add", store, key, delta, ttl] => {
            format!("{:?}", kv::add(store, &text(key), number(delta), Some(number(ttl))))
        }
        // As often as it says.
        ["add-many", store, key, times] => {
            (0..number::<u32>(times)).for_each(|_| drop(kv::add(store, key, 1, None)));
            String::new()
        }
        // Keys until the store is full: how many fitted.
        ["fill", store] => {
            let fits = |key: &u32| kv::set(store, &key.to_string(), b"value", None).is_ok();
            (0..5_000).take_while(fits).count().to_string()
        }
        ["count", name, delta, ref labels @ ..] => {
            metrics::add(name, number(delta), &pairs(labels));
            String::new()
        }
        ["observe", name, value, ref labels @ ..] => {
            metrics::observe(name, number(value), &pairs(labels));
            String::new()
        }
        // A label with so many values.
        ["series", name, label, count] => {
            let value = |value: u32| vec![(label.to_owned(), format!("value {value}"))];
            (0..number::<u32>(count)).for_each(|it| metrics::add(name, 1.0, &value(it)));
            String::new()
        }
        _ => "not understood".to_owned(),
    }
}

/// A word, or `x*1000` for so many of it.
fn text(word: &str) -> String {
    match word.split_once('*') {
        Some((what, times)) => what.repeat(number(times)),
        None => word.to_owned(),
    }
}

fn number<T: std::str::FromStr + Default>(word: &str) -> T {
    word.parse().unwrap_or_default()
}

fn pairs(words: &[&str]) -> Vec<(String, String)> {
    words.iter().filter_map(|word| word.split_once('=')).map(|(name, value)| (name.to_owned(), text(value))).collect()
}
