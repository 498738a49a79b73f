//! Milena: client.
