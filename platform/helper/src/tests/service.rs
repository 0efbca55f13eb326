//! The calls of the local API against the whole service.
