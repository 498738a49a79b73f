//! Milena: messages.
