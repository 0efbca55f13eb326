//! The whole service with the real network side, in a network namespace of its own.
