//! The JSON that clients and this server exchange.
