//! Logs, metric families and their exposition.
