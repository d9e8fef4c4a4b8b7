//! Clients that never wait longer than a test may.
