//! # Config: file → raw → compiled (theory statement to be written by the room's builder)

pub mod settings;
