//! A hub for tests: two origins on loopback, as faithful as the real one and as faulty as a test asks.
